"""The champion over a file of any size: chunk in, chunk out, results in the order of the rows."""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import bundle
from evertune.errors import ConfigError, DataError
from evertune.objectives import ROLES
from evertune.records import Scores

if TYPE_CHECKING:
    import pyarrow as pa

WRITERS = (".csv", ".jsonl", ".parquet")
Write = Callable[["pa.Table"], None]


def score(
    folder: Path, version: int, chunks: Iterable["pa.Table"], role: str, output: Path, tick: Callable[[int], None]
) -> Scores:
    """Predict every chunk with the bundle in `folder` and write rows, predictions, model version and problems.

    Args:
        version: registered version of the bundle, written beside each prediction.
        chunks: tables with the input column `role` and a column `problem`, null where the row is fine.
        output: `.csv`, `.jsonl` or `.parquet`; it appears when all is written, never in part.
        tick: called with the number of rows done.
    Raises:
        ConfigError: the output's ending is none of these.
        DataError: the output cannot be written.
    """
    predictor = bundle.predictor(folder)
    rows = bad = 0
    with _writer(output) as write:
        for chunk in chunks:
            table, problems = _predict(predictor, chunk, role, version)
            write(table)
            rows, bad = rows + len(table), bad + problems
            tick(len(table))
    return Scores(str(output), rows, bad, version)


def _predict(predictor: Any, chunk: "pa.Table", role: str, version: int) -> tuple["pa.Table", int]:
    import pyarrow as pa

    inputs = chunk.column(role).to_pylist()
    problems = [
        found or (None if _usable(one) else f"{role} is empty")
        for found, one in zip(chunk.column("problem").to_pylist(), inputs, strict=True)
    ]
    good = [row for row, problem in enumerate(problems) if problem is None]
    found = dict(zip(good, predictor.predict([inputs[row] for row in good]), strict=True)) if good else {}
    names = predictor.objective.OUTPUTS
    # A label that the input already has is not passed on: the column of that name is the prediction.
    table = chunk.select([name for name in chunk.column_names if name in (role, *ROLES)])
    for name, kind in names.items():
        values = [found[row][name] if row in found else None for row in range(len(inputs))]
        table = table.append_column(name, pa.array(values, _arrow(kind)))
    table = table.append_column("model_version", pa.array([version] * len(inputs), pa.int64()))
    return table.append_column("problem", pa.array(problems, pa.string())), len(inputs) - len(good)


def _usable(value: Any) -> bool:
    return bool(value) and (not isinstance(value, str) or bool(value.strip()))


def _arrow(kind: str) -> "pa.DataType":
    import pyarrow as pa

    kinds = {"string": pa.string(), "number": pa.float64()}
    return pa.list_(kinds[kind.removesuffix("s")]) if kind.endswith("s") else kinds[kind]


@contextlib.contextmanager
def _writer(output: Path) -> Iterator[Write]:
    if output.suffix not in WRITERS:
        raise ConfigError(f"--output {output}: its ending must be one of {', '.join(WRITERS)}")
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
    """Lists as JSON text: CSV has no lists."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            text = [
                None if value is None else json.dumps(value, ensure_ascii=False)
                for value in table.column(index).to_pylist()
            ]
            table = table.set_column(index, field.name, pa.array(text, pa.string()))
    return table
