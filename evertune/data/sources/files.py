"""Files as a source: a single file, a folder or a glob pattern. Each file is a piece."""

import glob
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evertune.config import PathSource, Recipe
from evertune.config.base import expand_variables
from evertune.data.sources.chunk import Layout, Piece, RawRow, build_layout, match_columns
from evertune.data.sources.content import FileCache, digest_with_cache
from evertune.data.sources.formats import arrow as arrow_format
from evertune.data.sources.formats import conll, jsonl, paragraphs
from evertune.data.sources.formats import csv as csv_format
from evertune.data.sources.formats.text_file import SourceFile
from evertune.data.sources.tables import add_source_columns, build_role_tables
from evertune.errors import DataError
from evertune.records import compute_digest

if TYPE_CHECKING:
    import pyarrow as pa


class FileFormat(Protocol):
    """What a module of `formats` offers."""

    def read_column_names(self, file: SourceFile) -> list[str]:
        """Return the names of a file's columns."""

    def read_rows(self, file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
        """Yield the cells of the named columns, row by row."""


class ColumnarFormat(FileFormat, Protocol):
    """A format that can also be read as whole columns."""

    def read_tables(self, file: SourceFile, columns: Sequence[str], layout: Layout) -> "Iterator[pa.Table]":
        """Yield the same rows as tables of roles."""


FORMATS: dict[str, FileFormat] = {
    "csv": csv_format,
    "tsv": csv_format,
    "jsonl": jsonl,
    "parquet": arrow_format,
    "conll": conll,
    "text": paragraphs,
}
COLUMNAR_FORMATS: dict[str, ColumnarFormat] = {"csv": csv_format, "tsv": csv_format, "parquet": arrow_format}
EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".txt": "conll",
}

SAVED = ("state.json", "dataset_dict.json")  # files that `save_to_disk` of `datasets` writes

logger = logging.getLogger(__name__)


def fingerprints(source: PathSource, recipe: Recipe, cache: FileCache) -> dict[str, str]:
    """Return the fingerprint of each file of the source.

    Args:
        cache: as for `content.digest_with_cache`; spares reading files whose size and time are unchanged.
    Raises:
        DataError: a file is missing or cannot be read.
    """
    fingerprint_file = _make_fingerprinter(source, build_layout(recipe))
    return {file.name: fingerprint_file(file, cache) for file in _list_own_files(source, recipe)}


def read(source: PathSource, recipe: Recipe, seen: dict[str, str], cache: FileCache) -> Iterator[Piece]:
    """Yield each file whose fingerprint is not in `seen`.

    Args:
        cache: as for `fingerprints`.
    Raises:
        DataError: a file is missing, broken, or lacks a column.
    """
    layout = build_layout(recipe)
    fingerprint_file = _make_fingerprinter(source, layout)
    for file in _list_own_files(source, recipe):
        fingerprint = fingerprint_file(file, cache)
        if seen.get(file.name) != fingerprint:
            logger.info("reading %s", file.name)
            file_layout = replace(layout, folder=file.path.parent)
            yield Piece(file.name, fingerprint, _read_tables(file, file_layout, source.split, file.name in seen))


