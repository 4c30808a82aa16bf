"""Tokenized rows with their targets, turned into examples on access."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict, cast, overload

import numpy as np
import numpy.typing as npt

from evertune.objectives import Cell, Objective

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from evertune.objectives.shared.types import EncodedRow


class Example(TypedDict):
    """A row as the objective's `make_example` builds it, often with further keys for its `collate`."""

    input_ids: npt.NDArray[np.integer]
    labels: NotRequired[npt.ArrayLike]
    teacher: NotRequired[npt.NDArray[np.floating]]


class _Column(NamedTuple):
    """A column's numbers, and for a column of lists where each list begins."""

    values: npt.NDArray[np.number]
    starts: npt.NDArray[np.integer] | None


class Examples(Sequence[Example]):
    """Rows as the objective's `example` builds them; the memory they need is that of their token ids.

    Args:
        objective: its module.
        encoded: tokenized rows; columns of numbers or of lists of numbers.
        targets: of the same rows.
        ids: label -> index.
    """

    def __init__(
        self, objective: Objective, encoded: "datasets.Dataset", targets: Sequence[Cell], ids: Mapping[str, int]
    ) -> None:
        self._objective = objective
        self._targets = targets
        self._ids = ids
        table = encoded.with_format("arrow")[:]
        names = [name for name in table.column_names if name != "row_version"]
        self._columns = {name: _read_column(table.column(name)) for name in names}

    @property
    def lengths(self) -> npt.NDArray[np.integer]:
        """Number of tokens of every row, (rows,)."""
        return np.diff(cast(npt.NDArray[np.integer], self._columns["input_ids"].starts))

    @property
    def token_ids(self) -> npt.NDArray[np.integer]:
        """Token ids of all rows, concatenated."""
        return cast(npt.NDArray[np.integer], self._columns["input_ids"].values)

    def __len__(self) -> int:
        return len(self._targets)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[row_index] for row_index in range(len(self))[index]]
        index = range(len(self))[index]  # raises IndexError at the end, which ends a loop over a sequence
        row = {name: _read_cell(column, index) for name, column in self._columns.items()}
        return cast(Example, self._objective.make_example(cast("EncodedRow", row), self._targets[index], self._ids))


def _read_column(column: "pa.ChunkedArray") -> _Column:
    """Return a column's numbers, and for a column of lists where each list begins."""
    import pyarrow as pa

    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # an empty column, or one with more than 2**31 numbers
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if not pa.types.is_list(values.type):
        return _Column(values.to_numpy(zero_copy_only=False), None)
    starts = values.offsets.to_numpy()
    return _Column(values.flatten().to_numpy(zero_copy_only=False), starts - starts[0])


def _read_cell(column: _Column, index: int) -> int | npt.NDArray[np.number]:
    values, starts = column
    return int(values[index]) if starts is None else values[starts[index] : starts[index + 1]]
