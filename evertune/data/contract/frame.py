"""What the contract looks at: a batch's rows as one flat frame, with columns that name a row's problem."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.columns.chunks import Rows, chosen, standing_again
from evertune.data.columns.components import distinct, repeated, within
from evertune.data.row_versions import has_id, present, roles
from evertune.objectives import cells, module

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SKEW = timedelta(days=1)  # clocks go wrong by minutes, and a local time without its zone by half a day
KnownInputs = Callable[["pa.Array"], "pa.Table"]


@dataclass(frozen=True)
class Allowed:
    """The values that a label or tag may have.

    Args:
        values: those that the corpus knows first.
        inferred: whether this batch itself told them, as the first one does.
        joining: those that the corpus did not know before, with the rows of this batch that have them.
        unknown: values of this batch that are not allowed, with their rows.
    """

    values: list[str]
    inferred: bool
    joining: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Whole:
    """What only a batch as a whole tells of its rows.

    Args:
        permitted: values of the label.
        told: for a column that names a problem: the rows that have it, in order, and what it says.
    """

    permitted: Allowed
    told: "dict[str, tuple[np.ndarray[Any, Any], pa.Array]]"

    def within(self, start: int, size: int) -> "Whole":
        """The same of the rows from `start` on, numbered from there."""
        told = {}
        for name, (places, text) in self.told.items():
            low, high = places.searchsorted([start, start + size])
            told[name] = (places[low:high] - start, text.slice(low, high - low))
        return Whole(self.permitted, told)


def whole(rows: Rows, recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs) -> Whole:
    """Look at the columns that it takes to find allowed labels, repeated ids, late moments, inputs with two labels.

    Args:
        rows: reads rows from `rows.keyed`.
        known_inputs: see `corpus.known_inputs`.
    """
    permitted = allowed(rows, recipe, known_labels)
    told = {}
    if has_id(recipe):
        told["duplicate_id"] = _duplicate_ids(rows)
    elif recipe.contract.conflicts == "refuse" and module(recipe.objective.type).LABELED:
        told["two_labels"] = _two_labels(rows, recipe, permitted, known_inputs)
    if "timestamp" in roles(recipe) and recipe.contract.future == "refuse":
        told["future"] = _to_come(rows, datetime.now(UTC))
    return Whole(permitted, told)


def allowed(rows: Rows, recipe: Recipe, known_labels: tuple[str, ...]) -> Allowed:
    """The recipe's list, else the corpus' labels, else every value that stands on enough rows of this batch.

    With `new: grow` such values join those of the corpus. What a label was called before is allowed with it.
    """
    rules, counts = recipe.contract.label, _counts(rows, recipe)
    often = sorted(one for one in counts if counts[one] >= rules.min_rows and one.strip())
    known = list(rules.values) if rules.values != "inferred" else list(known_labels)
    inferred = rules.values == "inferred" and not known_labels
    grows = inferred or (rules.new == "grow" and rules.values == "inferred")
    others = [one for one in often if one not in known] if grows else []
    values = list(dict.fromkeys([*known, *others, *rules.rename, *rules.rename.values()]))
    allowed_ones = set(values)
    if inferred:  # nothing was known before
        return Allowed(values, inferred)
    unknown = {one: count for one, count in counts.items() if one not in allowed_ones}
    return Allowed(values, inferred, {one: counts[one] for one in others}, unknown)


def _counts(rows: Rows, recipe: Recipe) -> Counter[str]:
    """On how many rows each value of the label stands."""
    import pyarrow.compute as pc

    counts = Counter[str]()
    if not module(recipe.objective.type).LABELED:
        return counts
    for part in rows([target(recipe)]):
        found = pc.value_counts(labels(part, recipe)[1])
        counts.update(dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)))
    return counts


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
    return str(module(recipe.objective.type).TARGET)


def frame(table: "pa.Table", recipe: Recipe, known: Whole) -> "pa.Table":
    """The roles and the derived columns of a part of a batch; lists are joined by spaces beside their counts.

    Args:
        table: rows from `rows.keyed`.
        known: of these rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: dict[str, Any] = {}
    objective = module(recipe.objective.type)
    for role in roles(recipe):
        columns[role] = table[role]
        if pa.types.is_list(table[role].type):
            columns[role] = pc.binary_join(table[role], " ")
            columns[f"{role.removesuffix('s')}_count"] = pc.list_value_length(table[role])
            columns[f"{role}_problem"] = _item_problem(table[role].combine_chunks())
        elif role == objective.TARGET and role not in objective.INPUTS:
            columns[role] = present(table[role])
    if hasattr(objective, "problems"):
        targets = table[objective.TARGET].to_pylist()
        told = objective.problems(cells(table, objective.INPUTS), targets, recipe.objective)
        columns["row_problem"] = pa.array(told, pa.string())
    columns["timestamp_problem"] = table["timestamp_problem"]
    if pa.types.is_list(table[target(recipe)].type) and objective.LABELED:
        row, value = _foreign(table, recipe, known.permitted)
        columns["unknown_tag"] = _first_of_each(row, value, len(table))
    for name, (places, text) in known.told.items():
        columns[name] = _filled(places, text, len(table))
    return pa.table(columns)


