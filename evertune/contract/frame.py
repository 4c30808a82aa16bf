"""What the contract looks at: a batch's rows as one flat frame, with columns that name a row's problem."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.objectives import module
from evertune.rows import has_id, present, roles

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Allowed:
    """The values that a label or tag may have.

    Args:
        values: sorted.
        inferred: whether this batch itself told them, as the first one does.
    """

    values: list[str]
    inferred: bool


def allowed(table: "pa.Table", recipe: Recipe, known_labels: tuple[str, ...]) -> Allowed:
    """The recipe's list, else the corpus' labels, else every value that stands on enough rows of this batch."""
    import pyarrow.compute as pc

    rules = recipe.contract.label
    if rules.values != "inferred":
        return Allowed(list(rules.values), inferred=False)
    if known_labels:
        return Allowed(list(known_labels), inferred=False)
    _row, value = labels(table, recipe)
    counts = pc.value_counts(value)
    enough = counts.filter(pc.greater_equal(counts.field("counts"), rules.min_rows)).field("values")
    return Allowed(sorted(one for one in enough.to_pylist() if one.strip()), inferred=True)


def labels(table: "pa.Table", recipe: Recipe) -> "tuple[Any, pa.Array]":
    """Every label with its row, each once a row; missing ones are left out."""
    import pyarrow as pa

    column = table[target(recipe)].combine_chunks()
    if pa.types.is_list(column.type):
        import pyarrow.compute as pc

        pairs = pa.table({"row": pc.list_parent_indices(column).cast(pa.int64()), "value": column.flatten()})
        pairs = pairs.group_by(["row", "value"], use_threads=False).aggregate([])
    else:
        import numpy as np

        pairs = pa.table({"row": np.arange(len(column)), "value": column})
    pairs = pairs.filter(pairs["value"].is_valid())
    return pairs["row"].to_numpy(), pairs["value"].combine_chunks()


def target(recipe: Recipe) -> str:
    """The role that the model learns to give."""
    return str(list(module(recipe.objective.type).COLUMNS)[-1])


def frame(
    table: "pa.Table", recipe: Recipe, permitted: Allowed, known_inputs: "Callable[[pa.Array], pa.Table]"
) -> "pa.Table":
    """The roles and the derived columns of a batch; lists are joined by spaces beside their counts.

    Args:
        table: rows from `rows.keyed`.
        known_inputs: see `corpus.known_inputs`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: dict[str, Any] = {}
    for role in roles(recipe):
        columns[role] = table[role]
        if pa.types.is_list(table[role].type):
            columns[role] = pc.binary_join(table[role], " ")
            columns[f"{role.removesuffix('s')}_count"] = pc.list_value_length(table[role])
            columns[f"{role}_problem"] = _item_problem(table[role].combine_chunks())
        elif role == target(recipe):
            columns[role] = present(table[role])
    columns["timestamp_problem"] = table["timestamp_problem"]
    bad = np.zeros(len(table), dtype=bool)
    row, value = labels(table, recipe)
    foreign = np.asarray(pc.invert(pc.is_in(value, value_set=pa.array(permitted.values, pa.string()))))
    bad[row[foreign]] = True
    if pa.types.is_list(table[target(recipe)].type):
        columns["unknown_tag"] = _first_of_each(row[foreign], value.filter(pa.array(foreign)), len(table))
    if has_id(recipe):
        columns["duplicate_id"] = _duplicate_ids(table)
    elif recipe.contract.conflicts == "refuse":
        columns["two_labels"] = _two_labels(table, ~bad, known_inputs)
    return pa.table(columns)


def _item_problem(lists: Any) -> Any:
    """What is wrong with an item of a list: missing, or blank."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    items = lists.flatten()
    blank = np.asarray(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(items), ""), True))
    row = np.asarray(pc.list_parent_indices(lists))[blank]
    position = np.flatnonzero(blank) - np.asarray(lists.offsets.take(pa.array(row))) + lists.offsets[0].as_py()
    text = pa.array([f"item {place} is empty" for place in position.tolist()], pa.string())
    return _first_of_each(row, text, len(lists))


def _first_of_each(row: Any, value: "pa.Array", size: int) -> "pa.Array":
    import numpy as np
    import pyarrow as pa

    rows, first = np.unique(row, return_index=True)
    place = np.full(size, -1)
    place[rows] = first
    return value.take(pa.array(place, mask=place < 0))


def _duplicate_ids(table: "pa.Table") -> "pa.Array":
    """Rows whose id stands on another row of the batch too, unless each of them has a moment of its own."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pc.dictionary_encode(table["id"].combine_chunks())
    codes, missing = ids.indices.fill_null(0).to_numpy(), np.asarray(ids.is_null())
    moments = table["timestamp"].combine_chunks().cast(pa.int64())
    pairs = np.column_stack([codes, moments.fill_null(0).to_numpy(), np.asarray(moments.is_null())])[~missing]
    together = np.bincount(codes[~missing], minlength=len(ids.dictionary) + 1)
    distinct = np.unique(pairs, axis=0)
    ordered = np.bincount(distinct[distinct[:, 2] == 0][:, 0], minlength=len(together))
    doubtful = (together > ordered) & (together > 1)
    hit = doubtful[codes] & ~missing
    counts = zip(hit.tolist(), together[codes].tolist(), strict=True)
    text = [f"{count} different rows have this id" if one else None for one, count in counts]
    return pa.array(text, pa.string())


def _two_labels(table: "pa.Table", considered: Any, known_inputs: "Callable[[pa.Array], pa.Table]") -> "pa.Array":
    """Rows whose input also stands with another target, in the batch or in the corpus."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = ["input_digest", "target_digest"]
    usable = pc.and_(pa.array(considered), pc.and_(table[names[0]].is_valid(), table[names[1]].is_valid()))
    here = table.select(names).filter(usable)
    known = known_inputs(pc.unique(here[names[0]])).select(names)
    in_batch, anywhere = _disputed(here), _disputed(pa.concat_tables([here, known]))
    inside = pc.and_(usable, pc.is_in(table[names[0]], value_set=in_batch))
    outside = pc.and_(usable, pc.is_in(table[names[0]], value_set=anywhere))
    return pc.case_when(
        pc.make_struct(inside, outside),
        "the same input stands with another label in this batch",
        "the same input stands with another label in the corpus",
    ).combine_chunks()


def _disputed(pairs: "pa.Table") -> "pa.Array":
    """Inputs that have more than one target."""
    import pyarrow.compute as pc

    distinct = pairs.group_by(pairs.column_names, use_threads=False).aggregate([])
    counts = pc.value_counts(distinct["input_digest"])
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
