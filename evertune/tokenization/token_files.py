"""Token files: one for each part of a batch, and one for each group of small old batches. Rows are found by batch."""

import logging
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import DataError
from evertune.records import Tokens

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets.table import MemoryMappedTable
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)
PARTS = 1_000_000  # more parts than a batch can have
GROUP = 32  # successive batches that share a file, once there are newer ones ...
SMALL = 100_000  # ... and if they have at most this many rows
NAME = "group-"


def assign_files(rows: "pa.Table", groups: Collection[int] = ()) -> "Iterator[tuple[str, NDArray[np.int64]]]":
    """Yield each file's name and the indices of its rows, in the order of the corpus.

    Args:
        rows: with `batch` and `part`.
        groups: numbers of the groups whose batches share a file.
    """
    import numpy as np

    batch = rows["batch"].to_numpy().astype(np.int64)
    group = (batch - 1) // GROUP
    is_grouped = np.isin(group, list(groups))
    numbers = np.where(is_grouped, group * GROUP * PARTS, batch * PARTS + rows["part"].to_numpy())
    order = np.argsort(numbers, kind="stable")
    distinct_numbers, starts = np.unique(numbers[order], return_index=True)
    for number, indices in zip(distinct_numbers.tolist(), np.split(order, starts[1:]), strict=True):
        first = indices[0]
        if is_grouped[first]:
            yield f"{NAME}{group[first]:06d}", indices
        else:
            yield f"{number // PARTS:06d}-{number % PARTS:03d}", indices


def find_closed_groups(rows: "pa.Table") -> list[int]:
    """Return the numbers of the groups of small batches after which there are newer batches."""
    import numpy as np

    group = (rows["batch"].to_numpy().astype(np.int64) - 1) // GROUP
    numbers, counts = np.unique(group, return_counts=True)
    return [number for number, count in zip(numbers[:-1].tolist(), counts[:-1], strict=True) if count <= SMALL]


def contains_rows(path: Path, versions: "pa.ChunkedArray") -> bool:
    """Whether the file has all these rows; a damaged file has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        with pa.memory_map(str(path)) as source:
            stored_versions = pa.ipc.open_stream(source).read_all().column("row_version")
            return bool(pc.all(pc.is_in(versions, value_set=stored_versions.combine_chunks())).as_py())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s is damaged (%s): encoding its rows again", path.name, str(error).splitlines()[0])
        return False


def join_group(path: Path, versions: "pa.ChunkedArray") -> bool:
    """Join the files of a group's batches into the group's file, and return whether it has all these rows.

    The batches' files stay for processes that are reading them; `evertune clean` removes them.
    """
    import pyarrow as pa

    if not path.stem.startswith(NAME):
        return False
    number = int(path.stem.removeprefix(NAME))
    batch_files = [file for file in path.parent.glob("[0-9]*-[0-9]*.arrow") if _group_of(file) == number]
    tables = []
    for batch_file in sorted(batch_files):
        try:
            with pa.memory_map(str(batch_file)) as source:
                tables.append(pa.ipc.open_stream(source).read_all())
        except (OSError, ValueError):
            return False
    if not tables:
        return False
    scratch = path.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
    joined_table = pa.concat_tables(tables).combine_chunks()
    with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_stream(sink, joined_table.schema) as writer:
        writer.write_table(joined_table)
    scratch.replace(path)
    return contains_rows(path, versions)


def _group_of(path: Path) -> int:
    return (int(path.stem.partition("-")[0]) - 1) // GROUP


def open_tables(tokens: Tokens) -> "dict[str, MemoryMappedTable]":
    """Return the token files by name, as memory-mapped tables of `datasets`.

    Raises:
        DataError: a file is gone or damaged.
    """
    from datasets.table import MemoryMappedTable

    try:
        return {Path(file).stem: MemoryMappedTable.from_file(file) for file in tokens.files}
    except (OSError, ValueError) as error:
        raise DataError(f"a token file cannot be read ({error}); run again to encode its rows again") from error


def locate_rows(tables: "dict[str, MemoryMappedTable]", rows: "pa.Table") -> "NDArray[np.int64]":
    """Return each row's position in the concatenated tables; looked up file by file, so that memory is bounded.

    Args:
        tables: file name -> table.
        rows: with `row_version`, `batch` and `part`.
    Raises:
        DataError: a row is in no file.
    """
    import numpy as np
    import pyarrow.compute as pc

    ends = np.cumsum([len(table) for table in tables.values()], dtype=np.int64)
    starts = {name: int(end) - len(table) for (name, table), end in zip(tables.items(), ends, strict=True)}
    positions = np.empty(len(rows), np.int64)
    groups = [int(name.removeprefix(NAME)) for name in tables if name.startswith(NAME)]
    for name, indices in assign_files(rows, groups):
        versions = rows.column("row_version").take(indices)
        stored_column = tables[name].column("row_version") if name in tables else versions[:0]
        stored_versions = stored_column.combine_chunks()
        offsets = pc.index_in(versions, value_set=stored_versions)
        if offsets.null_count:
            missing = versions.filter(pc.is_null(offsets))[0].as_py()
            raise DataError(f"no token file has the row {missing!r}; run again to encode it")
        positions[indices] = starts[name] + offsets.to_numpy()
    return positions


def find_joined_files(folder: Path) -> Iterator[Path]:
    """Yield the files of batches whose rows are also in their group's file."""
    groups = {int(group_file.stem.removeprefix(NAME)) for group_file in folder.glob(f"{NAME}*.arrow")}
    yield from (batch_file for batch_file in folder.glob("[0-9]*-[0-9]*.arrow") if _group_of(batch_file) in groups)
