"""A snapshot's rows as token ids: encoded once a row, kept in memory-mapped Arrow files, one a batch part."""

import functools
import logging
import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import base_models
from evertune.errors import ConfigError, DataError
from evertune.objectives import module
from evertune.parallel import Spread
from evertune.records import Snapshot, Tokens, digest

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from evertune.config import Recipe
    from evertune.home import Home

logger = logging.getLogger(__name__)
Encode = Callable[[list[Any]], dict[str, list[Any]]]
_own: list[Encode] = []  # in a process that tokenizes: its encoder
STEP_VERSION = 1  # raise it when the same input gives another result
CHUNK = 10_000  # rows encoded at a time: bounds memory
MANY = 100_000_000  # bytes of input: below, what processes gain does not pay for their start (docs/decisions)
PARTS = 1_000_000  # more than a batch can have
# Families whose first position stands behind the padding id: of RoBERTa's 514 positions 512 take a token.
FROM_PADDING = ("camembert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")


def fingerprint(recipe: "Recipe") -> str:
    """What decides how a row is encoded: tokenizer, options, library, and this step's version."""
    return digest(
        STEP_VERSION, base_models.fingerprint(recipe), recipe.objective, version("transformers"), version("tokenizers")
    )


def tokenize(
    recipe: "Recipe", home: "Home", snapshot: Snapshot, rows: "pa.Table", spread: Spread | None = None
) -> Tokens:
    """Encode the rows that no earlier run has encoded.

    Args:
        rows: the snapshot's current rows with `row_version`, `batch`, `part`, `split` and the input column.
        spread: calls a function with each of many jobs, elsewhere; it is given `write_part`. Default: on this machine.
    Raises:
        ConfigError: the base model has no tokenizer that fits.
        DataError: a row cannot be encoded, or the disk is full.
    """
    key = fingerprint(recipe)
    parts = {home.tokens / key / f"{name}.arrow": places for name, places in _parts(rows)}
    versions = rows.column("row_version")
    lacking = {path: places for path, places in parts.items() if not _holds(path, versions.take(places))}
    fresh = sum(map(len, lacking.values()))
    _encode(recipe, rows, lacking, spread)
    files = tuple(str(path) for path in parts)
    tokens = Tokens(files, digest(key, snapshot.fingerprint), snapshot, {}, 0)
    counts, truncated = _count(tokens, rows)
    logger.info("%d rows tokenized, %d of them now", len(rows), fresh)
    if truncated:
        logger.warning(
            "%d rows are longer than objective.max_length %d and are cut", truncated, recipe.objective.max_length
        )
    return Tokens(files, tokens.fingerprint, snapshot, counts, truncated)


def load(tokens: Tokens, rows: "pa.Table") -> "datasets.Dataset":
    """The encoded rows in the order of `rows`, memory-mapped: what is held is one number a row.

    Raises:
        DataError: a file is gone or lacks a row; running again encodes it anew.
    """
    import datasets

    tables = _mapped(tokens)
    places = _places(tables, rows)
    return datasets.concatenate_datasets([datasets.Dataset(table) for table in tables.values()]).select(places)


def _mapped(tokens: Tokens) -> dict[str, Any]:
    """The token files by part, as tables of `datasets`, whose columns stay on the disk until they are read."""
    from datasets.table import MemoryMappedTable

    try:
        return {Path(file).stem: MemoryMappedTable.from_file(file) for file in tokens.files}
    except (OSError, ValueError) as error:
        raise DataError(f"a token file cannot be read ({error}); run again: its rows are encoded anew") from error


def _places(tables: dict[str, Any], rows: "pa.Table") -> Any:
    """Where each row stands in the tables, one behind the other; looked up part by part, so that memory is bounded."""
    import numpy as np
    import pyarrow.compute as pc

    ends = np.cumsum([len(table) for table in tables.values()], dtype=np.int64)
    starts = {name: int(end) - len(table) for (name, table), end in zip(tables.items(), ends, strict=True)}
    found = np.empty(len(rows), np.int64)
    for name, places in _parts(rows):
        asked = rows.column("row_version").take(places)
        known = tables[name].column("row_version").combine_chunks() if name in tables else asked[:0].combine_chunks()
        there = pc.index_in(asked, value_set=known)
        if there.null_count:
            lacking = asked.filter(pc.is_null(there))[0].as_py()
            raise DataError(f"no token file has the row {lacking!r}; run again: it is encoded anew")
        found[places] = starts[name] + there.to_numpy()
    return found


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


