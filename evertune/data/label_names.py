"""Renamed labels: `contract.label.rename`.

The corpus keeps every row as it came. Training and evaluation see each label under its current name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from evertune.config import Recipe
from evertune.data.columns.digests import digest_values
from evertune.objectives import Cell, Prediction, load_objective
from evertune.records import Snapshot, compute_digest

if TYPE_CHECKING:
    import pyarrow as pa

Predictions = TypeVar("Predictions", bound=Sequence[Prediction])


def rename_snapshot(original: Snapshot, recipe: Recipe) -> Snapshot:
    """Return the snapshot with the current label names; renaming changes its fingerprint."""
    new_names = recipe.contract.label.rename
    if not new_names:
        return original
    return replace(
        original,
        labels=tuple(rename_labels(original.labels, new_names)),
        fingerprint=compute_digest(original.fingerprint, new_names),
    )


def rename_labels(labels: Sequence[str], new_names: Mapping[str, str]) -> list[str]:
    """Return the distinct current names of the labels, each at the position of its first label."""
    return list(dict.fromkeys(new_names.get(label, label) for label in labels))


def rename_rows(table: "pa.Table", recipe: Recipe) -> "pa.Table":
    """Return rows of the corpus with the current label names in their targets."""
    new_names = recipe.contract.label.rename
    target = load_objective(recipe.objective.type).TARGET
    if not new_names:
        return table
    index = table.column_names.index(target)
    return table.set_column(index, target, rename_values(table[target].combine_chunks(), new_names))


def digest_targets(table: "pa.Table", recipe: Recipe) -> "pa.Array | pa.ChunkedArray":
    """Return digests of the targets under the current label names.

    Args:
        table: rows with `target_digest`, and with the target if the recipe renames labels.
    """
    if not recipe.contract.label.rename:
        return table["target_digest"]
    return digest_values(rename_rows(table, recipe)[load_objective(recipe.objective.type).TARGET])


def list_name_variants(column: "pa.Array", new_names: Mapping[str, str]) -> "list[pa.Array]":
    """Return the column under the current label names, then under former ones.

    A label with several former names takes one of them per variant, for all its occurrences; a list that contained two
    of them at once has no variant.
    """
    current = rename_values(column, new_names)
    old_names = dict[str, list[str]]()
    for old, new in new_names.items():
        old_names.setdefault(new, []).append(old)

    variants = [current]
    for turn in range(max(map(len, old_names.values()), default=0)):
        former_names = {new: olds[min(turn, len(olds) - 1)] for new, olds in old_names.items()}
        variants.append(rename_values(current, former_names))
    return variants


def rename_values(column: "pa.Array", new_names: Mapping[str, str]) -> "pa.Array":
    """Return strings, or lists of strings, with the new names; nulls stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        inner = rename_values(column.flatten(), new_names)
        offsets = pc.subtract(column.offsets, column.offsets[0]) if len(column.offsets) else column.offsets
        mask = column.is_null() if column.null_count else None
        return pa.ListArray.from_arrays(offsets, inner, mask=mask)
    indices = pc.index_in(column, value_set=pa.array(list(new_names), pa.string()))
    return pc.coalesce(pa.array(list(new_names.values()), pa.string()).take(indices), column)


def rename_predictions(model_outputs: Predictions, recipe: Recipe) -> Predictions:
    """Return an older model's predictions under the current label names."""
    new_names = recipe.contract.label.rename
    target = load_objective(recipe.objective.type).TARGET
    if not new_names:
        return model_outputs
    renamed = [
        {**output, target: _rename_value(cast(Cell, output[target]), new_names), **_rename_scores(output, new_names)}
        for output in model_outputs
    ]
    return cast(Predictions, renamed)


def _rename_scores(output: Prediction, new_names: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the prediction's scores of all labels, if it has them; merged labels get their highest score."""
    scores: dict[str, float] = {}
    for label, score in cast("Mapping[str, float]", output.get("all_scores", {})).items():
        new_name = new_names.get(label, label)
        scores[new_name] = max(score, scores.get(new_name, 0.0))
    return {"all_scores": scores} if scores else {}


def _rename_value(value: Cell, new_names: Mapping[str, str]) -> Cell:
    return new_names.get(value, value) if isinstance(value, str) else [new_names.get(label, label) for label in value]
