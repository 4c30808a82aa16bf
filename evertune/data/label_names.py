"""Labels that are called otherwise than they were: `contract.label.rename`.

The corpus keeps every row as it came. What is learned and judged sees each label under the name of today.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.digests import digest_values
from evertune.objectives import load_objective
from evertune.records import Snapshot, compute_digest

if TYPE_CHECKING:
    import pyarrow as pa


def rename_snapshot(original: Snapshot, recipe: Recipe) -> Snapshot:
    """The snapshot under the names of today; with other names it is another one."""
    new_names = recipe.contract.label.rename
    if not new_names:
        return original
    return replace(
        original,
        labels=tuple(rename_labels(original.labels, new_names)),
        fingerprint=compute_digest(original.fingerprint, new_names),
    )


def rename_labels(labels: Sequence[str], new_names: Mapping[str, str]) -> list[str]:
    """Every label once, in the order of the first that is called so."""
    return list(dict.fromkeys(new_names.get(label, label) for label in labels))


def rename_rows(table: "pa.Table", recipe: Recipe) -> "pa.Table":
    """Rows of the corpus with the targets of today."""
    new_names = recipe.contract.label.rename
    target = load_objective(recipe.objective.type).TARGET
    if not new_names:
        return table
    index = table.column_names.index(target)
    return table.set_column(index, target, rename_values(table[target].combine_chunks(), new_names))


def digest_targets(table: "pa.Table", recipe: Recipe) -> Any:
    """Digests of the targets under the names of today.

    Args:
        table: rows with `target_digest`, and with the target where the recipe renames.
    """
    if not recipe.contract.label.rename:
        return table["target_digest"]
    return digest_values(rename_rows(table, recipe)[load_objective(recipe.objective.type).TARGET])


def list_name_variants(column: Any, new_names: Mapping[str, str]) -> list[Any]:
    """The column as it would stand under the names of today, and under those of earlier days.

    Of several old names for one, each is given to all of its places: a list that held two of them is not found.
    """
    current = rename_values(column, new_names)
    old_names = dict[str, list[str]]()
    for old, new in new_names.items():
        old_names.setdefault(new, []).append(old)
    turns = range(max(map(len, old_names.values()), default=0))
    return [
        current,
        *(
            rename_values(current, {new: olds[min(turn, len(olds) - 1)] for new, olds in old_names.items()})
            for turn in turns
        ),
    ]


def rename_values(column: Any, new_names: Mapping[str, str]) -> Any:
    """Strings, or lists of strings, with the names of today; nulls stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        inner = rename_values(column.flatten(), new_names)
        offsets = pc.subtract(column.offsets, column.offsets[0]) if len(column.offsets) else column.offsets
        mask = column.is_null() if column.null_count else None
        return pa.ListArray.from_arrays(offsets, inner, mask=mask)
    indices = pc.index_in(column, value_set=pa.array(list(new_names), pa.string()))
    return pc.coalesce(pa.array(list(new_names.values()), pa.string()).take(indices), column)


def rename_predictions(model_outputs: list[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """What an older model says, under the names of today."""
    new_names = recipe.contract.label.rename
    target = load_objective(recipe.objective.type).TARGET
    if not new_names:
        return model_outputs
    return [
        {**output, target: _rename_value(output[target], new_names), **_rename_scores(output, new_names)}
        for output in model_outputs
    ]


def _rename_scores(output: dict[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    """The scores of all labels, where a prediction has them; of labels that were merged the highest."""
    scores: dict[str, float] = {}
    for label, score in output.get("all_scores", {}).items():
        new_name = new_names.get(label, label)
        scores[new_name] = max(score, scores.get(new_name, 0.0))
    return {"all_scores": scores} if scores else {}


def _rename_value(value: Any, new_names: Mapping[str, str]) -> Any:
    return new_names.get(value, value) if isinstance(value, str) else [new_names.get(label, label) for label in value]
