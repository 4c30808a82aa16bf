"""A snapshot's rows as token ids: encoded once a row, kept in memory-mapped Arrow files."""

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
from typing import TYPE_CHECKING, Any

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

    from evertune.config import Recipe
    from evertune.runtime.home import Home

logger = logging.getLogger(__name__)
Encode = Callable[["pa.Table"], dict[str, list[Any]]]
Inputs = Callable[[int], "pa.Table"]
_worker_encoders: list[Encode] = []  # in a process that tokenizes: its encoder
STEP_VERSION = 1  # raise it when the same input gives another result
CHUNK = 10_000  # rows encoded at a time: bounds memory
MANY = 100_000_000  # bytes of input: below, what processes gain does not pay for their start (docs/decisions)
# Families whose first position stands behind the padding id: of RoBERTa's 514 positions 512 take a token.
FROM_PADDING = ("camembert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")


def fingerprint_tokens(recipe: "Recipe") -> str:
    """What decides how a row is encoded: tokenizer, options, library, and this step's version."""
    return compute_digest(
        STEP_VERSION,
        base_models.fingerprint_base(recipe),
        recipe.objective,
        version("transformers"),
        version("tokenizers"),
    )


def tokenize_rows(
    recipe: "Recipe",
    home: "Home",
    snapshot: Snapshot,
    rows: "pa.Table",
    spread: Spread | None = None,
    inputs: Inputs | None = None,
) -> Tokens:
    """Encode the rows that no earlier run has encoded.

    Args:
        rows: the snapshot's current rows with `row_version`, `batch`, `part` and `split`.
        inputs: reads `row_version` and the roles to encode of the rows from a batch on. Default: `rows` has them.
        spread: calls a function with each of many jobs, elsewhere; it is given `write_part`. Default: on this machine.
    Raises:
        ConfigError: the base model has no tokenizer that fits.
        DataError: a row cannot be encoded, or the disk is full.
    """
    key = fingerprint_tokens(recipe)
    file_rows = token_files.assign_files(rows, token_files.find_closed_groups(rows))
    indices_by_path = {home.tokens / key / f"{name}.arrow": indices for name, indices in file_rows}
    lacking = {
        path: versions
        for path, indices in indices_by_path.items()
        if not token_files.contains_rows(path, versions := rows.column("row_version").take(indices))
        and not token_files.join_group(path, versions)
    }
    new_rows = sum(map(len, lacking.values()))
    sweep_files(home.tokens / key, "*.part")
    if lacking:
        first = min(rows["batch"][indices_by_path[path][0]].as_py() for path in lacking)
        roles = load_objective(recipe.objective.type).encoded_roles
        _encode_missing(recipe, inputs(first) if inputs else rows.select(["row_version", *roles]), lacking, spread)
    files = tuple(str(path) for path in indices_by_path)
    tokens = Tokens(files, compute_digest(key, snapshot.fingerprint), snapshot, {}, 0)
    counts, truncated = _count_tokens(tokens, rows)
    logger.info("%d rows tokenized, %d of them now", len(rows), new_rows)
    if truncated:
        logger.warning(
            "%d rows are longer than objective.max_length %d and are cut", truncated, recipe.objective.max_length
        )
    return Tokens(files, tokens.fingerprint, snapshot, counts, truncated)


def load_tokens(tokens: Tokens, rows: "pa.Table") -> "datasets.Dataset":
    """The encoded rows in the order of `rows`, memory-mapped: what is held is one number a row.

    Raises:
        DataError: a file is gone or lacks a row; running again encodes it anew.
    """
    import datasets
    from datasets.table import concat_tables

    tables = token_files.open_tables(tokens)
    positions = token_files.locate_rows(tables, rows)
    return datasets.Dataset(concat_tables(list(tables.values()))).select(
        positions
    )  # one for each file takes far longer