def _foreign(table: "pa.Table", recipe: Recipe, permitted: Allowed) -> "tuple[Any, pa.Array]":
    """Labels that are not allowed, with their rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    row, value = labels(table, recipe)
    foreign = np.asarray(pc.invert(pc.is_in(value, value_set=pa.array(permitted.values, pa.string()))))
    return row[foreign], value.filter(pa.array(foreign))


def _filled(places: Any, text: "pa.Array", size: int) -> "pa.Array":
    """What is told of rows, as a column; null where nothing is."""
    import numpy as np
    import pyarrow as pa

    at = np.full(size, -1)
    at[places] = np.arange(len(places))
    return text.take(pa.array(at, mask=at < 0))


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


def _duplicate_ids(rows: Rows) -> "tuple[Any, pa.Array]":
    """Rows whose id stands on another row of the batch too, unless each of them has a moment of its own."""
    import numpy as np
    import pyarrow as pa

    places = standing_again([rows], "id")
    empty = pa.schema([("id", pa.string()), ("timestamp", pa.timestamp("us", "UTC"))]).empty_table()
    table = pa.concat_tables([empty, *chosen(rows, ["id", "timestamp"], places)])
    codes = np.asarray(table["id"].combine_chunks().dictionary_encode().indices, dtype=np.int64)
    moments = table["timestamp"].combine_chunks().cast(pa.int64())
    pairs = np.column_stack([codes, moments.fill_null(0).to_numpy(), np.asarray(moments.is_null())])
    together = np.bincount(codes)
    distinct = np.unique(pairs, axis=0)
    ordered = np.bincount(distinct[distinct[:, 2] == 0][:, 0], minlength=len(together))
    hit = ((together > ordered) & (together > 1))[codes]
    text = [f"{count} different rows have this id" for count in together[codes][hit].tolist()]
    return places[hit], pa.array(text, pa.string())


def _to_come(rows: Rows, now: datetime) -> "tuple[Any, pa.Array]":
    """Rows with a moment that lies further ahead than clocks go wrong."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    start, places, moments, last = 0, [np.zeros(0, dtype=np.int64)], list[datetime](), pa.scalar(now + SKEW)
    for part in rows(["timestamp"]):
        hit = np.asarray(pc.fill_null(pc.greater(part["timestamp"], last), False))
        places.append(start + np.flatnonzero(hit))
        moments += part["timestamp"].filter(pa.array(hit)).to_pylist()
        start += len(part)
    text = [f"{one:%Y-%m-%d %H:%M} lies in the future, this machine's clock says {now:%Y-%m-%d %H:%M}"
            for one in moments]  # fmt: skip
    return np.concatenate(places), pa.array(text, pa.string())


def _two_labels(rows: Rows, recipe: Recipe, permitted: Allowed, known_inputs: KnownInputs) -> "tuple[Any, pa.Array]":
    """Rows whose input also stands with another target, in the batch or in the corpus, both under today's names."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    pairs, usable = _digests(rows, recipe, permitted)
    known = known_inputs(pa.array(distinct(pairs[usable, 0]), pa.int64())).select(["input_digest", "target_digest"])
    doubtful = np.zeros(len(pairs), dtype=bool)
    doubtful[usable[repeated(pairs[usable, 0].view(np.uint64))]] = True
    doubtful[usable[within(pairs[usable, 0], known["input_digest"].to_numpy())]] = True
    places = np.flatnonzero(doubtful)
    here = pa.table(dict(zip(known.column_names, pairs[places].T, strict=True)))
    in_batch, anywhere = _disputed(here), _disputed(pa.concat_tables([here, known]))
    inside, outside = (pc.is_in(here["input_digest"], value_set=one).combine_chunks() for one in (in_batch, anywhere))
    text = pc.case_when(
        pc.make_struct(inside, outside),
        "the same input stands with another label in this batch",
        "the same input stands with another label in the corpus",
    )
    hit = np.asarray(text.is_valid())
    return places[hit], text.filter(pa.array(hit))


def _digests(rows: Rows, recipe: Recipe, permitted: Allowed) -> "tuple[Any, Any]":
    """Digests of each row's input and target, (rows, 2), and the rows that have both and an allowed label."""
    import numpy as np

    names = ["input_digest", "target_digest"]
    pairs, fine = [np.zeros((0, 2), dtype=np.int64)], [np.zeros(0, dtype=bool)]
    for part in rows([*names, target(recipe)]):
        good = np.asarray(part[names[0]].is_valid()) & np.asarray(part[names[1]].is_valid())
        good[_foreign(part, recipe, permitted)[0]] = False
        columns = [part["input_digest"], relabel.target_digests(part, recipe)]
        pairs.append(np.column_stack([column.fill_null(0).to_numpy() for column in columns]))
        fine.append(good)
    return np.concatenate(pairs), np.flatnonzero(np.concatenate(fine))


def _disputed(pairs: "pa.Table") -> "pa.Array":
    """Inputs that have more than one target."""
    import pyarrow.compute as pc

    distinct = pairs.group_by(pairs.column_names, use_threads=False).aggregate([])
    counts = pc.value_counts(distinct["input_digest"])
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
