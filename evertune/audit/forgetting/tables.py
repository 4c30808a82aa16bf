"""Parquet files that people had written into the home, such as scores: their rows that show a forgotten text go."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.data.corpus.parquet_chunks import writable
from evertune.data.text_matching import Texts
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # read at a time


def showing(home: Home, texts: Texts) -> Iterator[Path]:
    """Those that show one of the texts; what the corpus and models are made of is not among them."""
    own = (home.corpus, home.quarantine, home.batches)
    for path in sorted(home.model.rglob("*.parquet")):
        inside = set(path.relative_to(home.model).parts)
        made = {"bundle", "checkpoints"} & inside or (path.parent / "_delta_log").exists()
        if path.is_file() and not made and not any(folder in path.parents for folder in own) and any(_out(path, texts)):
            yield path


def clean(home: Home, texts: Texts) -> int:
    """Write each anew without the rows; gives the number of files.

    Raises:
        DataError: a file cannot be written.
    """
    found = list(showing(home, texts))
    for path in found:
        _rewrite(path, texts)
    return len(found)


def _rewrite(path: Path, texts: Texts) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with writable(path):
        try:
            with pq.ParquetFile(path) as file, pq.ParquetWriter(scratch, file.schema_arrow) as made:
                for part in file.iter_batches(ROWS):
                    made.write_batch(part.filter(pa.array([not one for one in _shown(part, texts)], pa.bool_())))
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def _out(path: Path, texts: Texts) -> Iterator[bool]:
    """Which rows of a file show a text; none of a file that is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for part in file.iter_batches(ROWS):
                yield from _shown(part, texts)
    except pa.ArrowInvalid:
        return


def _shown(part: "pa.RecordBatch", texts: Texts) -> list[bool]:
    rows = zip(*(column.to_pylist() for column in part.columns), strict=True)
    return [any(map(texts.shows, filter(None, map(_text, row)))) for row in rows]


def _text(value: Any) -> str:
    """A cell as text; of lists the words, of other values none."""
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return value if isinstance(value, str) else ""
