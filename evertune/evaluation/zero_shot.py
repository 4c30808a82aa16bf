"""The zero-shot baseline: what the base model can do without any training."""

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.evaluation import label_prompting
from evertune.models import base as base_models
from evertune.objectives import extract_cells, load_objective, text_classification
from evertune.runtime.home import home_of
from evertune.runtime.precision import resolve_precision
from evertune.serving.portable.batching import by_length

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

ROWS = 500  # test rows, evenly spaced: an interval of at most 4 points
TOKENS = 8192  # of a batch
LONGEST = 256  # most tokens of a row
HOW = {  # by whether a row has several labels, and whether the base model is a decoder
    (False, False): "the nearest label by its {}",
    (False, True): "prompted, the likeliest label by its {}",
    (True, False): "rows ranked by similarity to each label's {}",
    (True, True): "prompted, rows ranked by the likelihood of each label's {}",
}


def supports_baseline(recipe: "Recipe") -> bool:
    """Whether a row is one text with labels whose names describe them."""
    inputs, target = _column_kinds(recipe)
    is_labeled = bool(load_objective(recipe.objective.type).LABELED)
    return is_labeled and inputs == ["string"] and target in ("string", "labels")


def explain_missing_baseline(recipe: "Recipe") -> str | None:
    """Explain why there is no baseline; None if there is one, or the objective has no labels."""
    if supports_baseline(recipe) or not load_objective(recipe.objective.type).LABELED:
        return None
    inputs, _ = _column_kinds(recipe)
    if "image" in inputs:
        return "images cannot be compared with the words of a label"
    if len(inputs) > 1:
        return "the label of a pair describes a relation between two texts, which similarity of words does not show"
    return "the label of a word depends on its context, which the label's name does not describe"


def _column_kinds(recipe: "Recipe") -> tuple[list[str], str]:
    objective = load_objective(recipe.objective.type)
    return [objective.COLUMNS[role] for role in objective.INPUTS], objective.COLUMNS[objective.TARGET]


def measure_baseline(recipe: "Recipe", test: "pa.Table", labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the metrics of the best-fitting label, without any training.

    A decoder is prompted (see `label_prompting`). With another base model, the label whose words are nearest to the
    text fits best, by the cosine of mean token states (Yin et al. 2019). If a row may have several labels, rows are
    ranked for each label instead, because a threshold would have to be learned from labels.

    Args:
        recipe: the model's recipe.
        test: the test rows.
        labels: all labels.
    Raises:
        ConfigError: there is no base model.
        OSError: its weights cannot be loaded.
        ValueError: likewise.
    """
    start = time.perf_counter()
    objective = load_objective(recipe.objective.type)
    model_path = base_models.locate_base(recipe)
    descriptions = getattr(recipe.objective, "descriptions", {})
    label_texts = [descriptions.get(label) or label.replace("_", " ").replace("-", " ") for label in labels]
    is_decoder = label_prompting.is_decoder(model_path)
    rows = _spread_rows(test, ROWS)
    if is_decoder:
        texts = extract_cells(rows, objective.INPUTS)
        max_tokens = _max_tokens(recipe)
        rows = _spread_rows(test, label_prompting.count_affordable_rows(model_path, texts, label_texts, max_tokens))
    inputs = extract_cells(rows, objective.INPUTS)
    targets = extract_cells(rows, [objective.TARGET])
    if is_decoder:
        label_scores = _prompt_decoder(recipe, model_path, inputs, label_texts)
    else:
        label_scores = _compare_embeddings(recipe, model_path, inputs, label_texts)
    has_several_labels = _column_kinds(recipe)[1] == "labels"
    described_by = "description" if descriptions else "name"
    score = _score_ranking if has_several_labels else _score_best_label
    return {
        "rows": len(rows),
        "how": HOW[has_several_labels, is_decoder].format(described_by),
        "metrics": score(label_scores, targets, labels),
        "seconds": time.perf_counter() - start,
    }


def _score_best_label(label_scores: Any, targets: list[str], labels: tuple[str, ...]) -> dict[str, float]:
    """Return the metrics of the best-fitting label."""
    predictions: list[text_classification.Prediction] = [
        {"label": labels[row.argmax()], "score": float(np.clip(row.max(), 0, 1))} for row in label_scores
    ]
    names = list(dict.fromkeys([*labels, *targets]))
    sums = text_classification.compute_statistics(targets, predictions, names).sum(0, dtype="float64")
    metrics = text_classification.compute_metrics(sums, names)
    return {name: float(metrics[name]) for name in ("accuracy", "f1_macro")}


def _score_ranking(label_scores: Any, targets: list[list[str]], labels: tuple[str, ...]) -> dict[str, float]:
    """Return the mean average precision: how high the rows of each label are ranked."""
    precisions = []
    for index, label in enumerate(labels):
        order = np.argsort(-label_scores[:, index], kind="stable")
        is_right = np.array([label in targets[row] for row in order])
        if is_right.any():
            precisions.append((is_right.cumsum() / np.arange(1, len(is_right) + 1))[is_right].mean())
    return {"mean_average_precision": float(np.mean(precisions)) if precisions else 0.0}


def _spread_rows(rows: "pa.Table", count: int) -> "pa.Table":
    return rows.take(np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)))


def _max_tokens(recipe: "Recipe") -> int:
    return min(LONGEST, int(recipe.objective.max_length))


def _prompt_decoder(recipe: "Recipe", model_path: str, texts: list[str], label_texts: list[str]) -> Any:
    """Return the relative likelihood of each label by the decoder, (texts, labels)."""
    precision = resolve_precision(recipe.evaluation.precision, home_of(recipe).root / "machine.json")
    likelihoods = np.exp(label_prompting.score_labels(model_path, texts, label_texts, _max_tokens(recipe), precision))
    return likelihoods / likelihoods.sum(1, keepdims=True)


def _compare_embeddings(recipe: "Recipe", model_path: str, texts: list[str], label_texts: list[str]) -> Any:
    """Return the cosine of each text with each label's words, (texts, labels)."""
    vectors = _embed_texts(model_path, [*texts, *label_texts], _max_tokens(recipe))
    return vectors[: len(texts)] @ vectors[len(texts) :].T


def _embed_texts(model_path: str, texts: list[str], max_tokens: int) -> Any:
    """Return unit vectors (texts, size)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
    ids = tokenizer(texts, truncation=True, max_length=max_tokens, return_attention_mask=False)["input_ids"]
    model = AutoModel.from_pretrained(model_path, dtype=torch.float32, trust_remote_code=False).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    vectors: list[Any] = [None] * len(texts)
    with torch.inference_mode():
        for indices in by_length([len(token_ids) for token_ids in ids], TOKENS):
            rows: list[text_classification.Example] = [{"input_ids": ids[index]} for index in indices]
            batch = text_classification.collate(rows, tokenizer.pad_token_id or 0)
            inputs = {name: value.to(model.device) for name, value in batch.items()}
            states = model(**inputs).last_hidden_state
            real = inputs["attention_mask"].unsqueeze(-1)
            means = torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=-1)
            for index, mean in zip(indices, means.cpu().numpy(), strict=True):
                vectors[index] = mean
    return np.stack(vectors)
