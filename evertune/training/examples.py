"""Tokenized rows with their targets, turned into examples on access."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from evertune.objectives import Objective

if TYPE_CHECKING:
    import datasets


class Examples(Sequence[Mapping[str, Any]]):
    """Rows as the objective's `example` builds them; the memory they need is that of their token ids.

    Args:
        objective: its module.
        encoded: tokenized rows; columns of numbers or of lists of numbers.
        targets: of the same rows.
        ids: label -> index.
    """

    def __init__(
        self, objective: Objective, encoded: "datasets.Dataset", targets: Sequence[Any], ids: Mapping[str, int]
    ) -> None:
        self._objective = objective
        self._targets = targets
        self._ids = ids
        table = encoded.with_format("arrow")[:]
        names = [name for name in table.column_names if name != "row_version"]
        self._columns = {name: _read_column(table.column(name)) for name in names}

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Number of tokens of every row, (rows,)."""
        _, ends = self._columns["input_ids"]
        return np.diff(ends)

    @property
    def token_ids(self) -> np.ndarray[Any, Any]:
        """Token ids of all rows, concatenated."""
        values: np.ndarray[Any, Any] = self._columns["input_ids"][0]
        return values

    def __len__(self) -> int:
        return len(self._targets)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self[row_index] for row_index in range(len(self))[index]]
        index = range(len(self))[index]  # raises IndexError at the end, which ends a loop over a sequence
        row = {name: _read_cell(column, index) for name, column in self._columns.items()}
        return self._objective.make_example(row, self._targets[index], self._ids)


def _read_column(column: Any) -> tuple[Any, Any]:
    """Return a column's numbers, and for a column of lists where each list begins."""
    import pyarrow as pa

    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # an empty column, or one with more than 2**31 numbers
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if not pa.types.is_list(values.type):
        return values.to_numpy(zero_copy_only=False), None
    starts = values.offsets.to_numpy()
    return values.flatten().to_numpy(zero_copy_only=False), starts - starts[0]


def _read_cell(column: tuple[Any, Any], index: int) -> Any:
    values, starts = column
    return int(values[index]) if starts is None else values[starts[index] : starts[index + 1]]
