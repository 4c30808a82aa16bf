"""Write and read Parquet files chunk by chunk."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evertune.data.columns.chunks import RowReader
from evertune.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PART = 100_000  # rows in a row group
# Columns whose values are nearly all different: a dictionary would cost time and save nothing.
DISTINCT = {
    "row_version",
    "row_key",
    "text",
    "id",
    "position",
    "source_row",
    "signature",
    "normal_digest",
    "input_digest",
}


class ChunkFile:
    """A file under a hidden name until `publish_as` gives it its own: it exists whole or not at all.

    Args:
        folder: where the file is written.
        compression: codec of the column chunks.
    """

    def __init__(self, folder: Path, compression: str = "lz4") -> None:
        self.path = folder / f".{uuid.uuid4().hex[:16]}.parquet"
        self.rows = 0
        self._compression = compression
        self._writer: pq.ParquetWriter | None = None

    def add_rows(self, chunk: "pa.Table") -> None:
        """Append rows.

        Raises:
            DataError: the disk is full or the folder cannot be written.
        """
        import pyarrow.parquet as pq

        with explain_write_errors(self.path):
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                schema = chunk.schema.remove_metadata()
                dictionary_columns = [name for name in schema.names if name not in DISTINCT]
                self._writer = pq.ParquetWriter(
                    self.path, schema, compression=self._compression, use_dictionary=dictionary_columns
                )
            self._writer.write_table(chunk.replace_schema_metadata(), PART)
        self.rows += len(chunk)

    def publish_as(self, path: Path, notes: Mapping[str, object] | None = None) -> None:
        """Close the file and give it its name.

        Args:
            path: new name, in the same folder.
            notes: JSON-ready values for its metadata; only while the file is not closed.
        Raises:
            DataError: the disk is full or the folder cannot be written.
        """
        with explain_write_errors(path):
            if notes is not None:
                cast("pq.ParquetWriter", self._writer).add_key_value_metadata({"evertune": json.dumps(notes)})
            self.close()
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            self.path.replace(path)

    @property
    def is_closed(self) -> bool:
        """Whether the file is closed: it can be read and takes no more rows or notes."""
        return self.rows > 0 and self._writer is None

    def close(self) -> None:
        """Close the file, so that it can be read."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def drop_file(self) -> None:
        """Delete the file, unless `publish_as` has been called."""
        with contextlib.suppress(OSError):
            self.close()
        self.path.unlink(missing_ok=True)


def rows_of(*paths: Path) -> RowReader:
    """Return a reader of the rows of all files, one after the other."""

    def read_files(names: Sequence[str]) -> "Iterator[pa.Table]":
        import pyarrow.parquet as pq

        for path in paths:
            with pq.ParquetFile(path) as file:
                if not file.num_row_groups:
                    yield file.schema_arrow.remove_metadata().empty_table().select(list(names))
                for group in range(file.num_row_groups):  # `iter_batches` would keep what it has read in memory
                    yield file.read_row_group(group, list(names)).replace_schema_metadata().select(list(names))

    return read_files


def read_notes(path: Path) -> dict[str, object]:
    """Return the notes in a file's metadata."""
    import pyarrow.parquet as pq

    notes: dict[str, object] = json.loads(pq.read_metadata(path).metadata[b"evertune"])
    return notes


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing `path` into an error that says what to do.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}; free some disk space or fix its permissions, and run again"
        ) from error
