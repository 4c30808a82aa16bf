"""Generates docs/reference/metrics.md: every metric of every objective, from the table of objectives."""

# ruff: noqa: E501 (a table cell must stay on one line)

from collections.abc import Iterator

from evertune.objectives import TABLE, load_objective

HEAD = """# Metrics

A recipe's `evaluation.metric` names the metric of early stopping and of the gate:

```yaml
evaluation:
  metric: f1_macro
  gate: {minimum: {f1_macro: 0.8, accuracy: 0.8}}
```

Without it, the objective's default metric counts. Every metric can have a `minimum`; for a metric that falls, such as
`ece`, the `minimum` is the largest value that is accepted.

**Direction**: ↑ means higher is better, ↓ means lower is better.

**Unit**: `share` metrics are shares of correct rows, words or tokens, or means of such shares. The gate reports their
differences in percentage points. The gate reports the others in the metric's own unit, and margins such as
`noninferior_on` count in that unit too.

A class without a row among the test rows, and without a prediction, counts nowhere. This page is generated from the code.
"""

# (metric, objective) -> (definition, its name elsewhere). The objective None stands for all objectives without an
# entry of their own.
MEANINGS = {
    ("accuracy", None): ("Share of rows with the right label.", "`accuracy_score`"),
    ("accuracy", "token-classification"): ("Share of words with the right tag.", "`accuracy_score` over words"),
    ("accuracy", "multi-label"): (
        "Share of rows with exactly the right set of labels.",
        "`accuracy_score` (subset accuracy)",
    ),
    ("accuracy", "masked-lm"): ("Share of hidden tokens that the model finds.", "masked-token accuracy"),
    ("f1_macro", None): ("F1 of each label, then their plain mean.", "`f1_score(average='macro')`"),
    ("f1_micro", None): (
        "F1 over all decisions together. With one label a row it equals accuracy.",
        "`f1_score(average='micro')`",
    ),
    ("f1_weighted", None): ("F1 of each label, weighted by its number of rows.", "`f1_score(average='weighted')`"),
    ("precision_macro", None): (
        "Precision of each label, then their plain mean.",
        "`precision_score(average='macro')`",
    ),
    ("recall_macro", None): ("Recall of each label, then their plain mean.", "`recall_score(average='macro')`"),
    ("precision_micro", None): ("Share of the predicted labels that are right.", "`precision_score(average='micro')`"),
    ("recall_micro", None): ("Share of the true labels that are predicted.", "`recall_score(average='micro')`"),
    ("mean_average_precision", None): (
        "Average precision of ranking the rows by each label's score, then the mean over labels. Scores are binned; rows of one bin are tied.",
        "`average_precision_score(average='macro')`; Everingham et al. 2010",
    ),
    ("ece", None): (
        "Expected calibration error: mean gap between confidence and accuracy, over 15 bins of confidence.",
        "Guo et al. 2017",
    ),
    ("entity_f1", None): ("F1 over whole entities: span and type must both match.", "conlleval, `seqeval`"),
    ("entity_precision", None): ("Share of the predicted entities that are right.", "conlleval, `seqeval`"),
    ("entity_recall", None): ("Share of the true entities that are found.", "conlleval, `seqeval`"),
    ("token_f1_weighted", None): (
        "F1 of each tag over words, weighted by its number of words.",
        "`f1_score(average='weighted')`",
    ),
    ("token_f1_macro", None): ("F1 of each tag over words, then their plain mean.", "`f1_score(average='macro')`"),
    ("token_f1_micro", None): ("F1 over all words together; equals word accuracy.", "`f1_score(average='micro')`"),
    ("spearman", None): (
        "Correlation of the ranks of true and predicted numbers; 0 against a constant.",
        "`scipy.stats.spearmanr`",
    ),
    ("pearson", None): (
        "Linear correlation of true and predicted numbers; 0 against a constant.",
        "`scipy.stats.pearsonr`",
    ),
    ("mse", None): ("Mean squared error.", "`mean_squared_error`"),
    ("mse", "image-tokens"): ("Mean squared error of the pixels of the rebuilt picture.", "`mean_squared_error`"),
    ("mae", None): ("Mean absolute error.", "`mean_absolute_error`"),
    ("f1", None): (
        "Overlap of the words of the answer with the true answer, without case, articles and punctuation.",
        "SQuAD; Rajpurkar et al. 2016",
    ),
    ("exact_match", None): ("Share of texts that equal the target, blanks aside.", "exact match"),
    ("exact_match", "question-answering"): (
        "Share of answers whose words all match, without case, articles and punctuation.",
        "SQuAD; Rajpurkar et al. 2016",
    ),
    ("recall_at_1", None): ("Share of rows whose nearest other test row has the same label.", "Recall@1"),
    ("recall_at_5", None): ("Share of rows with the same label among the 5 nearest other test rows.", "Recall@5"),
    ("recall_at_10", None): ("Share of rows with the same label among the 10 nearest other test rows.", "Recall@10"),
    ("recall_at_1", "text-to-image"): (
        "Share of drawn pictures to which the true picture is the nearest of all test rows.",
        "Recall@1",
    ),
    ("recall_at_5", "text-to-image"): (
        "Share of drawn pictures with the true picture among the 5 nearest.",
        "Recall@5",
    ),
    ("bits_per_byte", None): (
        "How unlikely the model finds the true texts, their ends included, by byte of UTF-8. Comparable across tokenizers.",
        "bits per byte",
    ),
    ("perplexity", None): (
        "Exponential of the mean loss by token. Comparable only with the same tokenizer.",
        "perplexity",
    ),
    ("perplexity", "masked-lm"): ("Exponential of the mean loss by hidden token.", "masked-token perplexity"),
    ("rouge_l", None): ("F1 by the longest common subsequence of words.", "ROUGE-L; Lin 2004"),
    ("chrf", None): (
        "F-score of character n-grams over all rows, from 0 to 1.",
        "`sacrebleu.corpus_chrf`; Popović 2015",
    ),
    ("bleu", None): (
        "Precision of word n-grams over all rows with a brevity penalty, from 0 to 1; 0 where no answer has four words.",
        "`sacrebleu.corpus_bleu`; Papineni et al. 2002",
    ),
    ("distinct_1", None): ("Share of different words in a written text.", "distinct-1; Li et al. 2016"),
    ("distinct_2", None): ("Share of different pairs of words in a written text.", "distinct-2; Li et al. 2016"),
    ("repetition", None): ("Share of passages of four words that repeat an earlier one.", "1 less distinct-4"),
    ("psnr", None): ("Peak signal-to-noise ratio of the rebuilt pictures, in decibels, from the mean error.", "PSNR"),
    ("code_perplexity", "image-tokens"): (
        "Number of codes that would be in use if all were used alike.",
        "codebook perplexity",
    ),
    ("code_perplexity", "text-to-image"): (
        "Exponential of the mean loss by code of the true picture, given its caption.",
        "perplexity",
    ),
    ("frechet_distance", None): (
        "Distance of true and drawn pictures in the logits of the recipe's classifier. Compares models of one recipe only.",
        "as FID; Heusel et al. 2017",
    ),
    ("inception_score", None): (
        "How clear and how varied the classifier finds the drawn pictures. Compares models of one recipe only.",
        "Inception score; Salimans et al. 2016",
    ),
}


