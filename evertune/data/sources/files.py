"""Files as a source: one file, a folder, a glob. Each file is a piece."""

import glob
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from evertune.config import PathSource, Recipe
from evertune.config.base import expand
from evertune.data.sources.chunk import Layout, Piece, layout, match
from evertune.data.sources.content import content
from evertune.data.sources.formats import arrow as arrow_rows
from evertune.data.sources.formats import conll as conll_rows
from evertune.data.sources.formats import csv as csv_rows
from evertune.data.sources.formats import jsonl as jsonl_rows
from evertune.data.sources.formats import paragraphs as paragraph_rows
from evertune.data.sources.formats.text_file import File
from evertune.data.sources.tables import named, role_tables
from evertune.errors import DataError
from evertune.records import digest

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS: dict[str, ModuleType] = {
    "csv": csv_rows,
    "tsv": csv_rows,
    "jsonl": jsonl_rows,
    "parquet": arrow_rows,
    "conll": conll_rows,
    "text": paragraph_rows,
}
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".txt": "conll",
}

SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` of `datasets` leaves

logger = logging.getLogger(__name__)


def fingerprints(source: PathSource, recipe: Recipe, cache: dict[str, Any]) -> dict[str, str]:
    """What each file of the source holds, from its bytes; `cache` saves reading files of unchanged size and time.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    prints = _prints(source, layout(recipe))
    return {file.name: prints(file, cache) for file in _own(source, recipe)}


def read(source: PathSource, recipe: Recipe, seen: dict[str, str], cache: dict[str, Any]) -> Iterator[Piece]:
    """Each file whose fingerprint is not in `seen`; `cache` as for `fingerprints`.

    Raises:
        DataError: a file is missing, broken, or lacks a column.
    """
    wanted = layout(recipe)
    prints = _prints(source, wanted)
    for file in _own(source, recipe):
        fingerprint = prints(file, cache)
        if seen.get(file.name) != fingerprint:
            logger.info("reading %s", file.name)
            named = replace(wanted, folder=file.path.parent)
            yield Piece(file.name, fingerprint, _tables(file, named, source.split, file.name in seen))


def single_file(path: str | Path) -> File:
    """The file at a path, relative to the working folder.

    Raises:
        DataError: no such file, or its ending tells no format.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; check the path (it starts from the working folder)")
    if Path(path).suffix.lower() not in ENDINGS:  # a command has no `format` to set, as a source has
        raise DataError(f"{path}: its ending tells no format; name it with one of {', '.join(ENDINGS)}")
    return File(Path(path), str(path), _format(Path(path), "auto"))


def found(source: PathSource, folder: Path) -> list[File]:
    """The files of a source, in order of their names; a folder's hidden files and its read-me are left out.

    Args:
        folder: what a relative path starts from.
    Raises:
        DataError: nothing is there, or nothing that can be read.
    """
    pattern = expand(source.path)
    target = Path(os.path.normpath(folder / pattern))
    if target.is_dir():
        paths = _inside(target, source, pattern)
    elif target.is_file():
        paths = [target]
    else:
        # For a thousand files `Path` takes some tenths of a second; and its own glob takes no ../ and no /
        matches = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207
        places = (os.path.normpath(os.path.join(folder, one)) for one in matches)  # noqa: PTH118
        paths = sorted(Path(one) for one in places if os.path.isfile(one))  # noqa: PTH113
    if not paths:
        raise DataError(_nothing(pattern, source, target, folder))
    names: dict[Path, str] = {}
    return [_file(path, source, folder, names) for path in paths]


def _inside(target: Path, source: PathSource, pattern: str) -> list[Path]:
    if (target / "_delta_log").is_dir():
        raise DataError(f"{pattern}: this folder is a Delta table; write `delta: {pattern}` instead of `path:`")
    if any((target / name).is_file() for name in SAVED):
        raise DataError(
            f"{pattern}: this folder was saved by `datasets`; write `hub: {pattern}` instead of `path:`, "
            "or give the data as files (`to_parquet`)"
        )
    shown = [path for path in sorted(target.rglob("*")) if path.is_file() and not _hidden(path.relative_to(target))]
    data = [path for path in shown if not _beside_data(path)]
    return [path for path in data if source.format != "auto" or path.suffix.lower() in ENDINGS]


def _beside_data(path: Path) -> bool:
    """Whether a file of a folder tells about its data: a read-me, a licence, what `datasets` keeps beside its files."""
    name = path.name.lower()
    return name in {*SAVED, "dataset_info.json", "dataset_infos.json"} or (
        path.suffix in {"", ".txt", ".md"} and name.startswith(("readme", "license", "licence"))
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _nothing(pattern: str, source: PathSource, target: Path, folder: Path) -> str:
    if target.is_dir():
        known = ", ".join(ENDINGS)
        return f"{pattern}: no data files in this folder; put files in it that end in {known}, or set `format`"
    if glob.has_magic(pattern):
        return f"{pattern}: no file matches this pattern; check it (it starts from {folder})"
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
    missing = "" if parent == target.parent else f" (of its folders, {parent.name or parent} is the last that exists)"
    return f"{pattern}: no such file{missing}; check the path (it starts from {folder})"


def _file(path: Path, source: PathSource, folder: Path, names: dict[Path, str]) -> File:
    """The file; `names` keeps what the folders of others are called."""
    if path.parent not in names:
        inside = path.is_relative_to(folder) or not Path(expand(source.path)).is_absolute()
        names[path.parent] = Path(os.path.relpath(path.parent, folder) if inside else path.parent).as_posix()
    name = path.name if names[path.parent] == "." else f"{names[path.parent].rstrip('/')}/{path.name}"
    fields = None if source.fields is None else tuple(source.fields)
    return File(path, name, _format(path, source.format), source.encoding, fields, source.delimiter, source.block)


def _format(path: Path, format: str) -> str:
    if format == "auto":
        format = ENDINGS.get(path.suffix.lower(), "")
    if format not in FORMATS:
        raise DataError(f"{path.name}: its ending tells no format; set `format` to one of {', '.join(FORMATS)}")
    return format


def _own(source: PathSource, recipe: Recipe) -> list[File]:
    """The files of a source that no earlier source of the recipe has: `test.csv` before `*.csv` is read once."""
    taken: set[Path] = set()
    for other in recipe.data.sources:
        if other is source:
            break
        if isinstance(other, PathSource):
            taken.update(file.path.resolve() for file in found(other, recipe.folder))
    files = found(source, recipe.folder)
    own = [file for file in files if file.path.resolve() not in taken] if taken else files
    if not own:
        raise DataError(f"{source.path}: an earlier source reads all of it already; put the narrower source first")
    return own


def _prints(source: PathSource, wanted: Layout) -> Callable[[File, dict[str, Any]], str]:
    """Gives the fingerprint of a file: what it holds, and how it is read."""
    how = source.model_dump(exclude={"path", "format", *([] if source.block else ["block"])})

    def prints(file: File, cache: dict[str, Any]) -> str:
        return digest(content(file.path, file.name, cache), file.format, how, wanted.columns, wanted.kinds)

    return prints


def _tables(file: File, wanted: Layout, split: str | None, known: bool) -> "Iterator[pa.Table]":
    reader = FORMATS[file.format]
    try:
        columns = match(wanted, reader.names(file), file.name)
    except DataError as error:
        if not known:
            raise
        raise DataError(
            f"{error}\n{file.name} was taken in before, when it or data.columns was another; its rows stay in the "
            "corpus. Have data.sources name the newer files alone, or put the old mapping back"
        ) from None
    if reader in (csv_rows, arrow_rows):
        parts = reader.tables(file, columns, wanted)
    else:
        parts = role_tables(reader.rows(file, columns), wanted)
    return named(parts, file.name, split)
