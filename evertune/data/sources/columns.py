"""Arrow columns become tables with roles as columns: whole columns where Arrow reads them as a cell's rules do."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evertune.data.row_versions import to_arrow_type
from evertune.data.sources.chunk import Layout
from evertune.data.sources.tables import CONVERTERS, get_converter
from evertune.records import compute_digest

if TYPE_CHECKING:
    import pyarrow as pa

# ISO moments that Arrow and Python read alike; others are read one by one
DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
NAIVE = rf"^[12]\d{{3}}-{DAY}[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{{6}}|\.\d{{3}})?\z"
FIRST = "1000-01-01"  # Arrow's moments between them are Python's too
LAST = "3000-01-01"


def convert_columns(columns: "Sequence[pa.Array]", row_numbers: Sequence[int], role_layout: Layout) -> "pa.Table":
    """The roles of rows, and `source_row`, `problem` and `problem_digest`.

    Args:
        columns: in the layout's order.
        numbers: of the rows.
    """
    import pyarrow as pa

    size = len(columns[0])
    arrays = {}
    problems = dict[int, str]()
    for (role, kind), column in zip(role_layout.kinds.items(), columns, strict=True):
        converted_arrays, cell_errors = _convert_column(column, kind, role_layout)
        for index, error in cell_errors.items():
            problems.setdefault(
                index, f"row {row_numbers[index]}, column {role_layout.columns[role]}: {error}; mend the cell"
            )
        arrays[role] = converted_arrays[0]
        if kind == "timestamp":
            arrays[f"{role}_problem"] = converted_arrays[1]
    problem_digests = {index: compute_digest([str(column[index].as_py()) for column in columns]) for index in problems}
    arrays["source_row"] = pa.array(row_numbers, pa.int64())
    for name, texts_by_row in (("problem", problems), ("problem_digest", problem_digests)):
        arrays[name] = pa.array(
            [texts_by_row.get(index) for index in range(size)] if texts_by_row else pa.nulls(size), pa.string()
        )
    return pa.table(arrays)


def _convert_column(
    column: "pa.Array", kind: str, role_layout: Layout
) -> "tuple[tuple[pa.Array, ...], dict[int, str]]":
    """The column as its kind, a moment with a column of its problems, and what is wrong with single cells."""
    import pyarrow as pa

    if kind == "string" and (text := _cast_to_text(column)) is not None:
        return (text,), {}
    if kind == "timestamp":
        return _convert_moments(column), {}
    values, cell_errors = _convert_cells(column, get_converter(kind, role_layout.folder))
    return (pa.array(values, to_arrow_type(kind)),), cell_errors


def _convert_cells(column: "pa.Array", convert: Callable[[Any], Any]) -> tuple[list[Any], dict[int, str]]:
    values = list[Any]()
    cell_errors = dict[int, str]()
    for index, cell in enumerate(column.to_pylist()):
        try:
            values.append(convert(cell))
        except ValueError as error:
            values.append(None)
            cell_errors[index] = str(error)
    return values, cell_errors


def _cast_to_text(column: "pa.Array") -> "pa.Array | None":
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    type_checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_null,
    )
    return column.cast(pa.string()) if any(is_type(kind) for is_type in type_checks) else None


def _convert_moments(column: "pa.Array") -> "tuple[pa.Array, pa.Array]":
    """Moments, and the texts of those that are none: what Arrow reads as `cells.moment` would, others one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moments, unread_mask = _parse_plain_moments(column)
    problem_texts = pa.nulls(len(column), pa.string())
    if not pc.any(unread_mask).as_py():
        return moments, problem_texts
    pairs = [CONVERTERS["timestamp"](cell) for cell in column.filter(unread_mask).to_pylist()]
    odd_moments, odd_problems = (
        pa.array(values, kind)
        for values, kind in zip(zip(*pairs, strict=True), (moments.type, problem_texts.type), strict=True)
    )
    return pc.replace_with_mask(moments, unread_mask, odd_moments), pc.replace_with_mask(
        problem_texts, unread_mask, odd_problems
    )


def _parse_plain_moments(column: "pa.Array") -> "tuple[pa.Array, pa.Array]":
    """Moments, as far as Arrow reads them, and which cells it does not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    naive = pa.timestamp("us")
    utc = pa.timestamp("us", "UTC")
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        bounds = [pa.scalar(day).cast(naive).cast(pa.timestamp(kind.unit)).cast(kind) for day in (FIRST, LAST)]
        is_inside = pc.and_(pc.greater_equal(column, bounds[0]), pc.less(column, bounds[1]))
        column = column.cast(pa.timestamp(kind.unit, "UTC")) if kind.tz else column
        fits = pc.fill_null(is_inside, True)
    elif pa.types.is_string(kind):
        fits = pc.fill_null(pc.match_substring_regex(column, NAIVE), True)
    else:
        return pa.nulls(len(column), utc), pa.repeat(True, len(column))
    fitting = pc.if_else(fits, column, pa.scalar(None, column.type))
    return fitting.cast(utc if pa.types.is_timestamp(column.type) and column.type.tz else naive).cast(utc), pc.invert(
        fits
    )
