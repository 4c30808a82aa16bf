"""Hugging Face data sets as a source, from the hub or from a local folder, through `datasets`."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import HubSource, Recipe
from evertune.config.base import expand
from evertune.data.sources.chunk import Piece, layout, match
from evertune.data.sources.content import content
from evertune.data.sources.formats.arrow import PART, batch_tables
from evertune.data.sources.tables import content_digest, named
from evertune.errors import DataError
from evertune.records import digest

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)
ADDRESS = re.compile(r"\b(?!(?:zip|tar|gzip|bz2|xz|zstd|lz4|file)://)[a-z][\w+.-]*://[^'\s]*", re.IGNORECASE)


def fingerprints(source: HubSource, recipe: Recipe, cache: dict[str, Any]) -> dict[str, str] | None:
    """The fingerprint of a local folder or a fixed revision; None where only reading tells."""
    held = _held(source, recipe, cache)
    return None if held is None else {_uri(source): _fingerprint(source, recipe, held)}


def read(source: HubSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """The data set, unless its fingerprint is in `seen`.

    Raises:
        DataError: it cannot be loaded, or lacks a column.
    """
    import pyarrow as pa

    uri, wanted, held = _uri(source), layout(recipe), _held(source, recipe, {})
    if held is not None and seen.get(uri) == _fingerprint(source, recipe, held):
        return
    data = _load(source, recipe)
    columns = match(wanted, data.column_names, uri)
    batches = data.with_format("arrow").iter(PART)
    tables = named(batch_tables(batches, columns, data.features.arrow_schema, wanted), uri, source.split)
    if held is not None:
        yield Piece(uri, _fingerprint(source, recipe, held), tables)
        return
    table = pa.concat_tables(tables)
    fingerprint = _fingerprint(source, recipe, content_digest(table))
    if seen.get(uri) != fingerprint:
        yield Piece(uri, fingerprint, [table])


def _uri(source: HubSource) -> str:
    subset = f"/{source.subset}" if source.subset else ""
    revision = f"@{source.revision}" if source.revision else ""
    return f"hub:{source.hub}{subset}{revision}#{source.part}"


def _folder(source: HubSource, recipe: Recipe) -> Path | None:
    folder = recipe.folder / expand(source.hub)
    return folder if folder.is_dir() else None


def _held(source: HubSource, recipe: Recipe, cache: dict[str, Any]) -> str | None:
    """A digest of what the data set holds, where its folder or its revision tells."""
    if folder := _folder(source, recipe):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [f"hub:{source.hub}/{path.relative_to(folder).as_posix()}" for path in files]
        return digest([[name, content(path, name, cache)] for name, path in zip(names, files, strict=True)])
    return source.revision if source.revision != "main" else None


def _fingerprint(source: HubSource, recipe: Recipe, held: str) -> str:
    wanted = layout(recipe)
    return digest(held, source, wanted.columns, wanted.kinds)


def _load(source: HubSource, recipe: Recipe) -> "Dataset":
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    folder = _folder(source, recipe)
    try:
        if folder and ((folder / "state.json").exists() or (folder / "dataset_dict.json").exists()):
            return _saved(folder, source.part)
        if folder:
            _refuse_addresses(folder)
        name = str(folder) if folder else expand(source.hub)
        return load_dataset(name, name=source.subset, split=source.part, revision=source.revision)
    except (DatasetsError, OSError, ValueError, KeyError, RuntimeError) as error:  # the last of a folder with a script
        said = " ".join(str(error).split()).replace(str(recipe.folder), "")
        raise DataError(
            f"{_uri(source)}: `datasets` cannot load it ({said}); check hub, subset, part and revision, "
            "and that the hub can be reached (or that HF_HUB_OFFLINE is unset)"
        ) from error


def _refuse_addresses(folder: Path) -> None:
    """Raises ValueError where the folder's card names files on other machines: a folder is read from this one alone."""
    import yaml
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    try:
        stated = metadata_load(card) if card.is_file() else None
    except (ValueError, yaml.YAMLError):
        return  # `datasets` says itself what is wrong with it
    configs = (stated or {}).get("configs")
    if address := ADDRESS.search(str(configs or "")):
        raise ValueError(
            f"its README.md names {address.group()}, which is not in the folder; take it out of data_files"
        )


def _saved(folder: Path, part: str) -> "Dataset":
    """A part of what `save_to_disk` wrote; a single set that was saved without a split is called `train`.

    Raises:
        ValueError: there is no such part; it lists those that there are.
    """
    from datasets import DatasetDict, ReadInstruction, concatenate_datasets, load_from_disk

    data = load_from_disk(str(folder))
    parts = data if isinstance(data, DatasetDict) else {str(data.split or "train"): data}
    if part in parts:
        return parts[part]
    sliced = ReadInstruction.from_spec(part).to_absolute({str(name): len(one) for name, one in parts.items()})
    return concatenate_datasets([parts[one.splitname].select(range(one.from_, one.to)) for one in sliced])
