"""Encode the rows of a snapshot as token ids: each row once, kept in memory-mapped Arrow files."""

import functools
import logging
import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import ConfigError, DataError
from evertune.models import base as base_models
from evertune.objectives import Objective, extract_cells, load_objective
from evertune.records import Snapshot, Tokens, compute_digest
from evertune.runtime.files import sweep_files
from evertune.runtime.threads import Spread
from evertune.tokenization import token_files

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from evertune.config import Recipe
    from evertune.objectives.shared.pixels import PictureTokenizer
    from evertune.objectives.shared.types import Columns
    from evertune.runtime.context import RunContext

logger = logging.getLogger(__name__)
Encode = Callable[["pa.Table"], "Columns"]
Inputs = Callable[[int], "pa.Table"]
_worker_encoders: list[Encode] = []  # the encoder of a worker process
STEP_VERSION = 1  # raise it when the same input gives another result
CHUNK = 10_000  # rows encoded at a time: bounds memory
MANY = 100_000_000  # bytes of input below which starting worker processes takes longer than it saves (docs/decisions)
# Families whose first position follows the padding id: of RoBERTa's 514 positions, 512 take a token.
FROM_PADDING = ("camembert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")


def fingerprint_tokens(recipe: "Recipe") -> str:
    """Return a digest of all that decides how a row is encoded: tokenizer, options, libraries, this step's version."""
    return compute_digest(
        STEP_VERSION,
        base_models.fingerprint_base(recipe),
        recipe.objective,
        version("transformers"),
        version("tokenizers"),
    )


def tokenize_rows(
    context: "RunContext",
    snapshot: Snapshot,
    rows: "pa.Table",
    spread: Spread | None = None,
    inputs: Inputs | None = None,
) -> Tokens:
    """Encode the rows that no earlier run has encoded, and return the token data set.

    Args:
        context: the recipe and the home of its model.
        snapshot: of the corpus.
        rows: the snapshot's current rows with `row_version`, `batch`, `part` and `split`.
        spread: calls `write_part` with each of many jobs on other machines. None: encode on this machine.
        inputs: reads `row_version` and the roles to encode of the rows from a batch on. None: `rows` has them.
    Raises:
        ConfigError: the base model has no tokenizer that fits.
        DataError: a row cannot be encoded, or the disk is full.
    """
    key = fingerprint_tokens(context.recipe)
    file_rows = token_files.assign_files(rows, token_files.find_closed_groups(rows))
    indices_by_path = {context.home.tokens / key / f"{name}.arrow": indices for name, indices in file_rows}
    missing = {}
    for path, indices in indices_by_path.items():
        versions = rows.column("row_version").take(indices)
        if not token_files.contains_rows(path, versions) and not token_files.join_group(path, versions):
            missing[path] = versions
    new_rows = sum(map(len, missing.values()))
    sweep_files(context.home.tokens / key, "*.part")
    if missing:
        if inputs is None:
            roles = context.objective.encoded_roles
            rows_to_encode = rows.select(["row_version", *roles])
        else:
            rows_to_encode = inputs(min(rows["batch"][indices_by_path[path][0]].as_py() for path in missing))
        _encode_missing(context.recipe, rows_to_encode, missing, spread)
    files = tuple(str(path) for path in indices_by_path)
    tokens = Tokens(files, compute_digest(key, snapshot.fingerprint), snapshot, {}, 0)
    counts, truncated = _count_tokens(tokens, rows)
    logger.info("%d rows tokenized, %d of them in this run", len(rows), new_rows)
    if truncated:
        logger.warning(
            "%d rows are longer than objective.max_length %d and are truncated",
            truncated,
            context.recipe.objective.max_length,
        )
    return Tokens(files, tokens.fingerprint, snapshot, counts, truncated)


def load_tokens(tokens: Tokens, rows: "pa.Table") -> "datasets.Dataset":
    """Return the encoded rows in the order of `rows`, memory-mapped; one number for each row is held in memory.

    Raises:
        DataError: a file is gone or lacks a row; running again encodes it.
    """
    import datasets
    from datasets.table import concat_tables

    tables = token_files.open_tables(tokens)
    positions = token_files.locate_rows(tables, rows)
    # One data set: one for each file takes far longer.
    return datasets.Dataset(concat_tables(list(tables.values()))).select(positions)


def load_tokenizer(recipe: "Recipe") -> "PreTrainedTokenizerBase | PictureTokenizer":
    """Return the base model's tokenizer.

    Raises:
        ConfigError: it cannot be loaded, is not a fast one, or has no padding token; the model does not fit the
            objective, or `max_length` does not fit the model.
    """
    from transformers import AutoConfig, AutoTokenizer

    model_path = base_models.locate_base(recipe)
    objective = load_objective(recipe.objective.type)
    if objective.has_own_tokenizer:
        return _own_tokenizer(objective, model_path, recipe)
    base_models.check_fit(recipe)
    try:
        loaded = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
        limit = _max_positions(AutoConfig.from_pretrained(model_path, trust_remote_code=False))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"base_model: {recipe.base_model}: no tokenizer can be loaded: {reason}") from error
    if not loaded.is_fast:
        raise ConfigError(f"base_model: {recipe.base_model}: needs a fast tokenizer (a tokenizer.json in its folder)")
    if len(loaded) <= len(loaded.all_special_ids):  # `transformers` returns this for a folder without tokenizer files
        raise ConfigError(
            f"base_model: {recipe.base_model}: its tokenizer has no vocabulary; add its tokenizer.json to the folder"
        )
    if loaded.pad_token_id is None:
        if loaded.eos_token is None:
            raise ConfigError(f"base_model: {recipe.base_model}: its tokenizer has no padding token, and no end token")
        loaded.pad_token = loaded.eos_token  # no token attends to it, and no head reads it
    virtual = recipe.training.virtual_tokens
    max_length = recipe.objective.max_length
    if limit is not None and max_length + virtual > limit:
        added = f" and {virtual} of training.method" if virtual else ""
        raise ConfigError(
            f"objective.max_length: {max_length}{added} is more than the {limit} tokens that {recipe.base_model} "
            "accepts; lower it"
        )
    return loaded


