"""Build the task that a recipe's rows define: examples, targets, class weights."""

import logging
from collections import Counter
from typing import TYPE_CHECKING

from evertune.errors import DataError
from evertune.objectives import load_objective
from evertune.training import row_selection
from evertune.training.examples import Examples
from evertune.training.methods import losses
from evertune.training.methods.token_masking import TokenMasking, build_masking
from evertune.training.trainer import Task

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from evertune.config import Recipe

logger = logging.getLogger(__name__)


def build_task(
    recipe: "Recipe",
    encoded: "datasets.Dataset",
    rows: "pa.Table",
    labels: tuple[str, ...],
    tokenizer: "PreTrainedTokenizerBase",
    since: int,
) -> Task:
    """Build the task from the train and validation rows.

    Args:
        recipe: the model's recipe.
        encoded: the rows, tokenized.
        rows: the same rows in the same order, with their targets.
        labels: in order.
        tokenizer: of the base model.
        since: rows of later batches are new to the champion.
    Raises:
        ConfigError: the recipe masks tokens, and the tokenizer has no mask token.
        DataError: too few rows to learn from.
    """
    import numpy as np

    objective = load_objective(recipe.objective.type)
    splits = rows.column("split").to_numpy(zero_copy_only=False)
    train = np.flatnonzero(row_selection.select_train_rows(rows, recipe, since))
    validation = np.flatnonzero(splits == "validation")[-(recipe.evaluation.window or len(rows)) :]
    targets = rows.column(objective.TARGET)
    values = objective.list_labels(targets.take(train).to_pylist())
    _check_shortage(row_selection.explain_shortage(len(train), values, recipe, since), recipe, since)
    if objective.LABELED:
        _warn_of_missing(values, labels)
    ids = {label: index for index, label in enumerate(labels)}
    token_masking = build_masking(tokenizer, recipe.training.mask_tokens)
    examples = {
        name: Examples(objective, encoded.select(index), targets.take(index).to_pylist(), ids)
        for name, index in (("train", train), ("validation", validation))
    }
    return Task(
        objective=objective,
        labels=labels,
        metric=recipe.metric,
        train=examples["train"],
        conventions=objective.find_conventions(targets.take(np.flatnonzero(splits == "train")).to_pylist()),
        lengths=examples["train"].lengths.tolist(),
        validation=examples["validation"],
        targets=targets.take(validation).to_pylist(),
        pad_id=tokenizer.pad_token_id,
        vocabulary=_collect_vocabulary(examples["train"], token_masking),
        masking=token_masking,
        weights=losses.class_weights(values, labels, recipe.training),
    )


def _collect_vocabulary(train: Examples, token_masking: TokenMasking | None) -> "torch.Tensor":
    """Return the sorted ids of all tokens that the model may see in training."""
    import numpy as np
    import torch

    mask_ids = [] if token_masking is None else [token_masking.mask_id]
    return torch.from_numpy(np.union1d(train.token_ids, mask_ids).astype(np.int64))


def _check_shortage(shortage: str, recipe: "Recipe", since: int) -> None:
    if shortage:
        advice = ", or set data.fresh.train_on to all" if since and recipe.data.fresh.train_on != "all" else ""
        raise DataError(f"{shortage}; add rows{advice}")


def _warn_of_missing(values: list[str], labels: tuple[str, ...]) -> None:
    counts = Counter(values)
    missing = [label for label in labels if not counts[label]]
    if missing:
        logger.warning("no train row has %s: the model cannot learn it", ", ".join(map(repr, missing)))
