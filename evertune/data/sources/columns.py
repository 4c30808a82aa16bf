"""Arrow columns become tables with roles as columns: whole columns where Arrow reads them as a cell's rules do."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evertune.data.row_versions import arrow
from evertune.data.sources.chunk import Layout
from evertune.data.sources.tables import CONVERTERS, converter
from evertune.records import digest

if TYPE_CHECKING:
    import pyarrow as pa

# ISO moments that Arrow and Python read alike; others are read one by one
DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
NAIVE = rf"^[12]\d{{3}}-{DAY}[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{{6}}|\.\d{{3}})?\z"
FIRST, LAST = "1000-01-01", "3000-01-01"  # Arrow's moments between them are Python's too


def arrow_roles(columns: "Sequence[pa.Array]", numbers: Sequence[int], wanted: Layout) -> "pa.Table":
    """The roles of rows, and `source_row`, `problem` and `problem_digest`.

    Args:
        columns: in the layout's order.
        numbers: of the rows.
    """
    import pyarrow as pa

    size, arrays, problems = len(columns[0]), {}, dict[int, str]()
    for (role, kind), column in zip(wanted.kinds.items(), columns, strict=True):
        made, odd = _converted(column, kind, wanted)
        for row, error in odd.items():
            problems.setdefault(row, f"row {numbers[row]}, column {wanted.columns[role]}: {error}; mend the cell")
        arrays[role] = made[0]
        if kind == "timestamp":
            arrays[f"{role}_problem"] = made[1]
    held = {row: digest([str(column[row].as_py()) for column in columns]) for row in problems}
    arrays["source_row"] = pa.array(numbers, pa.int64())
    for name, said in (("problem", problems), ("problem_digest", held)):
        arrays[name] = pa.array([said.get(row) for row in range(size)] if said else pa.nulls(size), pa.string())
    return pa.table(arrays)


def _converted(column: "pa.Array", kind: str, wanted: Layout) -> "tuple[tuple[pa.Array, ...], dict[int, str]]":
    """The column as its kind, a moment with a column of its problems, and what is wrong with single cells."""
    import pyarrow as pa

    if kind == "string" and (text := _text(column)) is not None:
        return (text,), {}
    if kind == "timestamp":
        return _moments(column), {}
    made, odd = _one_by_one(column, converter(kind, wanted.folder))
    return (pa.array(made, arrow(kind)),), odd


def _one_by_one(column: "pa.Array", convert: Callable[[Any], Any]) -> tuple[list[Any], dict[int, str]]:
    made, odd = list[Any](), dict[int, str]()
    for row, cell in enumerate(column.to_pylist()):
        try:
            made.append(convert(cell))
        except ValueError as error:
            made.append(None)
            odd[row] = str(error)
    return made, odd


def _text(column: "pa.Array") -> "pa.Array | None":
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    alike = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    return column.cast(pa.string()) if any(one(kind) for one in alike) else None


def _moments(column: "pa.Array") -> "tuple[pa.Array, pa.Array]":
    """Moments, and the texts of those that are none: what Arrow reads as `cells.moment` would, others one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known, odd = _plain_moments(column)
    said = pa.nulls(len(column), pa.string())
    if not pc.any(odd).as_py():
        return known, said
    pairs = [CONVERTERS["timestamp"](cell) for cell in column.filter(odd).to_pylist()]
    found, problems = (
        pa.array(one, kind) for one, kind in zip(zip(*pairs, strict=True), (known.type, said.type), strict=True)
    )
    return pc.replace_with_mask(known, odd, found), pc.replace_with_mask(said, odd, problems)


def _plain_moments(column: "pa.Array") -> "tuple[pa.Array, pa.Array]":
    """Moments, as far as Arrow reads them, and which cells it does not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    naive, utc, kind = pa.timestamp("us"), pa.timestamp("us", "UTC"), column.type
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        ends = [pa.scalar(day).cast(naive).cast(pa.timestamp(kind.unit)).cast(kind) for day in (FIRST, LAST)]
        inside = pc.and_(pc.greater_equal(column, ends[0]), pc.less(column, ends[1]))
        column = column.cast(pa.timestamp(kind.unit, "UTC")) if kind.tz else column
        fits = pc.fill_null(inside, True)
    elif pa.types.is_string(kind):
        fits = pc.fill_null(pc.match_substring_regex(column, NAIVE), True)
    else:
        return pa.nulls(len(column), utc), pa.repeat(True, len(column))
    fitting = pc.if_else(fits, column, pa.scalar(None, column.type))
    return fitting.cast(utc if pa.types.is_timestamp(column.type) and column.type.tz else naive).cast(utc), pc.invert(
        fits
    )
