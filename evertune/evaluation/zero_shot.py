"""What the base model can do without any training: the baseline that every tuned one is seen against."""

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.evaluation import label_prompting as label_prompting
from evertune.models import base as base_models
from evertune.objectives import extract_cells, load_objective, text_classification
from evertune.runtime.home import home_of
from evertune.runtime.precision import resolve_precision
from evertune.serving.portable.batching import by_length

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

ROWS = 500  # test rows, evenly spaced: an interval of 4 points at most
TOKENS = 8192  # of a batch
LONGEST = 256  # tokens of a row
HOW = {  # by whether a row has several labels, and whether a decoder is asked
    (False, False): "the nearest label by its {}",
    (False, True): "prompted, the likeliest label by its {}",
    (True, False): "rows ranked by the nearness of each label's {}",
    (True, True): "prompted, rows ranked by the likelihood of each label's {}",
}


def supports_baseline(recipe: "Recipe") -> bool:
    """Whether a row is one text with labels, whose own words tell what they mean."""
    inputs, target = _column_kinds(recipe)
    return (
        bool(load_objective(recipe.objective.type).LABELED) and inputs == ["string"] and target in ("string", "labels")
    )


def explain_missing_baseline(recipe: "Recipe") -> str | None:
    """Why there is no baseline for labels, in words; None where there is one, or there are no labels."""
    if supports_baseline(recipe) or not load_objective(recipe.objective.type).LABELED:
        return None
    inputs, _ = _column_kinds(recipe)
    if "image" in inputs:
        return "a picture has no words that those of a label could be compared with"
    if len(inputs) > 1:
        return "a label of a pair says how two texts stand to each other, which no nearness of words tells"
    return "a word's label depends on the words around it, which the label's own words do not tell"


def _column_kinds(recipe: "Recipe") -> tuple[list[str], str]:
    objective = load_objective(recipe.objective.type)
    return [objective.COLUMNS[role] for role in objective.INPUTS], objective.COLUMNS[objective.TARGET]


def measure_baseline(recipe: "Recipe", test: "pa.Table", labels: tuple[str, ...]) -> dict[str, Any]:
    """Metrics of the label that fits best: a decoder is asked (see `prompted`), of another base its states tell.

    Of states it is the label whose words lie nearest to the text, by the cosine of mean token states (Yin et al. 2019).
    Where a row has several labels none is chosen, as no threshold is known without looking at labels: rows are ranked.

    Args:
        test: test rows; labels: all that there are.
    Raises:
        ConfigError: no base model.
        OSError, ValueError: its weights cannot be loaded.
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
    label_scores = (
        _prompt_decoder(recipe, model_path, inputs, label_texts)
        if is_decoder
        else _compare_embeddings(recipe, model_path, inputs, label_texts)
    )
    has_several_labels = _column_kinds(recipe)[1] == "labels"
    described_by = "description" if descriptions else "name"
    return {
        "rows": len(rows),
        "how": HOW[has_several_labels, is_decoder].format(described_by),
        "metrics": _score_ranking(label_scores, targets, labels)
        if has_several_labels
        else _score_best_label(label_scores, targets, labels),
        "seconds": time.perf_counter() - start,
    }


def _score_best_label(label_scores: Any, targets: list[str], labels: tuple[str, ...]) -> dict[str, float]:
    """Metrics of the label that fits best."""
    predictions = [{"label": labels[row.argmax()], "score": float(np.clip(row.max(), 0, 1))} for row in label_scores]
    names = list(dict.fromkeys([*labels, *targets]))
    sums = text_classification.compute_statistics(targets, predictions, names).sum(0, dtype="float64")
    metrics = text_classification.compute_metrics(sums, names)
    return {name: float(metrics[name]) for name in ("accuracy", "f1_macro")}


def _score_ranking(label_scores: Any, targets: list[list[str]], labels: tuple[str, ...]) -> dict[str, float]:
    """How far above the others the rows of each label stand: the mean of the precision at each of them."""
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
    """(texts, labels): how likely a decoder finds each label, relative to the others."""
    precision = resolve_precision(recipe.evaluation.precision, home_of(recipe).root / "machine.json")
    likelihoods = np.exp(label_prompting.score_labels(model_path, texts, label_texts, _max_tokens(recipe), precision))
    return likelihoods / likelihoods.sum(1, keepdims=True)


def _compare_embeddings(recipe: "Recipe", model_path: str, texts: list[str], label_texts: list[str]) -> Any:
    """(texts, labels): the cosine of each text with each label's words."""
    vectors = _embed_texts(model_path, [*texts, *label_texts], _max_tokens(recipe))
    return vectors[: len(texts)] @ vectors[len(texts) :].T


def _embed_texts(model_path: str, texts: list[str], max_tokens: int) -> Any:
    """(texts, size) of length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
    ids = tokenizer(texts, truncation=True, max_length=max_tokens, return_attention_mask=False)["input_ids"]
    model = AutoModel.from_pretrained(model_path, dtype=torch.float32, trust_remote_code=False).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    vectors: list[Any] = [None] * len(texts)
    with torch.inference_mode():
        for indices in by_length([len(token_ids) for token_ids in ids], TOKENS):
            rows = [{"input_ids": ids[index]} for index in indices]
            batch = text_classification.collate(rows, tokenizer.pad_token_id or 0)
            inputs = {name: value.to(model.device) for name, value in batch.items()}
            states = model(**inputs).last_hidden_state
            real = inputs["attention_mask"].unsqueeze(-1)
            means = torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=-1)
            for index, mean in zip(indices, means.cpu().numpy(), strict=True):
                vectors[index] = mean
    return np.stack(vectors)
