"""Refused rows in a file for a person to mend: written by `evertune quarantine --export`, read back by `--from`."""

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.row_versions import list_own_columns, list_roles, to_arrow_type
from evertune.data.sources.formats import cells
from evertune.data.sources.tables import CONVERTERS
from evertune.errors import DataError
from evertune.objectives import load_objective

if TYPE_CHECKING:
    import pyarrow as pa

OPTIONAL_ROLES = ("id", "timestamp", "group")
JSON_LINES = (".jsonl", ".ndjson")


def write_listing(rows: "pa.Table", path: Path) -> None:
    """Write refused rows with their version, roles, reasons and origin, as JSON Lines or CSV by the file extension.

    In CSV a list is a JSON text.

    Args:
        rows: from `release.list_refused`.
    Raises:
        DataError: `path` cannot be written.
    """
    objective_columns = list_own_columns(rows.column_names)
    used_roles = [role for role in OPTIONAL_ROLES if rows[role].null_count < len(rows)]
    if rows["timestamp_problem"].null_count < len(rows) and "timestamp" not in used_roles:
        used_roles.append("timestamp")
    names = ["row_version", *objective_columns, *used_roles, "reasons", "batch", "source", "source_row"]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix in JSON_LINES:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _format_rows(rows, names))
                return
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for row in _format_rows(rows, names):
                writer.writerow({name: _format_cell(value) for name, value in row.items()})
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; choose another path") from error


def read_mended(path: Path, recipe: Recipe) -> "pa.Table":
    """Return the mended rows: `row_version` and the roles that the file has; an empty CSV cell is a missing value.

    Raises:
        DataError: the file does not exist, was not exported, or has a row that cannot be read.
    """
    import pyarrow as pa

    objective = load_objective(recipe.objective.type)
    rows = list(_read_rows(path))
    if not rows or "row_version" not in rows[0]:
        raise DataError(f"{path}: no column row_version; mend a file that `evertune quarantine --export` wrote")
    for index, row in enumerate(rows):
        if not isinstance(row.get("row_version"), str):
            raise DataError(f"{path}, row {index}: no row_version; keep the value of the exported row")
    columns: dict[str, pa.Array] = {"row_version": pa.array([row["row_version"] for row in rows], pa.string())}
    for role in list_roles(recipe):
        if role not in rows[0]:
            continue
        kind = objective.COLUMNS.get(role, "string")
        values = [_convert_cell(row.get(role), kind, f"{path}, row {index}, {role}") for index, row in enumerate(rows)]
        columns[role] = pa.array(values, to_arrow_type(kind))
    if "timestamp" in columns:
        moments = [_convert_moment(value) for value in columns["timestamp"].to_pylist()]
        columns["timestamp"] = pa.array([moment for moment, _ in moments], pa.timestamp("us", "UTC"))
        columns["timestamp_problem"] = pa.array([problem for _, problem in moments], pa.string())
    return pa.table(columns)


def _format_rows(rows: "pa.Table", names: list[str]) -> Iterator[dict[str, object]]:
    """Yield the named columns of each row, with its moment and its reasons as texts."""
    for row in rows.to_pylist():
        row["timestamp"] = row["timestamp"].isoformat() if row["timestamp"] else row["timestamp_problem"]
        row["reasons"] = "; ".join(row["reasons"])
        yield {name: row[name] for name in names}


def _format_cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _read_rows(path: Path) -> Iterator[dict[str, object]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in JSON_LINES:
                rows = [json.loads(line) for line in file if line.strip()]
                for index, row in enumerate(rows):
                    if not isinstance(row, dict):
                        raise ValueError(f"row {index} is not a JSON object")
                yield from rows
            else:
                csv.field_size_limit(1 << 24)
                yield from csv.DictReader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: {error}; mend a file that `evertune quarantine --export` wrote") from error


def _convert_cell(cell: object, kind: str, location: str) -> object:
    if cell is None or cell == "":
        return None
    try:
        return CONVERTERS[kind](cell)
    except ValueError as error:
        raise DataError(f"{location}: {error}; mend the cell") from error


def _convert_moment(cell: str | None) -> tuple[datetime | None, str | None]:
    """Return the moment, or the text that is no moment: the contract refuses such a row."""
    try:
        return cells.parse_moment(cell), None
    except ValueError:
        return None, cell
