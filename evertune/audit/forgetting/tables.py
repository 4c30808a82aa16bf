"""Remove rows with forgotten texts from Parquet files that people wrote into the home, such as scores."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.data.corpus.parquet_chunks import explain_write_errors
from evertune.data.text_matching import TextMatcher
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # read at a time


def find_tables(home: Home, texts: TextMatcher) -> Iterator[Path]:
    """Yield the Parquet files that show one of the texts, without those of the corpus and of models."""
    own_folders = (home.corpus, home.quarantine, home.batches)
    for path in sorted(home.model.rglob("*.parquet")):
        parts = set(path.relative_to(home.model).parts)
        is_internal = {"bundle", "checkpoints"} & parts or (path.parent / "_delta_log").exists()
        if (
            path.is_file()
            and not is_internal
            and not any(folder in path.parents for folder in own_folders)
            and any(_match_table(path, texts))
        ):
            yield path


def clean_tables(home: Home, texts: TextMatcher) -> int:
    """Rewrite each file without the rows and return the number of files.

    Raises:
        DataError: a file cannot be written.
    """
    paths = list(find_tables(home, texts))
    for path in paths:
        _rewrite_table(path, texts)
    return len(paths)


def _rewrite_table(path: Path, texts: TextMatcher) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with explain_write_errors(path):
        try:
            with pq.ParquetFile(path) as file, pq.ParquetWriter(scratch, file.schema_arrow) as writer:
                for batch in file.iter_batches(ROWS):
                    is_kept = pa.array([not is_shown for is_shown in _match_rows(batch, texts)], pa.bool_())
                    writer.write_batch(batch.filter(is_kept))
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def _match_table(path: Path, texts: TextMatcher) -> Iterator[bool]:
    """Yield for each row of a file whether it shows a text; nothing for a file that is not Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                yield from _match_rows(batch, texts)
    except pa.ArrowInvalid:
        return


def _match_rows(batch: "pa.RecordBatch", texts: TextMatcher) -> list[bool]:
    rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return [any(map(texts.matches_value, filter(None, map(_cell_text, row)))) for row in rows]


def _cell_text(value: object) -> str:
    """Return a cell as text: of a list its words, of other values nothing."""
    if isinstance(value, list):
        return " ".join(map(_cell_text, value))
    return value if isinstance(value, str) else ""
