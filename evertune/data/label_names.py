"""Labels that are called otherwise than they were: `contract.label.rename`.

The corpus keeps every row as it came. What is learned and judged sees each label under the name of today.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.digests import digests
from evertune.objectives import module
from evertune.records import Snapshot, digest

if TYPE_CHECKING:
    import pyarrow as pa


def snapshot(found: Snapshot, recipe: Recipe) -> Snapshot:
    """The snapshot under the names of today; with other names it is another one."""
    renamed = recipe.contract.label.rename
    if not renamed:
        return found
    return replace(
        found, labels=tuple(names(found.labels, renamed)), fingerprint=digest(found.fingerprint, renamed)
    )  # fmt: skip


def names(labels: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Every label once, in the order of the first that is called so."""
    return list(dict.fromkeys(renamed.get(label, label) for label in labels))


def rows(table: "pa.Table", recipe: Recipe) -> "pa.Table":
    """Rows of the corpus with the targets of today."""
    renamed, target = recipe.contract.label.rename, module(recipe.objective.type).TARGET
    if not renamed:
        return table
    place = table.column_names.index(target)
    return table.set_column(place, target, values(table[target].combine_chunks(), renamed))


def target_digests(table: "pa.Table", recipe: Recipe) -> Any:
    """Digests of the targets under the names of today.

    Args:
        table: rows with `target_digest`, and with the target where the recipe renames.
    """
    if not recipe.contract.label.rename:
        return table["target_digest"]
    return digests(rows(table, recipe)[module(recipe.objective.type).TARGET])


def other_names(column: Any, renamed: Mapping[str, str]) -> list[Any]:
    """The column as it would stand under the names of today, and under those of earlier days.

    Of several old names for one, each is given to all of its places: a list that held two of them is not found.
    """
    now, older = values(column, renamed), dict[str, list[str]]()
    for old, new in renamed.items():
        older.setdefault(new, []).append(old)
    turns = range(max(map(len, older.values()), default=0))
    return [now, *(values(now, {new: olds[min(turn, len(olds) - 1)] for new, olds in older.items()}) for turn in turns)]


def values(column: Any, renamed: Mapping[str, str]) -> Any:
    """Strings, or lists of strings, with the names of today; nulls stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        inner = values(column.flatten(), renamed)
        offsets = pc.subtract(column.offsets, column.offsets[0]) if len(column.offsets) else column.offsets
        mask = column.is_null() if column.null_count else None
        return pa.ListArray.from_arrays(offsets, inner, mask=mask)
    place = pc.index_in(column, value_set=pa.array(list(renamed), pa.string()))
    return pc.coalesce(pa.array(list(renamed.values()), pa.string()).take(place), column)


def predictions(found: list[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """What an older model says, under the names of today."""
    renamed, target = recipe.contract.label.rename, module(recipe.objective.type).TARGET
    if not renamed:
        return found
    return [{**one, target: _named(one[target], renamed), **_scores(one, renamed)} for one in found]


def _scores(one: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """The scores of all labels, where a prediction has them; of labels that were merged the highest."""
    found: dict[str, float] = {}
    for label, score in one.get("all_scores", {}).items():
        now = renamed.get(label, label)
        found[now] = max(score, found.get(now, 0.0))
    return {"all_scores": found} if found else {}


def _named(value: Any, renamed: Mapping[str, str]) -> Any:
    return renamed.get(value, value) if isinstance(value, str) else [renamed.get(one, one) for one in value]