def _parts(rows: "pa.Table") -> Iterator[tuple[str, Any]]:
    """Each batch part's name, and where its rows stand, in the corpus' order."""
    import numpy as np

    numbers = rows["batch"].to_numpy().astype(np.int64) * PARTS + rows["part"].to_numpy()
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    for number, places in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        yield f"{number // PARTS:06d}-{number % PARTS:03d}", places


def write_part(recipe: "Recipe", path: Path, part: "pa.Table") -> None:
    """Write one token file, for a process elsewhere that sees the home.

    Args:
        part: `row_version` and the input column.
    Raises:
        DataError: the disk is full or not writable.
    """
    _write(path, part, _encoder(recipe))


def _encode(recipe: "Recipe", rows: "pa.Table", lacking: dict[Path, Any], spread: Spread | None) -> None:
    """Write the token files: elsewhere, or here where the rows are few, or in a process a core, a file at a time."""
    role, cores = next(iter(module(recipe.objective.type).COLUMNS)), os.cpu_count() or 1
    work = ((path, rows.select(["row_version", role]).take(places)) for path, places in lacking.items())
    if spread is not None and lacking:
        for _ in spread(write_part, ({"recipe": recipe, "path": path, "part": part} for path, part in work)):
            pass  # each file is its own record that it is done
        return
    size = sum(map(len, lacking.values())) / max(1, len(rows)) * rows.column(role).nbytes
    if size < MANY or min(cores, len(lacking)) < 2:
        encode = _encoder(recipe)
        for path, part in work:
            _write(path, part, encode)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit the threads' locks
    with ProcessPoolExecutor(min(cores, len(lacking)), spawn, _begin, (recipe,)) as pool:
        running: list[Future[None]] = []
        try:
            for path, part in work:
                running.append(pool.submit(_write_part, path, part))
                if len(running) > 2 * cores:  # bounds memory
                    running.pop(0).result()
            for one in running:
                one.result()
        except BrokenProcessPool as error:
            raise DataError("a process that tokenizes was killed, perhaps for want of memory; run again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(recipe: "Recipe") -> None:
    """What a process that tokenizes does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it says what is to be said
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()  # type: ignore[union-attr]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are as many as the cores
    _own.append(_encoder(recipe))


def _write_part(path: Path, part: "pa.Table") -> None:
    _write(path, part, _own[0])


def _encoder(recipe: "Recipe") -> Encode:
    # Loaded at the first row that needs it: a night without new rows pays nothing.
    loaded = functools.cache(lambda: tokenizer(recipe))
    encode = module(recipe.objective.type).encode

    def encoded(inputs: list[Any]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = encode(inputs, loaded(), recipe.objective)
        return columns

    return encoded


def _holds(path: Path, versions: "pa.ChunkedArray") -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        with pa.memory_map(str(path)) as source:
            known = pa.ipc.open_stream(source).read_all().column("row_version")
            return bool(pc.all(pc.is_in(versions, value_set=known.combine_chunks())).as_py())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s is damaged (%s): its rows are encoded anew", path.name, str(error).splitlines()[0])
        return False


def _write(path: Path, part: "pa.Table", encode: Encode) -> None:
    """Write a part's token file, whole or not at all.

    Raises:
        DataError: the disk is full or not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{uuid.uuid4().hex[:8]}.part")  # an engine may give a job to two workers
        _write_tables(scratch, part, encode)
        scratch.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}; free some space and run again") from error


def _write_tables(path: Path, part: "pa.Table", encode: Encode) -> None:
    import pyarrow as pa

    kinds, writer = {"full_length": pa.int32()}, None
    with pa.OSFile(str(path), "wb") as sink:
        for start in range(0, len(part), CHUNK):
            rows = part.slice(start, CHUNK)
            columns = encode(rows.column(1).to_pylist())
            arrays = {name: pa.array(values, kinds.get(name, pa.list_(pa.int32()))) for name, values in columns.items()}
            table = pa.table({"row_version": rows.column("row_version"), **arrays})
            writer = writer or pa.ipc.new_stream(sink, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def _count(tokens: Tokens, rows: "pa.Table") -> tuple[dict[str, int], int]:
    """Tokens by split and the rows that were cut, from the lengths alone: no token is read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = _mapped(tokens)
    lengths = pa.concat_tables(
        pa.table({"kept": pc.list_value_length(table["input_ids"]), "whole": table["full_length"]})
        for table in tables.values()
    ).take(_places(tables, rows))
    truncated = pc.sum(pc.greater(lengths["whole"], lengths["kept"])).as_py()
    found = lengths.append_column("split", rows["split"]).group_by("split").aggregate([("kept", "sum")])
    counts = dict(zip(found["split"].to_pylist(), found["kept_sum"].to_pylist(), strict=True))
    return dict(sorted(counts.items())), truncated or 0
