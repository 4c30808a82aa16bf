"""What the base model can do without any training: the baseline that every tuned one is seen against."""

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.evaluation import label_prompting as prompted
from evertune.models import base as base_models
from evertune.objectives import cells, module, text_classification
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
    (False, False): "the nearest label by its {}", (False, True): "prompted, the likeliest label by its {}",
    (True, False): "rows ranked by the nearness of each label's {}",
    (True, True): "prompted, rows ranked by the likelihood of each label's {}",
}  # fmt: skip


def possible(recipe: "Recipe") -> bool:
    """Whether a row is one text with labels, whose own words tell what they mean."""
    inputs, target = _kinds(recipe)
    return bool(module(recipe.objective.type).LABELED) and inputs == ["string"] and target in ("string", "labels")


def why_not(recipe: "Recipe") -> str | None:
    """Why there is no baseline for labels, in words; None where there is one, or there are no labels."""
    if possible(recipe) or not module(recipe.objective.type).LABELED:
        return None
    inputs, _ = _kinds(recipe)
    if "image" in inputs:
        return "a picture has no words that those of a label could be compared with"
    if len(inputs) > 1:
        return "a label of a pair says how two texts stand to each other, which no nearness of words tells"
    return "a word's label depends on the words around it, which the label's own words do not tell"


def _kinds(recipe: "Recipe") -> tuple[list[str], str]:
    objective = module(recipe.objective.type)
    return [objective.COLUMNS[role] for role in objective.INPUTS], objective.COLUMNS[objective.TARGET]


def baseline(recipe: "Recipe", test: "pa.Table", labels: tuple[str, ...]) -> dict[str, Any]:
    """Metrics of the label that fits best: a decoder is asked (see `prompted`), of another base its states tell.

    Of states it is the label whose words lie nearest to the text, by the cosine of mean token states (Yin et al. 2019).
    Where a row has several labels none is chosen, as no threshold is known without looking at labels: rows are ranked.

    Args:
        test: test rows; labels: all that there are.
    Raises:
        ConfigError: no base model.
        OSError, ValueError: its weights cannot be loaded.
    """
    start, objective, place = time.perf_counter(), module(recipe.objective.type), base_models.locate(recipe)
    told = getattr(recipe.objective, "descriptions", {})
    words = [told.get(label) or label.replace("_", " ").replace("-", " ") for label in labels]
    asks = prompted.able(place)
    rows = _spread(test, ROWS)
    if asks:
        texts, longest = cells(rows, objective.INPUTS), _longest(recipe)
        rows = _spread(test, prompted.affordable(place, texts, words, longest))
    inputs, targets = cells(rows, objective.INPUTS), cells(rows, [objective.TARGET])
    fit = _asked(recipe, place, inputs, words) if asks else _alike(recipe, place, inputs, words)
    several, what = _kinds(recipe)[1] == "labels", "description" if told else "name"
    return {
        "rows": len(rows), "how": HOW[several, asks].format(what),
        "metrics": _ranked(fit, targets, labels) if several else _chosen(fit, targets, labels),
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def _chosen(fit: Any, targets: list[str], labels: tuple[str, ...]) -> dict[str, float]:
    """Metrics of the label that fits best."""
    said = [{"label": labels[row.argmax()], "score": float(np.clip(row.max(), 0, 1))} for row in fit]
    names = list(dict.fromkeys([*labels, *targets]))
    sums = text_classification.statistics(targets, said, names).sum(0, dtype="float64")
    found = text_classification.metrics(sums, names)
    return {name: float(found[name]) for name in ("accuracy", "f1_macro")}


def _ranked(fit: Any, targets: list[list[str]], labels: tuple[str, ...]) -> dict[str, float]:
    """How far above the others the rows of each label stand: the mean of the precision at each of them."""
    each = []
    for place, label in enumerate(labels):
        order = np.argsort(-fit[:, place], kind="stable")
        right = np.array([label in targets[row] for row in order])
        if right.any():
            each.append((right.cumsum() / np.arange(1, len(right) + 1))[right].mean())
    return {"mean_average_precision": float(np.mean(each)) if each else 0.0}


def _spread(rows: "pa.Table", count: int) -> "pa.Table":
    return rows.take(np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)))


def _longest(recipe: "Recipe") -> int:
    return min(LONGEST, int(recipe.objective.max_length))


def _asked(recipe: "Recipe", place: str, texts: list[str], words: list[str]) -> Any:
    """(texts, labels): how likely a decoder finds each label, relative to the others."""
    precision = resolve_precision(recipe.evaluation.precision, home_of(recipe).root / "machine.json")
    found = np.exp(prompted.scores(place, texts, words, _longest(recipe), precision))
    return found / found.sum(1, keepdims=True)


def _alike(recipe: "Recipe", place: str, texts: list[str], words: list[str]) -> Any:
    """(texts, labels): the cosine of each text with each label's words."""
    vectors = _vectors(place, [*texts, *words], _longest(recipe))
    return vectors[: len(texts)] @ vectors[len(texts) :].T


def _vectors(place: str, texts: list[str], longest: int) -> Any:
    """(texts, size) of length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    ids = tokenizer(texts, truncation=True, max_length=longest, return_attention_mask=False)["input_ids"]
    model = AutoModel.from_pretrained(place, dtype=torch.float32, trust_remote_code=False).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    found: list[Any] = [None] * len(texts)
    with torch.inference_mode():
        for indices in by_length([len(one) for one in ids], TOKENS):
            part = [{"input_ids": ids[index]} for index in indices]
            batch = text_classification.collate(part, tokenizer.pad_token_id or 0)
            given = {name: value.to(model.device) for name, value in batch.items()}
            states, real = model(**given).last_hidden_state, given["attention_mask"].unsqueeze(-1)
            means = torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=-1)
            for index, mean in zip(indices, means.cpu().numpy(), strict=True):
                found[index] = mean
    return np.stack(found)
