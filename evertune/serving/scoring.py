"""The champion over a file of any size: chunk in, chunk out, results in the order of the rows.

At most three chunks are held: the model is at work on one, the next is read and encoded, the one before is written.
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
from evertune.objectives import module
from evertune.records import Inputs, Scores
from evertune.runtime import malloc as memory
from evertune.runtime.threads import ahead, behind
from evertune.serving import bundle

if TYPE_CHECKING:
    import pyarrow as pa

WRITERS = (".csv", ".jsonl", ".parquet")
Write = Callable[["pa.Table"], None]
Encode = Callable[[Sequence[Any]], Any]
Look = Callable[[Sequence[Any]], list[str | None]]
AT_WORK = threading.Lock()


def score(
    folder: Path, version: int, chunks: Iterable[Inputs], column: str, output: Path, tick: Callable[[int], None]
) -> Scores:
    """Predict every chunk with the bundle in `folder` and write rows, predictions, model version and problems.

    Args:
        version: registered version of the bundle, written beside each prediction.
        column: names of the input columns, for the reason of an empty one.
        output: `.csv`, `.jsonl` or `.parquet`; it appears when all is written, never in part.
        tick: called with the number of rows done.
    Raises:
        DataError: the output cannot be written.
    """
    predictor = bundle.predictor(folder)
    encode, answer = bundle.stages(predictor)
    look = _look(predictor)
    made = ahead(_encoded(chunk, column, look, encode) for chunk in chunks)
    with memory.kept(), contextlib.closing(made) as encoded:
        tables = (
            _table(chunk, problems, answer(examples), predictor.objective.OUTPUTS, version)
            for chunk, problems, examples in encoded
        )
        return write(tables, output, version, tick)


def score_chunk(folder: Path, version: int, chunk: Inputs, column: str) -> "pa.Table":
    """One chunk's rows with their predictions, for a process that is given chunk after chunk; the model is loaded once.

    Args: see `score`.
    """
    with AT_WORK, memory.kept():  # a tokenizer serves one thread at a time
        predictor = _kept(folder)
        encode, answer = bundle.stages(predictor)
        chunk, problems, examples = _encoded(chunk, column, _look(predictor), encode)
        return _table(chunk, problems, answer(examples), predictor.objective.OUTPUTS, version)


_kept = functools.lru_cache(1)(bundle.predictor)


def write(tables: Iterable["pa.Table"], output: Path, version: int, tick: Callable[[int], None]) -> Scores:
    """Write the scored tables, each while the next is made.

    Args: see `score`.
    Raises:
        DataError: the output cannot be written.
    """
    rows = bad = 0
    with _writer(output) as put, contextlib.closing(behind(tables, functools.partial(_put, put))) as written:
        for table in written:
            rows, bad = rows + len(table), bad + len(table) - table["problem"].null_count
            tick(len(table))
    return Scores(str(output), rows, bad, version)


def check_places(source: Path, output: Path) -> None:
    """Before anything is loaded: whether the output can be written beside the input.

    Raises:
        ConfigError: the output's ending is no known one, or the output is the input.
    """
    if output.suffix not in WRITERS:
        raise ConfigError(f"--output {output}: its ending must be one of {', '.join(WRITERS)}")
    if output.resolve() == source.resolve():
        raise ConfigError(f"--output {output}: that is the input; give another file")


def _encoded(chunk: Inputs, column: str, look: Look, encode: Encode) -> tuple[Inputs, list[str | None], Any]:
    """The chunk, what is wrong with each of its rows, and its good rows as the model takes them."""
    problems = [
        found or (None if _usable(value) else f"{column} is empty")
        for found, value in zip(chunk.problems, chunk.values, strict=True)
    ]
    told = iter(look([value for value, problem in zip(chunk.values, problems, strict=True) if problem is None]))
    problems = [next(told) if problem is None else problem for problem in problems]
    good = [value for value, problem in zip(chunk.values, problems, strict=True) if problem is None]
    return chunk, problems, encode(good)


def _look(predictor: Any) -> Look:
    """What tells which inputs make no sense to the objective, such as a dialogue that is none."""
    objective = module(predictor.options.type)  # not the bundle's own, which may be an older one
    if not hasattr(objective, "problems"):
        return lambda inputs: [None] * len(inputs)
    return lambda inputs: list(objective.problems(inputs, [None] * len(inputs), predictor.options))


def _put(write: Write, table: "pa.Table") -> "pa.Table":
    write(table)
    return table


def _table(
    chunk: Inputs, problems: Sequence[str | None], predictions: Sequence[dict[str, Any]], outputs: Mapping[str, str],
    version: int,
) -> "pa.Table":  # fmt: skip
    """The chunk's rows with their predictions beside them; `predictions` are of those without a problem."""
    import pyarrow as pa

    rest: Iterator[dict[str, Any]] = iter(predictions)
    found = [next(rest) if problem is None else None for problem in problems]
    added = {name: pa.array([one and one[name] for one in found], _arrow(kind)) for name, kind in outputs.items()}
    added["model_version"] = pa.array([version] * len(problems), pa.int64())
    added["problem"] = pa.array(problems, pa.string())
    table = _apart(chunk.table, added.keys())
    for name, values in added.items():
        table = table.append_column(name, values)
    return table


def _apart(table: "pa.Table", needed: Iterable[str]) -> "pa.Table":
    """The file's columns; one that has a name which the prediction needs becomes `input_NAME`."""
    taken = {*needed, *table.column_names}
    renamed = {}
    for name in needed:
        new = f"input_{name}"
        while new in taken:
            new = f"input_{new}"
        taken.add(new)
        renamed[name] = new
    return table.rename_columns([renamed.get(name, name) for name in table.column_names])


def _usable(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_usable, value))
    return bool(value) and (not isinstance(value, str) or bool(value.strip()))


def _arrow(kind: str) -> "pa.DataType":
    import pyarrow as pa

    kinds = {"string": pa.string(), "number": pa.float64()}
    return pa.list_(kinds[kind.removesuffix("s")]) if kind.endswith("s") else kinds[kind]


@contextlib.contextmanager
def _writer(output: Path) -> Iterator[Write]:
    scratch = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            yield _open(scratch, output.suffix, stack)
        scratch.replace(output)
    except OSError as error:
        raise DataError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # its folder may not even be one
            scratch.unlink()


def _open(path: Path, kind: str, stack: contextlib.ExitStack) -> Write:
    """A function that appends a table to the file."""
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    made: list[Any] = []

    def tabular(table: "pa.Table") -> None:
        flat = _flat(table) if kind == ".csv" else table
        if not made:
            maker = csv.CSVWriter if kind == ".csv" else pq.ParquetWriter
            made.append(stack.enter_context(maker(str(path), flat.schema)))
        made[0].write_table(flat)

    def lines(table: "pa.Table") -> None:
        if not made:
            made.append(stack.enter_context(path.open("w", encoding="utf-8")))
        made[0].writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist())

    path.touch()
    return lines if kind == ".jsonl" else tabular


def _flat(table: "pa.Table") -> "pa.Table":
    """Lists and structures as JSON text: CSV has none."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            text = [
                None if value is None else json.dumps(value, ensure_ascii=False, default=str)
                for value in table.column(index).to_pylist()
            ]
            table = table.set_column(index, field.name, pa.array(text, pa.string()))
    return table
