"""What a recipe's rows ask a model to learn: examples, targets, class weights."""

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from evertune.errors import DataError
from evertune.objectives import module
from evertune.training import model as models
from evertune.training.loop import Task
from evertune.training.masking import masking

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from evertune.config import Recipe

logger = logging.getLogger(__name__)


def task_of(
    recipe: "Recipe", encoded: "datasets.Dataset", rows: "pa.Table", labels: tuple[str, ...], tokenizer: Any, since: int
) -> Task:
    """The train and validation rows as a task.

    Args:
        encoded, rows: the same rows in the same order, tokenized and with their targets.
        since: with `train_on: new`, rows of later batches only.
    Raises:
        ConfigError: tokens are to be masked, and the tokenizer has no mask token.
        DataError: too little to learn from.
    """
    import numpy as np

    objective = module(recipe.objective.type)
    splits = rows.column("split").to_numpy(zero_copy_only=False)
    learned = splits == "train"
    if recipe.data.fresh.train_on == "new":
        learned &= rows.column("batch").to_numpy() > since
    train, validation = np.flatnonzero(learned), np.flatnonzero(splits == "validation")
    targets = rows.column(list(objective.COLUMNS)[1])
    values = objective.label_values(targets.take(train).to_pylist())
    _check(values, labels, recipe)
    ids = {label: index for index, label in enumerate(labels)}
    examples = {
        name: _examples(objective, encoded.select(index), targets.take(index).to_pylist(), ids)
        for name, index in (("train", train), ("validation", validation))
    }
    return Task(
        objective=objective, labels=labels, metric=recipe.metric, train=examples["train"],
        conventions=objective.conventions(targets.take(np.flatnonzero(splits == "train")).to_pylist()),
        lengths=[len(one["input_ids"]) for one in examples["train"]], validation=examples["validation"],
        targets=targets.take(validation).to_pylist(), pad_id=tokenizer.pad_token_id,
        weights=models.balanced_weights(values, labels) if recipe.training.class_weights == "balanced" else None,
        masking=masking(tokenizer, recipe.training.mask_tokens),
    )  # fmt: skip


def _examples(
    objective: Any, encoded: "datasets.Dataset", targets: list[Any], ids: dict[str, int]
) -> list[dict[str, Any]]:
    return [objective.example(row, target, ids) for row, target in zip(encoded, targets, strict=True)]


def _check(values: list[str], labels: tuple[str, ...], recipe: "Recipe") -> None:
    counts, which, remedy = Counter(values), "train rows", ""
    if recipe.data.fresh.train_on == "new":
        which, remedy = "train rows that came since the champion", ", or set data.fresh.train_on to all"
    if not counts:
        raise DataError(f"no {which}; add rows{remedy}")
    if len(counts) < 2:
        raise DataError(
            f"the {which} have one label only, {next(iter(counts))!r}: there is nothing to tell apart; "
            f"add rows with other labels{remedy}"
        )
    if missing := [label for label in labels if not counts[label]]:
        logger.warning("no train row has %s: the model cannot learn it", ", ".join(map(repr, missing)))
