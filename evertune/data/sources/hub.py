"""Hugging Face data sets as a source, from the hub or a local folder, loaded with `datasets`."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import HubSource, Recipe
from evertune.config.base import expand_variables
from evertune.data.sources.chunk import Piece, build_layout, match_columns
from evertune.data.sources.content import FileCache, digest_with_cache
from evertune.data.sources.formats.arrow import PART, convert_batches
from evertune.data.sources.tables import add_source_columns, digest_table
from evertune.errors import DataError
from evertune.records import compute_digest

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)
ADDRESS = re.compile(r"\b(?!(?:zip|tar|gzip|bz2|xz|zstd|lz4|file)://)[a-z][\w+.-]*://[^'\s]*", re.IGNORECASE)


def fingerprints(source: HubSource, recipe: Recipe, cache: FileCache) -> dict[str, str] | None:
    """Return the fingerprint of a local folder or a pinned revision; None where the rows must be read to know it."""
    content_id = _identify_content(source, recipe, cache)
    return None if content_id is None else {_build_uri(source): _fingerprint_content(source, recipe, content_id)}


def read(source: HubSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """Yield the data set, unless its fingerprint is in `seen`.

    Raises:
        DataError: the data set cannot be loaded, or lacks a column.
    """
    import pyarrow as pa

    uri = _build_uri(source)
    layout = build_layout(recipe)
    content_id = _identify_content(source, recipe, {})
    if content_id is not None and seen.get(uri) == _fingerprint_content(source, recipe, content_id):
        return
    dataset = _load_dataset(source, recipe)
    columns = match_columns(layout, dataset.column_names, uri)
    batches = dataset.with_format("arrow").iter(PART)
    role_tables = convert_batches(batches, columns, dataset.features.arrow_schema, layout)
    tables = add_source_columns(role_tables, uri, source.split)
    if content_id is not None:
        yield Piece(uri, _fingerprint_content(source, recipe, content_id), tables)
        return
    table = pa.concat_tables(tables)
    fingerprint = _fingerprint_content(source, recipe, digest_table(table))
    if seen.get(uri) != fingerprint:
        yield Piece(uri, fingerprint, [table])


def _build_uri(source: HubSource) -> str:
    subset = f"/{source.subset}" if source.subset else ""
    revision = f"@{source.revision}" if source.revision else ""
    return f"hub:{source.hub}{subset}{revision}#{source.part}"


def _find_folder(source: HubSource, recipe: Recipe) -> Path | None:
    folder = recipe.folder / expand_variables(source.hub)
    return folder if folder.is_dir() else None


def _identify_content(source: HubSource, recipe: Recipe, cache: FileCache) -> str | None:
    """Return an id of the data set's content: a digest of its local folder, a pinned revision, or None."""
    if folder := _find_folder(source, recipe):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        file_digests = []
        for path in files:
            name = f"hub:{source.hub}/{path.relative_to(folder).as_posix()}"
            file_digests.append([name, digest_with_cache(path, name, cache)])
        return compute_digest(file_digests)
    return source.revision if source.revision != "main" else None


def _fingerprint_content(source: HubSource, recipe: Recipe, content_id: str) -> str:
    layout = build_layout(recipe)
    return compute_digest(content_id, source, layout.columns, layout.kinds)


def _load_dataset(source: HubSource, recipe: Recipe) -> "Dataset":
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    folder = _find_folder(source, recipe)
    try:
        if folder and ((folder / "state.json").exists() or (folder / "dataset_dict.json").exists()):
            return _load_saved(folder, source.part)
        if folder:
            _refuse_addresses(folder)
        name = str(folder) if folder else expand_variables(source.hub)
        return load_dataset(name, name=source.subset, split=source.part, revision=source.revision)
    # RuntimeError: the folder has a loading script
    except (DatasetsError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split()).replace(str(recipe.folder), "")
        raise DataError(
            f"{_build_uri(source)}: `datasets` cannot load it ({reason}); check hub, subset, part and revision, "
            "and that the hub can be reached (or that HF_HUB_OFFLINE is unset)"
        ) from error


def _refuse_addresses(folder: Path) -> None:
    """Refuse a folder whose data set card lists files on other machines: a local folder causes no downloads.

    Raises:
        ValueError: the card lists such an address.
    """
    import yaml
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    try:
        metadata = metadata_load(card) if card.is_file() else None
    except (ValueError, yaml.YAMLError):
        return  # `datasets` itself reports what is wrong with the card
    configs = (metadata or {}).get("configs")
    if address := ADDRESS.search(str(configs or "")):
        raise ValueError(
            f"its README.md lists {address.group()}, which is outside the folder; remove it from data_files"
        )


def _load_saved(folder: Path, part: str) -> "Dataset":
    """Return a part of what `save_to_disk` wrote; a data set that was saved without a split is called `train`.

    Raises:
        ValueError: the part does not exist; the message lists the available ones.
    """
    from datasets import DatasetDict, ReadInstruction, concatenate_datasets, load_from_disk

    saved_data = load_from_disk(str(folder))
    parts = saved_data if isinstance(saved_data, DatasetDict) else {str(saved_data.split or "train"): saved_data}
    if part in parts:
        return parts[part]
    slices = ReadInstruction.from_spec(part).to_absolute({str(name): len(dataset) for name, dataset in parts.items()})
    return concatenate_datasets(
        [parts[row_range.splitname].select(range(row_range.from_, row_range.to)) for row_range in slices]
    )
