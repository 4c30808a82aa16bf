"""Token classification: predicts a tag for each word, such as named entities in BIO tags."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .shared import padding
from .shared.types import Batch, Columns, EncodedRow, Floats, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores
    from evertune.objectives.shared.scoring import ClassSummary

COLUMNS = {"tokens": "strings", "tags": "strings"}
INPUTS = ("tokens",)
TARGET = "tags"
LABELED = True
ENCODES_TARGET = False
OUTPUTS = {"tags": "strings", "scores": "numbers"}
METRICS = (
    "entity_f1",
    "entity_precision",
    "entity_recall",
    "token_f1_weighted",
    "token_f1_macro",
    "token_f1_micro",
    "accuracy",
    "ece",
)
LOWER_IS_BETTER = ("ece",)
PREFIXES = ("B", "I", "E", "S", "L", "U")
Part = tuple[str, str | None]  # a tag's prefix and type; the type of `O` is None
OUTSIDE: Part = ("I", None)
IGNORED = -100  # label id that the loss ignores: sub-words that carry no tag, and padding


class Options(BaseModel):
    """A tag for each word. Columns: `tokens`, `tags`, lists of equal length; IOB1, IOB2, BIOES or plain tags."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["token-classification"] = Field("token-classification", description="Name of the objective.")
    max_length: int = Field(256, ge=4, description="Maximum sub-words of a sentence; words beyond are tagged `O`.")
    tagged: Literal["first", "last"] = Field(
        "first", description="Which sub-word of a word is tagged; use `last` for a decoder."
    )


class Example(TokenExample):
    """A sentence, with the position of each word's tagged sub-word, and an id for every sub-word."""

    word_starts: Ids
    labels: NotRequired[list[int]]


class Prediction(TypedDict):
    """The tag of each word, and its probability."""

    tags: list[str]
    scores: list[float]


class Conventions(TypedDict):
    """What the tags of the train rows have in common."""

    openers: list[str]


def encode(inputs: Sequence[Sequence[str]], tokenizer: "PreTrainedTokenizerBase", options: Options) -> Columns:
    """Encode sentences as token ids, with the position of each word's tagged sub-word (-1: cut off or empty)."""
    is_byte_level = tokenizer(["a", "b"], is_split_into_words=True)["input_ids"] != tokenizer("a b")["input_ids"]
    gap = " " if is_byte_level else ""  # byte-level tokenizers would join the words
    room = options.max_length
    spaced = [[gap * bool(number and word) + word for number, word in enumerate(words)] for words in inputs]
    batch = tokenizer(spaced, is_split_into_words=True, verbose=False)
    encoded: dict[str, list[int | list[int]]] = {"input_ids": [], "word_starts": [], "full_length": []}
    for row, words in enumerate(inputs):
        ids = batch["input_ids"][row]
        word_ids = batch.word_ids(row)
        limit = room - (len(ids) > room and word_ids[-1] is None)  # a cut sentence keeps its end token
        positions = [(position, word) for position, word in enumerate(word_ids[:limit]) if word is not None]
        ordered = positions if options.tagged == "last" else positions[::-1]
        word_starts = dict.fromkeys(range(len(words)), -1) | {word: position for position, word in ordered}
        encoded["input_ids"].append(ids if len(ids) <= room else ids[:limit] + ids[len(ids) + limit - room :])
        encoded["word_starts"].append(list(word_starts.values()))
        encoded["full_length"].append(len(ids))
    return encoded


def list_labels(targets: Sequence[Sequence[str]]) -> list[str]:
    """List the tag of each word."""
    return [tag for tags in targets for tag in tags]


