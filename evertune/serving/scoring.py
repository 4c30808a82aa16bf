"""Scores a file of any size with the champion, chunk by chunk, in the order of the rows.

At most three chunks are in memory: one is predicted, the next is read and encoded, the previous one is written.
"""

import contextlib
import functools
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.errors import ConfigError, DataError
from evertune.objectives import load_objective
from evertune.records import Inputs, Scores
from evertune.runtime import malloc
from evertune.runtime.threads import iterate_ahead, map_behind
from evertune.serving import bundle

if TYPE_CHECKING:
    import pyarrow as pa

WRITERS = (".csv", ".jsonl", ".parquet")
Write = Callable[["pa.Table"], None]
Encode = Callable[[Sequence[Any]], Any]
FindProblems = Callable[[Sequence[Any]], list[str | None]]
AT_WORK = threading.Lock()


def score_file(
    folder: Path, version: int, chunks: Iterable[Inputs], column: str, output: Path, tick: Callable[[int], None]
) -> Scores:
    """Predict every chunk with the bundle in `folder` and write rows, predictions, model version and problems.

    Args:
        folder: the bundle.
        version: registered version of the bundle, written with each prediction.
        chunks: rows of the input.
        column: names of the input columns, for the message about an empty input.
        output: `.csv`, `.jsonl` or `.parquet`; it appears when everything is written, never in part.
        tick: called with the number of rows done.
    Raises:
        DataError: the output cannot be written.
    """
    predictor = bundle.load_predictor(folder)
    encode, answer = bundle.split_stages(predictor)
    find_problems = make_problem_finder(predictor)
    encoded_chunks = iterate_ahead(_encode_chunk(chunk, column, find_problems, encode) for chunk in chunks)
    with malloc.keep_memory(), contextlib.closing(encoded_chunks) as encoded:
        tables = (
            _build_table(chunk, problems, answer(examples), predictor.objective.OUTPUTS, version)
            for chunk, problems, examples in encoded
        )
        return write_tables(tables, output, version, tick)


def score_chunk(folder: Path, version: int, chunk: Inputs, column: str) -> "pa.Table":
    """Return one chunk's rows with their predictions; repeated calls in a process load the model once.

    Args: see `score_file`.
    """
    with AT_WORK, malloc.keep_memory():  # a tokenizer works in one thread at a time
        predictor = _load_cached(folder)
        encode, answer = bundle.split_stages(predictor)
        chunk, problems, examples = _encode_chunk(chunk, column, make_problem_finder(predictor), encode)
        return _build_table(chunk, problems, answer(examples), predictor.objective.OUTPUTS, version)


_load_cached = functools.lru_cache(1)(bundle.load_predictor)


def write_tables(tables: Iterable["pa.Table"], output: Path, version: int, tick: Callable[[int], None]) -> Scores:
    """Write the scored tables, each while the next one is predicted.

    Args: see `score_file`.
    Raises:
        DataError: the output cannot be written.
    """
    rows = problem_rows = 0
    with (
        _open_writer(output) as write_table,
        contextlib.closing(map_behind(tables, functools.partial(_write_and_return, write_table))) as written,
    ):
        for table in written:
            rows = rows + len(table)
            problem_rows = problem_rows + len(table) - table["problem"].null_count
            tick(len(table))
    return Scores(str(output), rows, problem_rows, version)


def check_paths(source: Path, output: Path) -> None:
    """Check before anything is loaded that the output can be written.

    Raises:
        ConfigError: the output's file extension is unknown, or the output is the input.
    """
    if output.suffix not in WRITERS:
        raise ConfigError(f"--output {output}: the file extension must be one of {', '.join(WRITERS)}")
    if output.resolve() == source.resolve():
        raise ConfigError(f"--output {output}: this is the input file; choose another file")


