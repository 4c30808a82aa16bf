"""Files of batches on their way into the tables: staged rows, the write-ahead log, rows of a stopped batch.

All are Parquet files in `home.batches`, put in place by an atomic rename: a crash leaves the old file or the new one.

- `NNNNNN-FINGERPRINT.parquet`: fresh rows that the contract has not checked yet;
- `judged.parquet`, with `judged-rows.parquet` and `judged-splits.parquet`: what a batch adds to the quarantine and to
  the corpus, written before the first of its two commits;
- `stopped.parquet`: refused rows of a batch that was stopped as a whole, with their reasons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from evertune.data.columns.chunks import RowReader, zip_columns
from evertune.data.corpus.parquet_chunks import PART, ChunkFile, read_notes, rows_of
from evertune.errors import DataError
from evertune.records import Batch
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 20_000  # accepted rows of a batch that are tokenised and stored together


class BatchNotes(TypedDict):
    """What the staged file of a batch holds besides its rows."""

    sources: dict[str, str]  # fingerprints by URI
    roles: list[str]
    splits: dict[str, str | None]  # the split that each source gives its rows, by URI
    number: int
    read: int  # rows that the sources gave, fresh or not
    shape: str  # digest of the settings that decide what is read from the sources


class _StagedNotes(BatchNotes):
    fingerprint: str  # of the row versions


class _LogNotes(TypedDict):
    """What the log of a batch holds besides its rows; see `BatchLog`."""

    number: int
    path: str | None


def stage_batch(fresh_rows: ChunkFile, home: Home, fingerprint: str, notes: BatchNotes) -> Batch:
    """Publish fresh rows as the staged file of a batch.

    Args:
        fresh_rows: with their versions and positions.
        fingerprint: of the row versions.
        notes: are stored in the file.
    Raises:
        DataError: the file cannot be written.
    """
    number = notes["number"]
    path = home.batches / f"{number:06d}-{fingerprint[:12]}.parquet"
    fresh_rows.publish_as(path, {**notes, "fingerprint": fingerprint})
    return Batch(number, str(path), fingerprint, fresh_rows.rows, notes["read"], notes["sources"])


def find_staged_batch(home: Home) -> tuple[Batch, BatchNotes] | None:
    """Return the staged batch and its notes, or None."""
    import pyarrow.parquet as pq

    path = next(home.batches.glob("[0-9]*-*.parquet"), None)
    if path is None:
        return None
    notes = cast(_StagedNotes, read_notes(path))
    rows = pq.read_metadata(path).num_rows
    return Batch(notes["number"], str(path), notes["fingerprint"], rows, notes["read"], notes["sources"]), notes


def open_batch(batch: Batch) -> tuple[RowReader, list[str]]:
    """Return a reader of the rows of a staged batch, and the names of their columns.

    Raises:
        DataError: it has been committed, set aside or replaced in the meantime.
    """
    import pyarrow.parquet as pq

    if batch.path is None or not Path(batch.path).exists():
        raise DataError(f"batch {batch.number} is no longer staged because another run processed it; run again")
    return rows_of(Path(batch.path)), list(pq.read_schema(batch.path).names)


@dataclass(frozen=True)
class BatchLog:
    """What a batch adds to both tables.

    Args:
        number: of the batch.
        path: of its staged file; None for a release.
        corpus: reads the rows for the corpus.
        names: their columns.
        quarantine: the rows for the quarantine.
    """

    number: int
    path: str | None
    corpus: RowReader
    names: list[str]
    quarantine: "pa.Table"


def write_log(home: Home, batch: Batch, accepted: ChunkFile, split_columns: "pa.Table", refused: "pa.Table") -> None:
    """Write what a batch adds to the corpus and to the quarantine, before either table changes.

    Args:
        accepted: rows for the corpus.
        split_columns: more columns of these rows.
        refused: rows for the quarantine.
    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    split_file = ChunkFile(home.batches)
    try:
        for start in range(0, max(1, len(split_columns)), PART):
            split_file.add_rows(split_columns.slice(start, PART))
        split_file.publish_as(_part_path(home, "splits"))
    finally:
        split_file.drop_file()
    accepted.publish_as(_part_path(home, "rows"))
    # Last: if this file exists, the others do.
    write_table(_log_path(home), refused, {"number": batch.number, "path": batch.path})


def read_log(home: Home) -> BatchLog | None:
    """Return the log of the batch whose commit was begun, or None."""
    import pyarrow.parquet as pq

    if not _log_path(home).exists():
        return None
    notes = cast(_LogNotes, read_notes(_log_path(home)))
    paths = [_part_path(home, name) for name in ("rows", "splits")]
    column_names = [list(pq.read_schema(path).names) for path in paths]

    def read_both(names: Sequence[str]) -> "Iterator[pa.Table]":
        first, second = ([name for name in file_columns if name in names] for file_columns in column_names)
        for chunk in zip_columns(rows_of(paths[0]), first, rows_of(paths[1]), second):
            yield chunk.select(list(names))

    refused = pq.read_table(_log_path(home)).replace_schema_metadata()
    return BatchLog(notes["number"], notes["path"], read_both, [*column_names[0], *column_names[1]], refused)


def read_stopped(home: Home) -> "pa.Table | None":
    """Return the refused rows of a stopped batch, with their reasons, or None."""
    import pyarrow.parquet as pq

    path = _stopped_path(home)
    return pq.read_table(path).replace_schema_metadata() if path.exists() else None


def write_stopped(home: Home, rows: "pa.Table") -> None:
    """Store the refused rows of a stopped batch."""
    write_table(_stopped_path(home), rows, {})


def forget_stopped(home: Home) -> None:
    """Delete the stopped rows, once a table or a log has them."""
    _stopped_path(home).unlink(missing_ok=True)


def forget_staged(home: Home) -> None:
    """Delete the staged rows, once a table or a log has them."""
    for path in home.batches.glob("[0-9]*-*.parquet"):
        path.unlink(missing_ok=True)


def forget_log(home: Home) -> None:
    """Delete the log, once both tables have the batch."""
    for path in (_log_path(home), _part_path(home, "rows"), _part_path(home, "splits")):
        path.unlink(missing_ok=True)


def write_table(path: Path, rows: "pa.Table", notes: Mapping[str, object]) -> None:
    """Write a Parquet file with notes in its metadata, so that it exists whole or not at all.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    file = ChunkFile(path.parent)
    try:
        file.add_rows(rows)
        file.publish_as(path, notes)
    finally:
        file.drop_file()


def _part_path(home: Home, name: str) -> Path:
    return home.batches / f"judged-{name}.parquet"


def _log_path(home: Home) -> Path:
    return home.batches / "judged.parquet"


def _stopped_path(home: Home) -> Path:
    return home.batches / "stopped.parquet"


def add_batch_columns(rows: RowReader, number: int) -> RowReader:
    """Return a reader of the rows with the columns `batch` and `part`."""

    def read_numbered(names: Sequence[str]) -> "Iterator[pa.Table]":
        import pyarrow as pa
        import pyarrow.compute as pc

        for chunk in rows([name for name in names if name not in {"batch", "part"}]):
            batch_column = pa.repeat(pa.scalar(number, pa.int64()), len(chunk))
            part_column = pc.divide(chunk["position"], PART_ROWS)
            yield chunk.append_column("batch", batch_column).append_column("part", part_column)

    return read_numbered