def find_conventions(targets: Sequence[Sequence[str]]) -> Conventions:
    """Find `openers`: inside tags that also open an entity in these targets, as a first `I-X` of IOB1 does."""
    parts = parse_grammar(set(list_labels(targets)))
    begins = _find_begun_types(parts)
    pairs = {pair for tags in targets for pair in itertools.pairwise(["O", *tags])}
    openers = {tag for before, tag in pairs if not _may_follow(parts.get(before, OUTSIDE), parts[tag], begins)}
    return {"openers": sorted(openers)}


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head of one output per tag, in fp32."""
    import torch
    from transformers import AutoModelForTokenClassification

    names = dict(enumerate(labels))
    return AutoModelForTokenClassification.from_pretrained(
        path,
        num_labels=len(labels),
        id2label=names,
        label2id={label: i for i, label in names.items()},
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        trust_remote_code=False,
    )


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(path, dtype=torch.float32, trust_remote_code=False)


def make_example(encoded: EncodedRow, target: Sequence[str] | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one sentence; without a target for serving."""
    row: Example = {"input_ids": encoded["input_ids"], "word_starts": encoded["word_starts"]}
    if target is None:
        return row
    labels = [IGNORED] * len(row["input_ids"])
    for start, tag in zip(encoded["word_starts"], target, strict=True):
        if start >= 0:
            labels[start] = label_ids[tag]
    return {**row, "labels": labels}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad rows to the longest: `input_ids`, `attention_mask` and `labels`, all (rows, length)."""
    batch = padding.pad_inputs(examples, pad_id)
    if "labels" in examples[0]:
        batch["labels"] = padding.pad_rows([row["labels"] for row in examples], IGNORED)
    return batch


def compute_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
) -> "torch.Tensor":
    """Compute cross-entropy, summed over the words."""
    import torch

    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        weight=weights,
        reduction="sum",
        label_smoothing=smoothing,
        ignore_index=IGNORED,
    )


def decode(
    logits: "torch.Tensor", examples: Sequence[Example], names: Sequence[str], conventions: Mapping[str, object]
) -> list[Prediction]:
    """Predict the likeliest well-formed tags of each sentence, and their probabilities; a word cut off is `O` with 0.

    In a well-formed sequence no entity starts with an inside tag (BIO, BIOES), unless that tag opened one in the train
    rows. If the likeliest tags of the words are well-formed, they are used; otherwise the best sequence by Viterbi.
    """
    counts = [len(item["word_starts"]) for item in examples]
    starts = np.fromiter((start for item in examples for start in item["word_starts"]), np.int64, sum(counts))
    seen = np.flatnonzero(starts >= 0)
    rows = np.repeat(np.arange(len(examples)), counts)[seen]
    likely = logits.float().softmax(-1).cpu().numpy()[rows, starts[seen]]
    openers = cast(Collection[str], conventions.get("openers", ()))
    best = _find_best_tags(likely, rows, *_find_transitions(names, openers))
    tags = np.full(len(starts), "O" if "O" in names else names[0], dtype=object)
    scores = np.zeros(len(starts))
    tags[seen] = np.array(names, dtype=object)[best]
    scores[seen] = likely[range(len(best)), best]
    parts = (np.split(values, np.cumsum(counts)[:-1]) for values in (tags, scores))
    return [
        {"tags": row_tags.tolist(), "scores": row_scores.tolist()} for row_tags, row_scores in zip(*parts, strict=True)
    ]


def _find_best_tags(
    likely: NDArray[np.float32], rows: NDArray[np.int64], allowed: NDArray[np.bool_], first: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Best allowed tags of all sentences, as indices, from probabilities (words, tags) and each word's sentence."""
    best: NDArray[np.int64] = likely.argmax(-1)
    formed = np.where(np.diff(rows, prepend=-1) > 0, first[best], allowed[np.roll(best, 1), best])
    for row in np.unique(rows[~formed]):
        words = slice(*np.searchsorted(rows, [row, row + 1]))
        best[words] = _viterbi(likely[words], allowed, first)
    return best