def _own_tokenizer(objective: Objective, model_path: str, recipe: "Recipe") -> "PictureTokenizer":
    try:
        return objective.make_tokenizer(model_path, base_models.resolve_options(recipe))
    except (OSError, ValueError) as error:
        prefix = "" if str(error).startswith("objective.") else f"base_model: {recipe.base_model}: "
        raise ConfigError(f"{prefix}{error}") from error


def _max_positions(config: "PreTrainedConfig") -> int | None:
    """Return how many tokens the model accepts; None without a limit."""
    limit: int | None = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in FROM_PADDING:
        return int(limit - config.pad_token_id - 1)
    return limit


def write_part(recipe: "Recipe", path: Path, part: "pa.Table") -> None:
    """Write one token file, in a process on another machine that shares the home.

    Args:
        recipe: the model's recipe.
        path: of the file.
        part: rows with `row_version` and the roles to encode.
    Raises:
        DataError: the disk is full or not writable.
    """
    _write_file(path, part, _build_encoder(recipe))


def encode_rows(recipe: "Recipe", rows: "pa.Table") -> "Columns":
    """Return a few rows as the objective encodes them.

    Raises:
        ConfigError: the base model does not fit.
    """
    return _build_encoder(recipe)(rows)


def _encode_missing(
    recipe: "Recipe", rows: "pa.Table", missing: "dict[Path, pa.ChunkedArray]", spread: Spread | None
) -> None:
    """Write token files: on other machines with `spread`, in this process if rows are few, else in a process a core.

    Args:
        recipe: the model's recipe.
        rows: with `row_version` and the roles to encode.
        missing: file -> row versions.
        spread: as for `tokenize_rows`.
    """
    import pyarrow.compute as pc

    cores = os.cpu_count() or 1
    versions_in_rows = rows["row_version"]
    work = ((path, rows.take(pc.index_in(versions, value_set=versions_in_rows))) for path, versions in missing.items())
    if spread is not None:
        for _ in spread(write_part, ({"recipe": recipe, "path": path, "part": part} for path, part in work)):
            pass  # each file is its own record that it is done
        return
    size = sum(map(len, missing.values())) / max(1, len(rows)) * rows.drop_columns("row_version").nbytes
    if size < MANY or min(cores, len(missing)) < 2:
        encode = _build_encoder(recipe)
        for path, part in work:
            _write_file(path, part, encode)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit the threads' locks
    with ProcessPoolExecutor(min(cores, len(missing)), spawn, _start_worker, (recipe,)) as pool:
        running: list[Future[None]] = []
        try:
            for path, part in work:
                running.append(pool.submit(_write_part, path, part))
                if len(running) > 2 * cores:  # bounds memory
                    running.pop(0).result()
            for future in running:
                future.result()
        except BrokenProcessPool as error:
            raise DataError("a tokenization process was killed, probably out of memory; run again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(recipe: "Recipe") -> None:
    """Initialise a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process reports the interrupt
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for each core
    _worker_encoders.append(_build_encoder(recipe))


def _exit_with_parent() -> None:
    """End this process when its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write_part(path: Path, part: "pa.Table") -> None:
    _write_file(path, part, _worker_encoders[0])


def _build_encoder(recipe: "Recipe") -> Encode:
    # Loaded at the first row that needs it: a run without new rows does not load it.
    get_tokenizer = functools.cache(lambda: load_tokenizer(recipe))
    objective = load_objective(recipe.objective.type)

    def encode(rows: "pa.Table") -> "Columns":
        targets = (extract_cells(rows, [objective.TARGET]),) if objective.ENCODES_TARGET else ()
        return objective.encode(extract_cells(rows, objective.INPUTS), get_tokenizer(), recipe.objective, *targets)

    return encode


def _write_file(path: Path, part: "pa.Table", encode: Encode) -> None:
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

    kinds = {"full_length": pa.int32()}
    writer = None
    with pa.OSFile(str(path), "wb") as sink:
        for start in range(0, len(part), CHUNK):
            rows = part.slice(start, CHUNK)
            columns = encode(rows)
            arrays = {name: pa.array(values, kinds.get(name, pa.list_(pa.int32()))) for name, values in columns.items()}
            table = pa.table({"row_version": rows.column("row_version"), **arrays})
            writer = writer or pa.ipc.new_stream(sink, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def _count_tokens(tokens: Tokens, rows: "pa.Table") -> tuple[dict[str, int], int]:
    """Count the tokens of each split, and the truncated rows, from the lengths alone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = token_files.open_tables(tokens)
    lengths = pa.concat_tables(
        pa.table({"kept": pc.list_value_length(table["input_ids"]), "whole": table["full_length"]})
        for table in tables.values()
    ).take(token_files.locate_rows(tables, rows))
    truncated = pc.sum(pc.greater(lengths["whole"], lengths["kept"])).as_py()
    totals = lengths.append_column("split", rows["split"]).group_by("split").aggregate([("kept", "sum")])
    counts = dict(zip(totals["split"].to_pylist(), totals["kept_sum"].to_pylist(), strict=True))
    return dict(sorted(counts.items())), truncated or 0
