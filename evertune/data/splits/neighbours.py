"""Of the corpus the rows that a small batch can touch: one look over short columns, and no sort, string or file of all.

What a night pays for each row of a long history is here, so it is as little as it can be without an index that would
have to be kept: a comparison of each column with a small set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evertune.data.columns.chunks import Rows, of_table
from evertune.data.columns.components import within
from evertune.data.splits.minhash import matrix
from evertune.data.splits.near_duplicates import Bands

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SMALL = 10_000  # rows of a batch; with more, a large part of the corpus would be near one of them
LINKING = ("row_key", "group", "normal_digest")


@dataclass(frozen=True)
class Nearby:
    """Rows of the corpus, in its order.

    Args:
        linked: those that share a key, a group, an input or an LSH bucket with a row of the batch; count: how many.
        normal, split, component: of these, and behind them of all other rows of their components.
    """

    linked: Rows
    count: int
    normal: "np.ndarray[Any, Any]"
    split: "np.ndarray[Any, Any]"
    component: "np.ndarray[Any, Any]"


def nearby(rows: Rows, known: Rows, columns: Sequence[str], stands: Any, threshold: float | None) -> Nearby:
    """The rows of the corpus that decide on the splits of a batch.

    Args:
        rows, known: the batch's and the corpus' rows.
        columns: those that `linked` reads; stands: from parts with `split`, `component` and `joins` to split codes and
            today's components.
        threshold: of near duplicates; None where they are not looked for.
    """
    import numpy as np
    import pyarrow as pa

    wanted, small, some, hits, normals = _wanted(rows, threshold), list[Any](), list[Any](), list[Any](), list[Any]()
    for part in known(columns):
        hit = wanted.met(part)
        small.append(part.select(["split", "component", "joins"]))
        some.append(part.filter(pa.array(hit)))
        hits.append(hit)
        normals.append(part["normal_digest"].to_numpy())
    if not some:
        return Nearby(known, 0, *(np.zeros(0, dtype=one) for one in (np.int64, np.int8, np.int64)))
    split, component = stands(small)
    hit, normal = np.concatenate(hits), np.concatenate(normals)
    places = np.concatenate([np.flatnonzero(hit), np.flatnonzero(~hit & within(component, component[hit]))])
    return Nearby(of_table(pa.concat_tables(some)), int(hit.sum()), normal[places], split[places], component[places])


@dataclass(frozen=True)
class _Wanted:
    """What a batch's rows hold that can link them.

    Args:
        values: by column; bands: of their signatures, None where near duplicates are not looked for.
    """

    values: "dict[str, pa.Array]"
    bands: Bands | None

    def met(self, part: "pa.Table") -> "np.ndarray[Any, Any]":
        """Which rows hold one of these."""
        import numpy as np
        import pyarrow.compute as pc

        hit = np.zeros(len(part), dtype=bool)
        for name, values in self.values.items():
            if len(values):
                hit |= pc.is_in(part[name], value_set=values).to_numpy()
        if self.bands is not None:
            hit |= np.concatenate([np.zeros(0, dtype=bool), *(self.bands.met(one) for one in matrix(part))])
        return hit


def _wanted(rows: Rows, threshold: float | None) -> _Wanted:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pa.concat_tables(rows(list(LINKING)))
    values = {name: pc.unique(whole[name].combine_chunks()).drop_null() for name in LINKING}
    if threshold is None:
        return _Wanted(values, None)
    return _Wanted(
        values, Bands(np.concatenate([one for part in rows(["signature"]) for one in matrix(part)]), threshold)
    )