def _viterbi(words: NDArray[np.float32], allowed: NDArray[np.bool_], first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of the best allowed tags of one sentence, from probabilities (words, tags)."""
    emitted = np.log(np.maximum(words, 1e-30))
    barrier = np.where(allowed, 0.0, -np.inf)
    total = np.where(first, emitted[0], -np.inf)
    back = []
    for scores in emitted[1:]:
        paths = total[:, None] + barrier
        back.append(paths.argmax(0))
        total = paths.max(0) + scores
    path = [int(total.argmax())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])


def _find_transitions(names: Sequence[str], openers: Collection[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tag may follow which, (tags, tags), and which may come first, (tags,); all, where no tag begins a type.

    The last word may leave an entity open, because a sentence can be cut.
    """
    parts = parse_grammar(names)
    begins = _find_begun_types(parts)

    def may_follow(before: Part, name: str) -> bool:
        return name in openers or _may_follow(before, parts[name], begins)

    allowed = np.array([[may_follow(parts[before], after) for after in names] for before in names])
    return allowed, np.array([may_follow(OUTSIDE, name) for name in names])


def _find_begun_types(parts: Mapping[str, Part]) -> set[str | None]:
    return {kind for prefix, kind in parts.values() if prefix in {"B", "S", "U"}}


def _may_follow(before: Part, after: Part, begins: Collection[str | None]) -> bool:
    inside = after[0] in {"I", "E", "L"} and after[1] in begins
    return not inside or (before[1] == after[1] and before[0] in {"B", "I"})


def find_entities(tags: Sequence[str], parts: Mapping[str, Part]) -> Iterator[tuple[str, int, int]]:
    """Yield the spans (type, first word, word after the last) of BIO, BIOES or plain tags.

    As in the CoNLL evaluation (Tjong Kim Sang & De Meulder 2003, `conlleval`) an `I-X` that follows no X starts a span.
    A run of one plain tag, without a prefix, is a span; `O` is not a tag.

    Args:
        tags: of one sentence.
        parts: `parse_grammar` of all tags.
    """
    start = 0
    kind = None
    for position, tag in enumerate([*tags, "O"]):
        prefix, found_kind = parts.get(tag, OUTSIDE)
        goes_on = found_kind is not None and found_kind == kind and prefix not in {"B", "S", "U"}
        if kind is not None and not goes_on:
            yield kind, start, position
        if not goes_on:
            start = position
            kind = found_kind
        if prefix in {"E", "S", "L", "U"} and kind is not None:
            yield kind, start, position + 1
            kind = None


def parse_grammar(names: Collection[str]) -> dict[str, Part]:
    """Return prefix and type of each tag; a plain tag has the prefix I.

    E, S, L and U count as prefixes only if all tags have one and some type continues after its B; E and L only for a
    type that has a B. Among other tags `E-MAIL` is a plain tag.
    """
    split = {name: (name[0], name[2:]) for name in names if name[:1] in PREFIXES and name[1:2] == "-"}
    begun_types = {kind for prefix, kind in split.values() if prefix == "B"}
    goes_on = any(prefix in {"I", "E", "L"} and kind in begun_types for prefix, kind in split.values())
    ends = goes_on and all(name in split or name == "O" for name in names)

    def parse_tag(name: str) -> Part:
        prefix, kind = split.get(name, ("I", None if name == "O" else name))
        is_plain = (prefix in {"E", "L"} and kind not in begun_types) or (prefix in {"E", "S", "L", "U"} and not ends)
        return ("I", name) if is_plain else (prefix, kind)

    return {name: parse_tag(name) for name in names}


def _entity_types(names: Sequence[str]) -> list[str]:
    return sorted({kind for _, kind in parse_grammar(names).values() if kind})


def predict_majority(targets: Sequence[Sequence[str]]) -> list[Prediction]:
    """Predict the commonest tag for every word, with score 1."""
    top = Counter(list_labels(targets)).most_common(1)[0][0]
    return [{"tags": [top] * len(tags), "scores": [1.0] * len(tags)} for tags in targets]


def compute_statistics(
    targets: Sequence[Sequence[str]], predictions: Sequence[Prediction], names: Sequence[str]
) -> NDArray[np.float32]:
    """Return counts of each sentence: words by tag, calibration bins, entities by type in order of `_entity_types`."""
    from evertune.objectives.shared import scoring

    rows = np.repeat(np.arange(len(targets)), [len(tags) for tags in targets])
    guess = [tag for prediction in predictions for tag in prediction["tags"]]
    score = np.array([score for prediction in predictions for score in prediction["scores"]], dtype=np.float64)
    words = scoring.count_outcomes(rows, list_labels(targets), guess, score, names, len(targets))
    parts = parse_grammar(names)
    column = {kind: i for i, kind in enumerate(_entity_types(names))}
    spans = np.zeros((len(targets), 3 * len(column)), dtype=np.float32)
    for row, (tags, prediction) in enumerate(zip(targets, predictions, strict=True)):
        true = set(find_entities(tags, parts))
        named = set(find_entities(prediction["tags"], parts))
        for part, group in enumerate((true, named, true & named)):
            for kind, _, _ in group:
                spans[row, part * len(column) + column[kind]] += 1
    return np.concatenate([words, spans], axis=1)


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., m) -> (...).

    Entity metrics are micro averages.
    """
    from evertune.objectives.shared import scoring

    words = scoring.compute_class_metrics(sums, len(names))
    kinds = len(_entity_types(names))
    start = sums.shape[-1] - 3 * kinds
    true, named, hit = (sums[..., start + part * kinds : start + (part + 1) * kinds].sum(-1) for part in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "entity_f1": np.nan_to_num(2 * hit / (true + named)),
            "entity_precision": np.nan_to_num(hit / named),
            "entity_recall": np.nan_to_num(hit / true),
            **{f"token_{name}": words[name] for name in ("f1_weighted", "f1_macro", "f1_micro")},
            "accuracy": words["accuracy"],
            "ece": words["ece"],
        }


def summarize_classes(sums: Floats, names: Sequence[str]) -> "ClassSummary":
    """Summarize entities by type, words by tag, and the reliability curve."""
    from evertune.objectives.shared import scoring

    return {
        "per_class": scoring.summarize_classes(sums[len(sums) - 3 * len(_entity_types(names)) :], _entity_types(names)),
        "per_tag": scoring.summarize_classes(sums, names),
        "calibration": scoring.compute_reliability(sums, len(names)),
    }


def pair_labels(targets: Sequence[Sequence[str]], predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """Pair true and predicted tags, for a confusion matrix."""
    return list_labels(targets), [tag for prediction in predictions for tag in prediction["tags"]]


def score_outputs(
    logits: "torch.Tensor",
    examples: Sequence[Example],
    targets: Sequence[Sequence[str]],
    names: Sequence[str],
    classes: int,
) -> "RowScores":
    """Score each sentence by the mean over its words of the probability of their tags; a word cut off has any tag."""
    from evertune.objectives.shared import proper_scores

    counts = [len(item["word_starts"]) for item in examples]
    starts = np.fromiter((start for item in examples for start in item["word_starts"]), np.int64, sum(counts))
    rows = np.repeat(np.arange(len(examples)), counts)
    word_logits = logits.double().cpu().numpy()[rows, np.maximum(starts, 0)]
    word_logits[starts < 0] = 0.0
    tags = [tag for target in targets for tag in target]
    return proper_scores.average_items(*proper_scores.score_classes(word_logits, tags, names, classes), counts)