def _encode_chunk(
    chunk: Inputs, column: str, find_problems: FindProblems, encode: Encode
) -> tuple[Inputs, list[str | None], Any]:
    """The chunk, the problem of each row, and the encoded rows without a problem."""
    problems = [
        problem or (None if is_usable(value) else f"{column} is empty")
        for problem, value in zip(chunk.problems, chunk.values, strict=True)
    ]
    found_problems = iter(
        find_problems([value for value, problem in zip(chunk.values, problems, strict=True) if problem is None])
    )
    problems = [next(found_problems) if problem is None else problem for problem in problems]
    good_values = [value for value, problem in zip(chunk.values, problems, strict=True) if problem is None]
    return chunk, problems, encode(good_values)


def make_problem_finder(predictor: Any) -> FindProblems:
    """Return a function that says which inputs make no sense to the objective, such as a broken dialogue."""
    objective = load_objective(predictor.options.type)  # not the bundle's own, which may be an older one
    return lambda inputs: list(objective.find_problems(inputs, [None] * len(inputs), predictor.options))


def _write_and_return(write_table: Write, table: "pa.Table") -> "pa.Table":
    write_table(table)
    return table


def _build_table(
    chunk: Inputs,
    problems: Sequence[str | None],
    predictions: Sequence[dict[str, Any]],
    outputs: Mapping[str, str],
    version: int,
) -> "pa.Table":
    """The chunk's rows with their predictions; `predictions` are those of the rows without a problem."""
    import pyarrow as pa

    remaining: Iterator[dict[str, Any]] = iter(predictions)
    row_predictions = [next(remaining) if problem is None else None for problem in problems]
    columns = {
        name: pa.array([prediction and prediction[name] for prediction in row_predictions], _arrow_type(kind))
        for name, kind in outputs.items()
    }
    columns["model_version"] = pa.array([version] * len(problems), pa.int64())
    columns["problem"] = pa.array(problems, pa.string())
    table = _rename_clashes(chunk.table, columns.keys())
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _rename_clashes(table: "pa.Table", needed: Iterable[str]) -> "pa.Table":
    """The file's columns; one with the name of an output column becomes `input_NAME`."""
    used_names = {*needed, *table.column_names}
    renamed = {}
    for name in needed:
        new = f"input_{name}"
        while new in used_names:
            new = f"input_{new}"
        used_names.add(new)
        renamed[name] = new
    return table.rename_columns([renamed.get(name, name) for name in table.column_names])


def is_usable(value: Any) -> bool:
    """Whether there is anything to predict from: no null, no empty list and no blank text, in any role."""
    if isinstance(value, tuple):
        return all(map(is_usable, value))
    return bool(value) and (not isinstance(value, str) or bool(value.strip()))


def _arrow_type(kind: str) -> "pa.DataType":
    import pyarrow as pa

    kinds = {"string": pa.string(), "number": pa.float64()}
    return pa.list_(kinds[kind.removesuffix("s")]) if kind.endswith("s") else kinds[kind]


@contextlib.contextmanager
def _open_writer(output: Path) -> Iterator[Write]:
    scratch = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            yield _make_writer(scratch, output.suffix, stack)
        scratch.replace(output)
    except OSError as error:
        raise DataError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # its folder may not exist
            scratch.unlink()


def _make_writer(path: Path, kind: str, stack: contextlib.ExitStack) -> Write:
    """Make a function that appends tables to the file."""
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    writers: list[Any] = []

    def write_tabular(table: "pa.Table") -> None:
        flat = _flatten_nested(table) if kind == ".csv" else table
        if not writers:
            writer_class = csv.CSVWriter if kind == ".csv" else pq.ParquetWriter
            writers.append(stack.enter_context(writer_class(str(path), flat.schema)))
        writers[0].write_table(flat)

    def write_lines(table: "pa.Table") -> None:
        if not writers:
            writers.append(stack.enter_context(path.open("w", encoding="utf-8")))
        writers[0].writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist())

    path.touch()
    return write_lines if kind == ".jsonl" else write_tabular


def _flatten_nested(table: "pa.Table") -> "pa.Table":
    """Convert lists and structures to JSON text for CSV."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            text = [
                None if value is None else json.dumps(value, ensure_ascii=False, default=str)
                for value in table.column(index).to_pylist()
            ]
            table = table.set_column(index, field.name, pa.array(text, pa.string()))
    return table