def find_single_file(path: str | Path) -> SourceFile:
    """Return the file at a path, which is relative to the working folder.

    Raises:
        DataError: the file does not exist, or its extension is unknown.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; check the path (relative to the working folder)")
    if Path(path).suffix.lower() not in EXTENSIONS:  # unlike a source, a command has no `format` to set
        raise DataError(
            f"{path}: cannot tell the format from the file extension; rename the file to end in one of "
            f"{', '.join(EXTENSIONS)}"
        )
    return SourceFile(Path(path), str(path), _infer_format(Path(path), "auto"))


def find_files(source: PathSource, folder: Path) -> list[SourceFile]:
    """Return the files of a source, sorted by name, without a folder's hidden files, README and licence.

    Args:
        folder: the folder that a relative path starts from.
    Raises:
        DataError: no file matches, or none has a known format.
    """
    pattern = expand_variables(source.path)
    target = Path(os.path.normpath(folder / pattern))
    if target.is_dir():
        paths = _list_folder(target, source, pattern)
    elif target.is_file():
        paths = [target]
    else:
        # `Path` is slow for thousands of files, and its glob accepts neither ../ nor absolute patterns
        matches = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207
        candidates = (os.path.normpath(os.path.join(folder, name)) for name in matches)  # noqa: PTH118
        paths = sorted(Path(candidate) for candidate in candidates if os.path.isfile(candidate))  # noqa: PTH113
    if not paths:
        raise DataError(_describe_no_files(pattern, source, target, folder))
    folder_names: dict[Path, str] = {}
    return [_build_file(path, source, folder, folder_names) for path in paths]


def _list_folder(target: Path, source: PathSource, pattern: str) -> list[Path]:
    if (target / "_delta_log").is_dir():
        raise DataError(f"{pattern}: this folder is a Delta table; write `delta: {pattern}` instead of `path:`")
    if any((target / name).is_file() for name in SAVED):
        raise DataError(
            f"{pattern}: this folder was saved by `datasets`; write `hub: {pattern}` instead of `path:`, "
            "or save the data as files (`to_parquet`)"
        )
    visible_paths = [
        path for path in sorted(target.rglob("*")) if path.is_file() and not _is_hidden(path.relative_to(target))
    ]
    data_paths = [path for path in visible_paths if not _is_about_data(path)]
    return [path for path in data_paths if source.format != "auto" or path.suffix.lower() in EXTENSIONS]


def _is_about_data(path: Path) -> bool:
    """Whether a file describes the folder's data: a README, a licence, or metadata of `datasets`."""
    name = path.name.lower()
    return name in {*SAVED, "dataset_info.json", "dataset_infos.json"} or (
        path.suffix in {"", ".txt", ".md"} and name.startswith(("readme", "license", "licence"))
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _describe_no_files(pattern: str, source: PathSource, target: Path, folder: Path) -> str:
    if target.is_dir():
        extensions = ", ".join(EXTENSIONS)
        return f"{pattern}: no data files in this folder; add files that end in {extensions}, or set `format`"
    if glob.has_magic(pattern):
        return f"{pattern}: no file matches this pattern; check the pattern (relative to {folder})"
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
    missing = "" if parent == target.parent else f" (the folder {parent.name or parent} exists, the next one does not)"
    return f"{pattern}: no such file{missing}; check the path (relative to {folder})"


def _build_file(path: Path, source: PathSource, folder: Path, folder_names: dict[Path, str]) -> SourceFile:
    """Return the file of a source.

    Args:
        folder_names: names of folders that were computed for other files; updated in place.
    """
    if path.parent not in folder_names:
        is_inside = path.is_relative_to(folder) or not Path(expand_variables(source.path)).is_absolute()
        folder_names[path.parent] = Path(os.path.relpath(path.parent, folder) if is_inside else path.parent).as_posix()
    name = path.name if folder_names[path.parent] == "." else f"{folder_names[path.parent].rstrip('/')}/{path.name}"
    fields = None if source.fields is None else tuple(source.fields)
    return SourceFile(
        path, name, _infer_format(path, source.format), source.encoding, fields, source.delimiter, source.block
    )


def _infer_format(path: Path, format_name: str) -> str:
    if format_name == "auto":
        format_name = EXTENSIONS.get(path.suffix.lower(), "")
    if format_name not in FORMATS:
        raise DataError(
            f"{path.name}: cannot tell the format from the file extension; set `format` to one of {', '.join(FORMATS)}"
        )
    return format_name


def _list_own_files(source: PathSource, recipe: Recipe) -> list[SourceFile]:
    """Return the files that no earlier source of the recipe has, so that `test.csv` before `*.csv` is read once."""
    earlier_paths: set[Path] = set()
    for other in recipe.data.sources:
        if other is source:
            break
        if isinstance(other, PathSource):
            earlier_paths.update(file.path.resolve() for file in find_files(other, recipe.folder))
    files = find_files(source, recipe.folder)
    own_files = [file for file in files if file.path.resolve() not in earlier_paths] if earlier_paths else files
    if not own_files:
        raise DataError(
            f"{source.path}: an earlier source already reads all of these files; put the narrower source first"
        )
    return own_files


def _make_fingerprinter(source: PathSource, layout: Layout) -> Callable[[SourceFile, FileCache], str]:
    """Return a function that computes a file's fingerprint from its content and how it is read."""
    reading_options = source.model_dump(exclude={"path", "format", *([] if source.block else ["block"])})

    def fingerprint_file(file: SourceFile, cache: FileCache) -> str:
        return compute_digest(
            digest_with_cache(file.path, file.name, cache),
            file.format,
            reading_options,
            layout.columns,
            layout.kinds,
        )

    return fingerprint_file


def _read_tables(file: SourceFile, layout: Layout, split: str | None, was_read: bool) -> "Iterator[pa.Table]":
    reader = FORMATS[file.format]
    try:
        columns = match_columns(layout, reader.read_column_names(file), file.name)
    except DataError as error:
        if not was_read:
            raise
        raise DataError(
            f"{error}\n{file.name} was ingested before, when the file or data.columns was different; its rows stay in "
            "the corpus. List only the newer files in data.sources, or restore the old mapping"
        ) from None
    if file.format in COLUMNAR_FORMATS:
        chunks = COLUMNAR_FORMATS[file.format].read_tables(file, columns, layout)
    else:
        chunks = build_role_tables(reader.read_rows(file, columns), layout)
    return add_source_columns(chunks, file.name, split)
