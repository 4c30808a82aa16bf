"""Rows that are read in parts, whole columns at a time: few of them stand in memory at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evertune.data.columns.components import repeated
from evertune.data.columns.strings import hashes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Rows = Callable[[Sequence[str]], "Iterator[pa.Table]"]  # the named columns of all rows, in parts, in a fixed order


def of_table(table: "pa.Table") -> Rows:
    """The rows of a table, in one part."""

    def read(names: Sequence[str]) -> "Iterator[pa.Table]":
        yield table.select(list(names))

    return read


def larger(parts: "Iterator[pa.Table]", size: int) -> "Iterator[pa.Table]":
    """The same rows in parts of at least `size`, but the last."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= size:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def beside(rows: Rows, names: Sequence[str], others: Rows, more: Sequence[str]) -> "Iterator[pa.Table]":
    """The named columns of rows that stand in two places, in the same order."""
    import pyarrow as pa

    waiting, rest = others(more), None
    for part in rows(names):
        while rest is None or len(rest) < len(part):
            after = next(waiting)
            rest = after if rest is None else pa.concat_tables([rest, after])
        for name in more:
            part = part.append_column(name, rest[name].slice(0, len(part)))
        rest = rest.slice(len(part))
        yield part


def numbers(rows: Rows, name: str) -> "np.ndarray[Any, Any]":
    """A column of whole numbers without nulls."""
    import numpy as np

    return np.concatenate([np.zeros(0, dtype=np.int64), *(part[name].to_numpy() for part in rows([name]))])


def chosen(rows: Rows, names: Sequence[str], places: "np.ndarray[Any, Any]") -> "Iterator[pa.Table]":
    """The named columns of the rows in these places, which are in order."""
    import numpy as np
    import pyarrow as pa

    start = 0
    for part in rows(names) if len(places) else ():
        low, high = np.searchsorted(places, [start, start + len(part)])
        if high > low:
            yield part.take(pa.array(places[low:high] - start))
        start += len(part)


def column(rows: Rows, name: str, places: "np.ndarray[Any, Any]") -> "pa.Array":
    """The named column of strings of the rows in these places, which are in order."""
    import pyarrow as pa

    found = [part[name].combine_chunks() for part in chosen(rows, [name], places)]
    return pa.concat_arrays([pa.array([], pa.string()), *found])


def standing_again(sides: Sequence[Rows], name: str) -> "np.ndarray[Any, Any]":
    """Places of rows of the first side whose string may stand on another row too, and of these others, in order.

    Every row whose string does is among them. Rows of the second side are counted after those of the first.
    """
    import numpy as np

    found, present, size = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=bool)], 0
    for number, side in enumerate(sides):
        for part in side([name]):
            strings = part[name].combine_chunks()
            found.append(hashes(strings.drop_null()))
            present.append(np.asarray(strings.is_valid()))
            size += len(found[-1]) * (number == 0)
    keys = np.concatenate(found)
    del found
    again = np.sort(repeated(keys, size, spare=True))
    there = np.concatenate(present)
    return again if there.all() else np.flatnonzero(there)[again]
