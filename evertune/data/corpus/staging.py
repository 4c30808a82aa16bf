"""Batches on their way into the tables: staged rows, the write-ahead log of a verdict, rows of a stopped batch.

All are Parquet files in `home.batches`, put in place by an atomic rename: a crash leaves old or new.

- `NNNNNN-FINGERPRINT.parquet`: fresh rows that no contract has judged yet;
- `judged.parquet`, beside `judged-rows.parquet` and `judged-splits.parquet`: what a batch adds to the quarantine and to
  the corpus, written before the first of its two commits;
- `stopped.parquet`: rows that a batch refused which was stopped as a whole, with their reasons.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.data.columns.chunks import RowReader, zip_columns
from evertune.data.corpus.parquet_chunks import PART, ChunkFile, read_notes, rows_of
from evertune.errors import DataError
from evertune.records import Batch
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 20_000  # accepted rows of a batch that are tokenised, and kept, together


def stage_batch(fresh_rows: ChunkFile, home: Home, fingerprint: str, notes: dict[str, Any]) -> Batch:
    """Put fresh rows into the staged file of a batch.

    Args:
        fresh: rows with their versions and positions.
        fingerprint: of the row versions.
        notes: `number`, `read`, `sources`, `roles`, `splits`, `shape`: travel in the file.
    Raises:
        DataError: the file cannot be written.
    """
    number = notes["number"]
    path = home.batches / f"{number:06d}-{fingerprint[:12]}.parquet"
    fresh_rows.publish_as(path, {**notes, "fingerprint": fingerprint})
    return Batch(number, str(path), fingerprint, fresh_rows.rows, notes["read"], notes["sources"])


def find_staged_batch(home: Home) -> tuple[Batch, dict[str, Any]] | None:
    """The staged batch and its notes, if there is one."""
    import pyarrow.parquet as pq

    path = next(home.batches.glob("[0-9]*-*.parquet"), None)
    if path is None:
        return None
    notes = read_notes(path)
    rows = pq.read_metadata(path).num_rows
    return Batch(notes["number"], str(path), notes["fingerprint"], rows, notes["read"], notes["sources"]), notes


def open_batch(batch: Batch) -> tuple[RowReader, list[str]]:
    """Reads the rows of a staged batch; the names of their columns.

    Raises:
        DataError: it has been committed, set aside or replaced in the meantime.
    """
    import pyarrow.parquet as pq

    if batch.path is None or not Path(batch.path).exists():
        raise DataError(f"batch {batch.number} is no longer staged: another run took it over; run again")
    return rows_of(Path(batch.path)), list(pq.read_schema(batch.path).names)


@dataclass(frozen=True)
class BatchLog:
    """What a batch adds to both tables.

    Args:
        number, path: of the batch, and of its staged file.
        corpus: reads the rows for the corpus; names: of their columns.
        quarantine: the rows for the quarantine.
    """

    number: int
    path: str | None
    corpus: RowReader
    names: list[str]
    quarantine: "pa.Table"


def write_log(home: Home, batch: Batch, accepted: ChunkFile, split_columns: "pa.Table", refused: "pa.Table") -> None:
    """Write down what a batch adds to the corpus and to the quarantine, before it does.

    Args:
        dealt: more columns of the accepted rows.
    """
    split_file = ChunkFile(home.batches)
    try:
        for start in range(0, max(1, len(split_columns)), PART):
            split_file.add_rows(split_columns.slice(start, PART))
        split_file.publish_as(_part_path(home, "splits"))
    finally:
        split_file.drop_file()
    accepted.publish_as(_part_path(home, "rows"))
    # the last one: where it is, the others are
    write_table(_log_path(home), refused, {"number": batch.number, "path": batch.path})


def read_log(home: Home) -> BatchLog | None:
    """What was written down of the batch whose commit was begun, if there is one."""
    import pyarrow.parquet as pq

    if not _log_path(home).exists():
        return None
    notes = read_notes(_log_path(home))
    paths = [_part_path(home, name) for name in ("rows", "splits")]
    column_names = [list(pq.read_schema(path).names) for path in paths]

    def read_both(names: Sequence[str]) -> "Iterator[pa.Table]":
        first, second = ([name for name in file_columns if name in names] for file_columns in column_names)
        for chunk in zip_columns(rows_of(paths[0]), first, rows_of(paths[1]), second):
            yield chunk.select(list(names))

    refused = pq.read_table(_log_path(home)).replace_schema_metadata()
    return BatchLog(notes["number"], notes["path"], read_both, [*column_names[0], *column_names[1]], refused)


def read_stopped(home: Home) -> "pa.Table | None":
    """Rows that a stopped batch refused, with their reasons, if there is one."""
    import pyarrow.parquet as pq

    path = _stopped_path(home)
    return pq.read_table(path).replace_schema_metadata() if path.exists() else None


def write_stopped(home: Home, rows: "pa.Table") -> None:
    """Keep the refused rows of a stopped batch."""
    write_table(_stopped_path(home), rows, {})


def forget_stopped(home: Home) -> None:
    """The stopped rows have another place now."""
    _stopped_path(home).unlink(missing_ok=True)


def forget_staged(home: Home) -> None:
    """The staged rows have another place now."""
    for path in home.batches.glob("[0-9]*-*.parquet"):
        path.unlink(missing_ok=True)


def forget_log(home: Home) -> None:
    """Both tables have the batch."""
    for path in (_log_path(home), _part_path(home, "rows"), _part_path(home, "splits")):
        path.unlink(missing_ok=True)


def write_table(path: Path, rows: "pa.Table", notes: dict[str, Any]) -> None:
    """Write a Parquet file with notes in its metadata, so that it is there whole or not at all.

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
    """The rows with the columns `batch` and `part`."""

    def read_numbered(names: Sequence[str]) -> "Iterator[pa.Table]":
        import pyarrow as pa
        import pyarrow.compute as pc

        for chunk in rows([name for name in names if name not in {"batch", "part"}]):
            batch_column = pa.repeat(pa.scalar(number, pa.int64()), len(chunk))
            part_column = pc.divide(chunk["position"], PART_ROWS)
            yield chunk.append_column("batch", batch_column).append_column("part", part_column)

    return read_numbered
