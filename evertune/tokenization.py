"""A snapshot's rows as token ids: encoded once a row, kept in memory-mapped Arrow files, one a batch part."""

import functools
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import base_models
from evertune.errors import ConfigError, DataError
from evertune.objectives import module
from evertune.records import Snapshot, Tokens, digest

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from evertune.config import Recipe
    from evertune.home import Home

logger = logging.getLogger(__name__)
STEP_VERSION = 1  # raise it when the same input gives another result
CHUNK = 10_000  # rows encoded at a time: bounds memory
# Families whose first position stands behind the padding id: of RoBERTa's 514 positions 512 take a token.
FROM_PADDING = ("camembert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")


def fingerprint(recipe: "Recipe") -> str:
    """What decides how a row is encoded: tokenizer, options, library, and this step's version."""
    return digest(
        STEP_VERSION, base_models.fingerprint(recipe), recipe.objective, version("transformers"), version("tokenizers")
    )


def tokenize(recipe: "Recipe", home: "Home", snapshot: Snapshot, rows: "pa.Table") -> Tokens:
    """Encode the rows that no earlier run has encoded.

    Args:
        rows: the snapshot's current rows with `row_version`, `batch`, `part`, `split` and the input column.
    Raises:
        ConfigError: the base model has no tokenizer that fits.
        DataError: a row cannot be encoded, or the disk is full.
    """
    key = fingerprint(recipe)
    folder = home.tokens / key
    encode = _encoder(recipe)
    files, fresh = [], 0
    for name, part in _parts(rows):
        path = folder / f"{name}.arrow"
        if not _holds(path, part):
            try:
                _write(path, part, encode, next(iter(module(recipe.objective.type).COLUMNS)))
            except OSError as error:
                raise DataError(f"{path} cannot be written: {error}; free some space and run again") from error
            fresh += len(part)
        files.append(str(path))
    tokens = Tokens(tuple(files), digest(key, snapshot.fingerprint), snapshot, {}, 0)
    counts, truncated = _count(load(tokens, rows), rows)
    logger.info("%d rows tokenized, %d of them now", len(rows), fresh)
    if truncated:
        logger.warning(
            "%d rows are longer than objective.max_length %d and are cut", truncated, recipe.objective.max_length
        )
    return Tokens(tuple(files), tokens.fingerprint, snapshot, counts, truncated)


def load(tokens: Tokens, rows: "pa.Table") -> "datasets.Dataset":
    """The encoded rows in the order of `rows`, memory-mapped.

    Raises:
        DataError: a file is gone or lacks a row; running again encodes it anew.
    """
    import datasets

    try:
        whole = datasets.concatenate_datasets([datasets.Dataset.from_file(file) for file in tokens.files])
    except (OSError, ValueError) as error:
        raise DataError(f"a token file cannot be read ({error}); run again: its rows are encoded anew") from error
    place = {name: index for index, name in enumerate(whole.data.column("row_version").to_pylist())}
    try:
        return whole.select([place[name] for name in rows.column("row_version").to_pylist()])
    except KeyError as error:
        raise DataError(f"no token file has the row {error}; run again: it is encoded anew") from error


def tokenizer(recipe: "Recipe") -> Any:
    """The base model's tokenizer.

    Raises:
        ConfigError: it cannot be loaded, is not a fast one, has no padding; `max_length` is beyond the model.
    """
    from transformers import AutoConfig, AutoTokenizer

    place = base_models.locate(recipe)
    try:
        loaded = AutoTokenizer.from_pretrained(place)
        limit = _positions(AutoConfig.from_pretrained(place))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"base_model: {recipe.base_model}: no tokenizer can be loaded: {reason}") from error
    if not loaded.is_fast:
        raise ConfigError(f"base_model: {recipe.base_model}: needs a fast tokenizer (a tokenizer.json in its folder)")
    if len(loaded) <= len(loaded.all_special_ids):  # what `transformers` makes of a folder without tokenizer files
        raise ConfigError(f"base_model: {recipe.base_model}: has no vocabulary; add its tokenizer.json to the folder")
    if loaded.pad_token_id is None:
        raise ConfigError(f"base_model: {recipe.base_model}: its tokenizer has no padding token; choose an encoder")
    if limit is not None and (asked := recipe.objective.max_length) > limit:
        raise ConfigError(
            f"objective.max_length: {asked} is more than the {limit} tokens that {recipe.base_model} takes; lower it"
        )
    return loaded


def _positions(config: Any) -> int | None:
    """Tokens that the model takes; None where its positions have no end."""
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit if limit is None or config.model_type not in FROM_PADDING else limit - config.pad_token_id - 1


def _encoder(recipe: "Recipe") -> Callable[[list[Any]], dict[str, list[Any]]]:
    # Loaded at the first row that needs it: a night without new rows pays nothing.
    loaded = functools.cache(lambda: tokenizer(recipe))
    encode = module(recipe.objective.type).encode

    def encoded(inputs: list[Any]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = encode(inputs, loaded(), recipe.objective)
        return columns

    return encoded


def _parts(rows: "pa.Table") -> Iterator[tuple[str, "pa.Table"]]:
    import pyarrow.compute as pc

    keys = rows.select(["batch", "part"]).group_by(["batch", "part"]).aggregate([]).to_pylist()
    for key in sorted(keys, key=lambda one: (one["batch"], one["part"])):
        mask = pc.and_(pc.equal(rows["batch"], key["batch"]), pc.equal(rows["part"], key["part"]))
        yield f"{key['batch']:06d}-{key['part']:03d}", rows.filter(mask)


def _holds(path: Path, part: "pa.Table") -> bool:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            known = set(pa.ipc.open_stream(source).read_all().column("row_version").to_pylist())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s is damaged (%s): its rows are encoded anew", path.name, str(error).splitlines()[0])
        return False
    return known.issuperset(part.column("row_version").to_pylist())


def _write(path: Path, part: "pa.Table", encode: Callable[[list[Any]], dict[str, list[Any]]], role: str) -> None:
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    writer = None
    with pa.OSFile(str(scratch), "wb") as sink:
        for start in range(0, len(part), CHUNK):
            rows = part.slice(start, CHUNK)
            table = _table(rows, encode(rows.column(role).to_pylist()))
            writer = writer or pa.ipc.new_stream(sink, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    scratch.replace(path)


def _table(rows: "pa.Table", encoded: dict[str, list[Any]]) -> "pa.Table":
    import pyarrow as pa

    kinds = {"full_length": pa.int32()}
    columns = {name: pa.array(values, kinds.get(name, pa.list_(pa.int32()))) for name, values in encoded.items()}
    return pa.table({"row_version": rows.column("row_version"), **columns})


def _count(encoded: "datasets.Dataset", rows: "pa.Table") -> tuple[dict[str, int], int]:
    import numpy as np
    import pyarrow.compute as pc

    table = encoded.with_format("arrow")[:]
    lengths = pc.list_value_length(table["input_ids"]).to_numpy()
    splits = rows.column("split").to_numpy(zero_copy_only=False)
    truncated = int(np.sum(table["full_length"].to_numpy() > lengths))
    return {str(name): int(lengths[splits == name].sum()) for name in np.unique(splits)}, truncated
