"""Refused rows as a file that a person mends: written by `evertune quarantine --export`, read back by `--release`."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.row_versions import list_own_columns, list_roles, to_arrow_type
from evertune.data.sources.formats import cells
from evertune.data.sources.tables import CONVERTERS
from evertune.errors import DataError
from evertune.objectives import load_objective

if TYPE_CHECKING:
    import pyarrow as pa

OPTIONAL = ("id", "timestamp", "group")
LINES = (".jsonl", ".ndjson")


def write_listing(rows: "pa.Table", path: Path) -> None:
    """Write refused rows: their version, roles, reasons and origin. In CSV a list is a JSON text.

    Args:
        rows: from `quarantine.listing`.
    Raises:
        DataError: `path` cannot be written.
    """
    objective_columns = list_own_columns(rows.column_names)
    used_roles = [role for role in OPTIONAL if rows[role].null_count < len(rows)]
    if rows["timestamp_problem"].null_count < len(rows) and "timestamp" not in used_roles:
        used_roles.append("timestamp")
    names = ["row_version", *objective_columns, *used_roles, "reasons", "batch", "source", "source_row"]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix in LINES:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _format_rows(rows, names))
                return
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(
                {name: _format_cell(value) for name, value in row.items()} for row in _format_rows(rows, names)
            )
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; choose another place") from error


def read_mended(path: Path, recipe: Recipe) -> "pa.Table":
    """Mended rows: `row_version` and the roles that the file has; an empty CSV cell is a missing value.

    Raises:
        DataError: no such file, or a row that cannot be read.
    """
    import pyarrow as pa

    kinds = {role: load_objective(recipe.objective.type).COLUMNS.get(role, "string") for role in list_roles(recipe)}
    rows = list(_read_rows(path))
    if not rows or "row_version" not in rows[0]:
        raise DataError(f"{path}: it has no column row_version; mend a file that `evertune quarantine --export` wrote")
    if nameless_rows := [index for index, row in enumerate(rows) if not isinstance(row.get("row_version"), str)]:
        raise DataError(f"{path}, row {nameless_rows[0]}: it has no row_version; a mended row keeps that of the export")
    columns: dict[str, Any] = {"row_version": pa.array([row["row_version"] for row in rows], pa.string())}
    for role in [role for role in kinds if role in rows[0]]:
        values = [
            _convert_cell(row.get(role), kinds[role], f"{path}, row {index}, {role}") for index, row in enumerate(rows)
        ]
        columns[role] = pa.array(values, to_arrow_type(kinds[role]))
    if "timestamp" in columns:
        moments = [_convert_moment(value) for value in columns["timestamp"].to_pylist()]
        columns["timestamp"] = pa.array([pair[0] for pair in moments], pa.timestamp("us", "UTC"))
        columns["timestamp_problem"] = pa.array([pair[1] for pair in moments], pa.string())
    return pa.table(columns)


def _format_rows(rows: "pa.Table", names: list[str]) -> Iterator[dict[str, Any]]:
    for row in rows.to_pylist():
        moment = row["timestamp"].isoformat() if row["timestamp"] else row["timestamp_problem"]
        yield {name: {**row, "timestamp": moment, "reasons": "; ".join(row["reasons"])}[name] for name in names}


def _format_cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in LINES:
                rows = [json.loads(line) for line in file if line.strip()]
                if broken_rows := [index for index, row in enumerate(rows) if not isinstance(row, dict)]:
                    raise ValueError(f"row {broken_rows[0]} is no JSON object")
                yield from rows
            else:
                csv.field_size_limit(1 << 24)
                yield from csv.DictReader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: {error}; mend a file that `evertune quarantine --export` wrote") from error


def _convert_cell(cell: Any, kind: str, location: str) -> Any:
    if cell is None or cell == "":
        return None
    try:
        return CONVERTERS[kind](cell)
    except ValueError as error:
        raise DataError(f"{location}: {error}; mend the cell") from error


def _convert_moment(cell: str | None) -> tuple[Any, str | None]:
    try:
        return cells.parse_moment(cell), None
    except ValueError:
        return None, cell
