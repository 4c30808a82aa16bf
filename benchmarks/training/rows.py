"""The rows that the training benchmark learns from, and the settings of its four loops, frozen with what found them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """One data set and how it is learned.

    Args:
        recipe: gives data, objective and base model.
        rows: train rows, the first of a shuffle; None for all.
        epochs: of the runs whose metric is taken.
        rate: learning rate of the loops with 16 rows a step, and of the one with `tokens` a step.
        batch: rows a step of the tuned Trainer, the best of `BATCHES`.
        tokens: tokens a step of Evertune.
        metric: of the official test split.
        test: test rows, the first of a shuffle; None for all.
    """

    recipe: str
    rows: int | None
    epochs: float
    rate: tuple[float, float]
    batch: int
    tokens: int
    metric: str
    test: int | None


# Rows a step that were tried for the tuned Trainer; see SEARCH in benchmarks/results.json for what each gave.
BATCHES = (16, 32, 64, 128)
SETTINGS = {
    "conll2003": Setting("configs/ner_conll2003.yaml", None, 3, (3e-4, 8e-4), 64, 2048, "token_f1_weighted", None),
    "banking77": Setting("configs/support_banking77.yaml", None, 2, (3e-4, 7e-4), 64, 1024, "accuracy", None),
    "imdb": Setting("configs/sentiment_imdb.yaml", 3000, 1, (1e-4, 3e-4), 16, 4096, "accuracy", 4000),
}
LENGTH = {"imdb": 256}  # tokens of a row at most, where it is not the recipe's


@dataclass(frozen=True)
class Learned:
    """Rows of a split as the objective's `example` makes them, and their targets."""

    examples: Sequence[Any]
    targets: Sequence[Any]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(example["input_ids"]) for example in self.examples]


@dataclass(frozen=True)
class Prepared:
    """A data set ready to train on.

    Args:
        place: of the base model.
        method: options of an adapter, whose weights alone are learned with the head. Default: all are.
    """

    setting: Setting
    objective: Any
    options: Any
    tokenizer: Any
    place: str
    labels: tuple[str, ...]
    train: Learned
    test: Learned
    method: Mapping[str, Any] | None = None

    def build_model(self, seed: int) -> Any:
        """The base model with a new head: the same for all loops."""
        from evertune.serving.portable import adapters
        from evertune.training import parameters

        built = parameters.build_model(self.objective, self.place, self.labels, self.options, seed)
        if self.method is not None:
            adapters.attach_adapter(built, self.method, self.place)
        return built


@cache
def prepare_rows(name: str) -> Prepared:
    """Read and tokenize a data set.

    Raises:
        RuntimeError: its files are not there.
    """
    from evertune.config import load_recipe
    from evertune.models import base as base_models
    from evertune.objectives import load_objective
    from evertune.tokenization import tokenize as tokenization

    setting = SETTINGS[name]
    changes = [f"objective.max_length={LENGTH[name]}"] if name in LENGTH else []
    recipe = load_recipe(ROOT / setting.recipe, changes)
    objective = load_objective(recipe.objective.type)
    rows = _read_rows(recipe, tuple(objective.COLUMNS))
    values = objective.list_labels([target for _, target in rows["train"]])
    labels = tuple(sorted(set(values)))
    tokenizer = tokenization.load_tokenizer(recipe)
    ids = {label: index for index, label in enumerate(labels)}
    limits = {"train": setting.rows, "test": setting.test}
    splits = {
        split: encode_rows(_shuffled_rows(rows[split], limits[split]), objective, tokenizer, recipe.objective, ids)
        for split in limits
    }
    model_path = base_models.locate_base(recipe)
    return Prepared(
        setting, objective, recipe.objective, tokenizer, model_path, labels, splits["train"], splits["test"]
    )


def _read_rows(recipe: Any, columns: tuple[str, ...]) -> dict[str, list[tuple[Any, Any]]]:
    from evertune.data.sources import read as sources

    rows: dict[str, list[tuple[Any, Any]]] = {}
    for piece in sources.read_sources(recipe, {}):
        table = piece.table
        for split, value, target in zip(
            *(table.column(name).to_pylist() for name in ("given_split", *columns)), strict=True
        ):
            rows.setdefault(split, []).append((value, target))
    return rows


def _shuffled_rows(rows: list[tuple[Any, Any]], count: int | None) -> list[tuple[Any, Any]]:
    order = np.random.default_rng(0).permutation(len(rows))[:count]
    return [rows[index] for index in order]


def encode_rows(
    rows: Sequence[tuple[Any, Any]], objective: Any, tokenizer: Any, options: Any, ids: dict[str, int]
) -> Learned:
    """Rows, each an input with its target, as the objective's `example` makes them.

    Args:
        ids: number of each label.
    """
    encoded = objective.encode([value for value, _ in rows], tokenizer, options)
    examples = [
        objective.make_example({name: values[index] for name, values in encoded.items()}, target, ids)
        for index, (_, target) in enumerate(rows)
    ]
    return Learned(examples, [target for _, target in rows])
