"""Batches on their way into the tables: staged rows, the write-ahead log of a verdict, rows of a stopped batch.

All three are single Parquet files in `home.batches`, put in place by an atomic rename: a crash leaves old or new.

- `NNNNNN-FINGERPRINT.parquet`: fresh rows that no contract has judged yet;
- `judged.parquet`: what a batch adds to both tables, written before the first of its two commits;
- `stopped.parquet`: rows that a batch refused which was stopped as a whole, with their reasons.
"""

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.errors import DataError
from evertune.home import Home
from evertune.records import Batch, digest

if TYPE_CHECKING:
    import pyarrow as pa


def stage(fresh: "pa.Table", home: Home, number: int, notes: dict[str, Any]) -> Batch:
    """Put fresh rows into the staged file of batch `number`.

    Args:
        fresh: rows with their versions.
        notes: `read`, `sources`, `roles`, `shape`: travel in the file.
    Raises:
        DataError: the file cannot be written.
    """
    batch = Batch(
        number=number,
        path=None,
        fingerprint=digest(sorted(fresh["row_version"].to_pylist())),
        rows=fresh.num_rows,
        read=notes["read"],
        sources=notes["sources"],
    )
    path = home.batches / f"{number:06d}-{batch.fingerprint[:12]}.parquet"
    write(path, fresh, {**notes, "number": number, "fingerprint": batch.fingerprint})
    return _at(batch, path)


def waiting(home: Home) -> tuple[Batch, dict[str, Any]] | None:
    """The staged batch and its notes, if there is one."""
    import pyarrow.parquet as pq

    path = next(home.batches.glob("[0-9]*-*.parquet"), None)
    if path is None:
        return None
    meta = pq.read_metadata(path)
    notes = _notes(meta.metadata)
    batch = Batch(notes["number"], str(path), notes["fingerprint"], meta.num_rows, notes["read"], notes["sources"])
    return batch, notes


def load(batch: Batch) -> "pa.Table":
    """The rows of a staged batch.

    Raises:
        DataError: it has been committed, set aside or replaced in the meantime.
    """
    import pyarrow.parquet as pq

    if batch.path is None or not Path(batch.path).exists():
        raise DataError(f"batch {batch.number} is no longer staged: another run took it over; run again")
    return pq.read_table(batch.path)


def write_log(home: Home, batch: Batch, accepted: "pa.Table", refused: "pa.Table") -> None:
    """Write down what a batch adds to the corpus and to the quarantine, before it does."""
    import pyarrow as pa

    parts = {"corpus": accepted, "quarantine": refused}
    marked = [
        rows.append_column("table", pa.array([name] * rows.num_rows, pa.string())) for name, rows in parts.items()
    ]
    notes = {"number": batch.number, "path": batch.path, **{name: rows.column_names for name, rows in parts.items()}}
    write(_log(home), pa.concat_tables(marked, promote_options="default"), notes)


def read_log(home: Home) -> "tuple[int, str | None, pa.Table, pa.Table] | None":
    """Number, staged file, corpus rows and quarantine rows of the batch whose commit was begun, if there is one."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not _log(home).exists():
        return None
    table = pq.read_table(_log(home))
    notes = _notes(table.schema.metadata)
    table = table.replace_schema_metadata()
    rows = [table.filter(pc.equal(table["table"], name)).select(notes[name]) for name in ("corpus", "quarantine")]
    return notes["number"], notes["path"], rows[0], rows[1]


def read_stopped(home: Home) -> "pa.Table | None":
    """Rows that a stopped batch refused, with their reasons, if there is one."""
    import pyarrow.parquet as pq

    path = _stopped(home)
    return pq.read_table(path).replace_schema_metadata() if path.exists() else None


def write_stopped(home: Home, rows: "pa.Table") -> None:
    """Keep the refused rows of a stopped batch."""
    write(_stopped(home), rows, {})


def forget_stopped(home: Home) -> None:
    """The stopped rows have another place now."""
    _stopped(home).unlink(missing_ok=True)


def forget_staged(home: Home) -> None:
    """The staged rows have another place now."""
    for path in home.batches.glob("[0-9]*-*.parquet"):
        path.unlink(missing_ok=True)


def forget_log(home: Home) -> None:
    """Both tables have the batch."""
    _log(home).unlink(missing_ok=True)


def write(path: Path, rows: "pa.Table", notes: dict[str, Any]) -> None:
    """Write a Parquet file with notes in its metadata, so that it is there whole or not at all.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    import pyarrow.parquet as pq

    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.replace_schema_metadata({"evertune": json.dumps(notes)}), scratch, compression="zstd")
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}; free some space or mend its rights, and run again"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def _at(batch: Batch, path: Path) -> Batch:
    return Batch(batch.number, str(path), batch.fingerprint, batch.rows, batch.read, batch.sources)


def _notes(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    notes: dict[str, Any] = json.loads(metadata[b"evertune"])
    return notes


def _log(home: Home) -> Path:
    return home.batches / "judged.parquet"


def _stopped(home: Home) -> Path:
    return home.batches / "stopped.parquet"