def page() -> str:
    """Return the page as Markdown.

    Raises:
        KeyError: an objective has a metric that `MEANINGS` does not define.
    """
    return "\n".join([HEAD, *render_defaults(), *render_definitions()]) + "\n"


def render_defaults() -> Iterator[str]:
    """Yield the lines of the table of objectives and their metrics."""
    yield "## By objective\n"
    yield "| objective | default metric | others |\n|---|---|---|"
    for name in TABLE:
        default_metric, *other_metrics = load_objective(name).METRICS
        quoted_metrics = ", ".join(f"`{metric}`" for metric in other_metrics)
        yield f"| [`{name}`](objectives.md) | `{default_metric}` | {quoted_metrics} |"
    yield ""


def render_definitions() -> Iterator[str]:
    """Yield the lines of the table of metrics and their definitions."""
    yield "## Definitions\n"
    yield "| metric | objectives | direction | unit | definition | elsewhere |\n|---|---|---|---|---|---|"
    for (metric, meaning), names in group_objectives().items():
        definition, name_elsewhere = meaning
        objective = load_objective(names[0])
        direction = "↓" if metric in objective.LOWER_IS_BETTER else "↑"
        unit = "own" if metric in objective.ABSOLUTE_METRICS else "share"
        quoted_names = ", ".join(f"`{name}`" for name in names)
        yield f"| `{metric}` | {quoted_names} | {direction} | {unit} | {definition} | {name_elsewhere} |"


def group_objectives() -> dict[tuple[str, tuple[str, str]], list[str]]:
    """Return the names of the objectives by metric and its meaning: one metric may mean different things."""
    groups: dict[tuple[str, tuple[str, str]], list[str]] = {}
    for name in TABLE:
        for metric in load_objective(name).METRICS:
            meaning = MEANINGS.get((metric, name)) or MEANINGS[metric, None]
            groups.setdefault((metric, meaning), []).append(name)
    return groups
