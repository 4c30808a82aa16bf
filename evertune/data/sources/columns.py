"""Convert Arrow columns to tables of roles: whole columns at once where Arrow and the rules for cells agree."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from evertune.data.row_versions import to_arrow_type
from evertune.data.sources.chunk import Layout
from evertune.data.sources.tables import CONVERTERS, get_converter
from evertune.records import compute_digest

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

# ISO moments that Arrow and Python parse alike; all others are parsed one by one
DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
NAIVE = rf"^[12]\d{{3}}-{DAY}[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{{6}}|\.\d{{3}})?\z"
FIRST = "1000-01-01"  # Python's datetime can represent Arrow's timestamps from FIRST to LAST
LAST = "3000-01-01"


def convert_columns(columns: "Sequence[pa.Array]", row_numbers: Sequence[int], layout: Layout) -> "pa.Table":
    """Return the rows as a table of roles with `source_row`, `problem` and `problem_digest`.

    Args:
        columns: one per role, in the layout's order.
        row_numbers: the number of each row in its source.
    """
    import pyarrow as pa

    arrays = {}
    problems = dict[int, str]()
    for (role, kind), column in zip(layout.kinds.items(), columns, strict=True):
        if kind == "timestamp":
            arrays[role], arrays[f"{role}_problem"] = _convert_moments(column)
            continue
        arrays[role], cell_errors = _convert_column(column, kind, layout)
        for index, error in cell_errors.items():
            problem = f"row {row_numbers[index]}, column {layout.columns[role]}: {error}; mend the cell"
            problems.setdefault(index, problem)
    problem_digests = {index: compute_digest([str(column[index].as_py()) for column in columns]) for index in problems}
    arrays["source_row"] = pa.array(row_numbers, pa.int64())
    arrays["problem"] = _spread_texts(problems, len(columns[0]))
    arrays["problem_digest"] = _spread_texts(problem_digests, len(columns[0]))
    return pa.table(arrays)


def _spread_texts(texts_by_row: Mapping[int, str], size: int) -> "pa.Array":
    """Return a column of `size` rows with these texts, null elsewhere."""
    import pyarrow as pa

    if not texts_by_row:
        return pa.nulls(size, pa.string())
    return pa.array([texts_by_row.get(index) for index in range(size)], pa.string())


def _convert_column(column: "pa.Array", kind: str, layout: Layout) -> "tuple[pa.Array, dict[int, str]]":
    """Return the column converted to its kind, and the errors of single cells by row index."""
    import pyarrow as pa

    text = _cast_to_text(column) if kind == "string" else None
    if text is not None:
        return text, {}
    values, cell_errors = _convert_cells(column, get_converter(kind, layout.folder))
    return pa.array(values, to_arrow_type(kind)), cell_errors


def _convert_cells(column: "pa.Array", convert: Callable[[object], object]) -> tuple[list[object], dict[int, str]]:
    values = list[object]()
    cell_errors = dict[int, str]()
    for index, cell in enumerate(column.to_pylist()):
        try:
            values.append(convert(cell))
        except ValueError as error:
            values.append(None)
            cell_errors[index] = str(error)
    return values, cell_errors


def _cast_to_text(column: "pa.Array") -> "pa.Array | None":
    """Return the column as strings, or None where Arrow writes values of its type differently from Python."""
    import pyarrow as pa

    value_type = column.type
    if pa.types.is_dictionary(value_type):
        value_type = value_type.value_type
    type_checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_null,
    )
    return column.cast(pa.string()) if any(is_type(value_type) for is_type in type_checks) else None


def _convert_moments(column: "pa.Array") -> "tuple[pa.Array, pa.Array]":
    """Return the moments, and the text of each cell that is no moment.

    Arrow parses the cells on which it agrees with `cells.parse_moment`; the others are parsed one by one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    moments, unparsed_mask = _parse_plain_moments(column)
    problem_texts = pa.nulls(len(column), pa.string())
    if not pc.any(unparsed_mask).as_py():
        return moments, problem_texts
    converted = [CONVERTERS["timestamp"](cell) for cell in column.filter(unparsed_mask).to_pylist()]
    pairs = cast("list[tuple[datetime | None, str | None]]", converted)
    other_moments = pa.array([moment for moment, _ in pairs], moments.type)
    other_problems = pa.array([problem for _, problem in pairs], problem_texts.type)
    return (
        pc.replace_with_mask(moments, unparsed_mask, other_moments),
        pc.replace_with_mask(problem_texts, unparsed_mask, other_problems),
    )


def _parse_plain_moments(column: "pa.Array") -> "tuple[pa.Array, pa.Array]":
    """Return the moments that Arrow parses as Python would, else null, and a mask of the unparsed cells."""
    import pyarrow as pa
    import pyarrow.compute as pc

    naive = pa.timestamp("us")
    utc = pa.timestamp("us", "UTC")
    cell_type = column.type
    if pa.types.is_timestamp(cell_type) and cell_type.unit != "ns":
        unit = pa.timestamp(cell_type.unit)
        first, last = (pa.scalar(day).cast(naive).cast(unit).cast(cell_type) for day in (FIRST, LAST))
        is_inside = pc.and_(pc.greater_equal(column, first), pc.less(column, last))
        column = column.cast(pa.timestamp(cell_type.unit, "UTC")) if cell_type.tz else column
        fits = pc.fill_null(is_inside, True)
    elif pa.types.is_string(cell_type):
        fits = pc.fill_null(pc.match_substring_regex(column, NAIVE), True)
    else:
        return pa.nulls(len(column), utc), pa.repeat(True, len(column))
    fitting = pc.if_else(fits, column, pa.scalar(None, column.type))
    has_zone = pa.types.is_timestamp(column.type) and column.type.tz
    return fitting.cast(utc if has_zone else naive).cast(utc), pc.invert(fits)
