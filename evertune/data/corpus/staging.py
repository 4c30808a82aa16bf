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

from evertune.data.columns.chunks import Rows, beside
from evertune.data.corpus.parquet_chunks import PART, PartsFile, notes_of, rows_of
from evertune.errors import DataError
from evertune.records import Batch
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 20_000  # accepted rows of a batch that are tokenised, and kept, together


def stage(fresh: PartsFile, home: Home, fingerprint: str, notes: dict[str, Any]) -> Batch:
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
    fresh.put(path, {**notes, "fingerprint": fingerprint})
    return Batch(number, str(path), fingerprint, fresh.rows, notes["read"], notes["sources"])


def waiting(home: Home) -> tuple[Batch, dict[str, Any]] | None:
    """The staged batch and its notes, if there is one."""
    import pyarrow.parquet as pq

    path = next(home.batches.glob("[0-9]*-*.parquet"), None)
    if path is None:
        return None
    notes, rows = notes_of(path), pq.read_metadata(path).num_rows
    return Batch(notes["number"], str(path), notes["fingerprint"], rows, notes["read"], notes["sources"]), notes


def load(batch: Batch) -> tuple[Rows, list[str]]:
    """Reads the rows of a staged batch; the names of their columns.

    Raises:
        DataError: it has been committed, set aside or replaced in the meantime.
    """
    import pyarrow.parquet as pq

    if batch.path is None or not Path(batch.path).exists():
        raise DataError(f"batch {batch.number} is no longer staged: another run took it over; run again")
    return rows_of(Path(batch.path)), list(pq.read_schema(batch.path).names)


@dataclass(frozen=True)
class Log:
    """What a batch adds to both tables.

    Args:
        number, path: of the batch, and of its staged file.
        corpus: reads the rows for the corpus; names: of their columns.
        quarantine: the rows for the quarantine.
    """

    number: int
    path: str | None
    corpus: Rows
    names: list[str]
    quarantine: "pa.Table"


def write_log(home: Home, batch: Batch, accepted: PartsFile, dealt: "pa.Table", refused: "pa.Table") -> None:
    """Write down what a batch adds to the corpus and to the quarantine, before it does.

    Args:
        dealt: more columns of the accepted rows.
    """
    more = PartsFile(home.batches)
    try:
        for start in range(0, max(1, len(dealt)), PART):
            more.add(dealt.slice(start, PART))
        more.put(_part(home, "splits"))
    finally:
        more.drop()
    accepted.put(_part(home, "rows"))
    # the last one: where it is, the others are
    write(_log(home), refused, {"number": batch.number, "path": batch.path})


def read_log(home: Home) -> Log | None:
    """What was written down of the batch whose commit was begun, if there is one."""
    import pyarrow.parquet as pq

    if not _log(home).exists():
        return None
    notes, parts = notes_of(_log(home)), [_part(home, name) for name in ("rows", "splits")]
    own = [list(pq.read_schema(part).names) for part in parts]

    def read(names: Sequence[str]) -> "Iterator[pa.Table]":
        first, second = ([name for name in has if name in names] for has in own)
        for part in beside(rows_of(parts[0]), first, rows_of(parts[1]), second):
            yield part.select(list(names))

    refused = pq.read_table(_log(home)).replace_schema_metadata()
    return Log(notes["number"], notes["path"], read, [*own[0], *own[1]], refused)


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
    for path in (_log(home), _part(home, "rows"), _part(home, "splits")):
        path.unlink(missing_ok=True)


def write(path: Path, rows: "pa.Table", notes: dict[str, Any]) -> None:
    """Write a Parquet file with notes in its metadata, so that it is there whole or not at all.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    file = PartsFile(path.parent)
    try:
        file.add(rows)
        file.put(path, notes)
    finally:
        file.drop()


def _part(home: Home, name: str) -> Path:
    return home.batches / f"judged-{name}.parquet"


def _log(home: Home) -> Path:
    return home.batches / "judged.parquet"


def _stopped(home: Home) -> Path:
    return home.batches / "stopped.parquet"


def numbered(rows: Rows, number: int) -> Rows:
    """The rows with the columns `batch` and `part`."""

    def read(names: Sequence[str]) -> "Iterator[pa.Table]":
        import pyarrow as pa
        import pyarrow.compute as pc

        for part in rows([name for name in names if name not in {"batch", "part"}]):
            batch, place = pa.repeat(pa.scalar(number, pa.int64()), len(part)), pc.divide(part["position"], PART_ROWS)
            yield part.append_column("batch", batch).append_column("part", place)

    return read