def load_tokenizer(recipe: "Recipe") -> Any:
    """The base model's tokenizer.

    Raises:
        ConfigError: it cannot be loaded, is not a fast one, has no padding; the model does not fit the objective, or
            `max_length` not the model.
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
    if len(loaded) <= len(loaded.all_special_ids):  # what `transformers` makes of a folder without tokenizer files
        raise ConfigError(f"base_model: {recipe.base_model}: has no vocabulary; add its tokenizer.json to the folder")
    if loaded.pad_token_id is None:
        if loaded.eos_token is None:
            raise ConfigError(f"base_model: {recipe.base_model}: its tokenizer has no padding token, and no end token")
        loaded.pad_token = loaded.eos_token  # no token attends to it, and no head looks at it
    virtual = recipe.training.virtual_tokens
    if limit is not None and (max_length := recipe.objective.max_length) + virtual > limit:
        added = f" and {virtual} of training.method" if virtual else ""
        raise ConfigError(
            f"objective.max_length: {max_length}{added} is more than the {limit} tokens that {recipe.base_model} "
            "takes; "
            "lower it"
        )
    return loaded


def _own_tokenizer(objective: Objective, model_path: str, recipe: "Recipe") -> Any:
    try:
        return objective.make_tokenizer(model_path, base_models.resolve_options(recipe))
    except (OSError, ValueError) as error:
        prefix = "" if str(error).startswith("objective.") else f"base_model: {recipe.base_model}: "
        raise ConfigError(f"{prefix}{error}") from error


def _max_positions(config: Any) -> int | None:
    """Tokens that the model takes; None where its positions have no end."""
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit if limit is None or config.model_type not in FROM_PADDING else limit - config.pad_token_id - 1


def write_part(recipe: "Recipe", path: Path, part: "pa.Table") -> None:
    """Write one token file, for a process elsewhere that sees the home.

    Args:
        part: `row_version` and the roles to encode.
    Raises:
        DataError: the disk is full or not writable.
    """
    _write_file(path, part, _build_encoder(recipe))


def encode_rows(recipe: "Recipe", rows: "pa.Table") -> dict[str, list[Any]]:
    """A few rows as the objective encodes them.

    Raises:
        ConfigError: the base model does not fit.
    """
    return _build_encoder(recipe)(rows)


def _encode_missing(recipe: "Recipe", rows: "pa.Table", lacking: dict[Path, Any], spread: Spread | None) -> None:
    """Write the token files: elsewhere, or here where the rows are few, or in a process a core, a file at a time.

    Args:
        rows: `row_version` and the roles to encode; lacking: row versions by file.
    """
    import pyarrow.compute as pc

    cores = os.cpu_count() or 1
    versions_in_rows = rows["row_version"]
    work = ((path, rows.take(pc.index_in(versions, value_set=versions_in_rows))) for path, versions in lacking.items())
    if spread is not None:
        for _ in spread(write_part, ({"recipe": recipe, "path": path, "part": part} for path, part in work)):
            pass  # each file is its own record that it is done
        return
    size = sum(map(len, lacking.values())) / max(1, len(rows)) * rows.drop_columns("row_version").nbytes
    if size < MANY or min(cores, len(lacking)) < 2:
        encode = _build_encoder(recipe)
        for path, part in work:
            _write_file(path, part, encode)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit the threads' locks
    with ProcessPoolExecutor(min(cores, len(lacking)), spawn, _start_worker, (recipe,)) as pool:
        running: list[Future[None]] = []
        try:
            for path, part in work:
                running.append(pool.submit(_write_part, path, part))
                if len(running) > 2 * cores:  # bounds memory
                    running.pop(0).result()
            for future in running:
                future.result()
        except BrokenProcessPool as error:
            raise DataError("a process that tokenizes was killed, perhaps for want of memory; run again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(recipe: "Recipe") -> None:
    """What a process that tokenizes does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it says what is to be said
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()  # type: ignore[union-attr]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are as many as the cores
    _worker_encoders.append(_build_encoder(recipe))


def _write_part(path: Path, part: "pa.Table") -> None:
    _write_file(path, part, _worker_encoders[0])


def _build_encoder(recipe: "Recipe") -> Encode:
    # Loaded at the first row that needs it: a night without new rows pays nothing.
    get_tokenizer = functools.cache(lambda: load_tokenizer(recipe))
    objective = load_objective(recipe.objective.type)

    def encode(rows: "pa.Table") -> dict[str, list[Any]]:
        targets = (extract_cells(rows, [objective.TARGET]),) if objective.ENCODES_TARGET else ()
        columns: dict[str, list[Any]] = objective.encode(
            extract_cells(rows, objective.INPUTS), get_tokenizer(), recipe.objective, *targets
        )
        return columns

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
    """Tokens by split and the rows that were cut, from the lengths alone: no token is read."""
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
