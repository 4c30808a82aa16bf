"""Remove values of rows from a table's log: Delta's compaction writes the lowest and highest text of a file into it."""

import contextlib
import io
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict, cast

from evertune.data.corpus.parquet_chunks import explain_write_errors
from evertune.runtime.files import write_atomic

BOUNDS = ("minValues", "maxValues")
ACTIONS = ("add", "remove")


class _FileAction(TypedDict, total=False):
    """A file that a commit adds to the table or removes from it."""

    stats: str | None  # JSON
    stats_parsed: object


def remove_bounds(table: Path) -> None:
    """Remove the bounds of columns from every entry and checkpoint of the log, each file atomically.

    Raises:
        DataError: a file of the log cannot be written.
    """
    folder = table / "_delta_log"
    with explain_write_errors(table):
        for leftover in [*folder.glob("*.tmp"), *folder.glob(".*.????????")]:  # of processes that were killed
            leftover.unlink()
        for path in sorted(folder.glob("*.json")):
            _strip_entry(path)
        for path in sorted(folder.glob("*.checkpoint*.parquet")):
            _strip_checkpoint(path)


def _strip_entry(path: Path) -> None:
    before = path.read_text(encoding="utf-8")
    after = "".join(map(_strip_line, io.StringIO(before)))  # `splitlines` would split at characters such as U+2028
    if after != before:
        write_atomic(path, after)


def _strip_line(line: str) -> str:
    if not any(name in line for name in BOUNDS):
        return line
    action = json.loads(line)
    for change in _find_changes(action):
        change["stats"] = _keep_counts(change["stats"])
    return json.dumps(action, ensure_ascii=False, separators=(",", ":")) + "\n"


def _strip_checkpoint(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    rows = table.to_pylist()
    changes = [change for row in rows for change in _find_changes(row)]
    if not changes:
        return
    for change in changes:
        change["stats"] = _keep_counts(change["stats"])
        change.pop("stats_parsed", None)  # the same in another writer's form
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with contextlib.ExitStack() as stack:
        stack.callback(scratch.unlink, missing_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), scratch, compression="snappy")
        scratch.replace(path)


def _find_changes(action: Mapping[str, object]) -> Iterator[_FileAction]:
    """Yield what an action adds or removes, if it has bounds."""
    for name in ACTIONS:
        change = cast("_FileAction | None", action.get(name))
        if not change:
            continue
        stats = change.get("stats") or ""
        if change.get("stats_parsed") or any(bound in stats for bound in BOUNDS):
            yield change


def _keep_counts(stats: str | None) -> str | None:
    """Return statistics of a file without the bounds of its columns."""
    parsed = json.loads(stats) if stats else {}
    return json.dumps({"numRecords": parsed["numRecords"]}) if "numRecords" in parsed else None
