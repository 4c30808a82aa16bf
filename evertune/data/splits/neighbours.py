"""Of the corpus the rows that a small batch can touch: one look over short columns, and no sort, string or file of all.

What a night pays for each row of a long history is here, so it is as little as it can be without an index that would
have to be kept: a comparison of each column with a small set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evertune.data.columns.chunks import RowReader, make_row_reader
from evertune.data.columns.components import mask_members
from evertune.data.splits.minhash import iterate_signatures
from evertune.data.splits.near_duplicates import Bands

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SMALL = 10_000  # rows of a batch; with more, a large part of the corpus would be near one of them
LINKING = ("row_key", "group", "normal_digest")


@dataclass(frozen=True)
class NearbyRows:
    """Rows of the corpus, in its order.

    Args:
        linked: those that share a key, a group, an input or an LSH bucket with a row of the batch; count: how many.
        normal, split, component: of these, and behind them of all other rows of their components.
    """

    linked: RowReader
    count: int
    normal: "np.ndarray[Any, Any]"
    split: "np.ndarray[Any, Any]"
    component: "np.ndarray[Any, Any]"


def find_nearby_rows(
    rows: RowReader, corpus_rows: RowReader, columns: Sequence[str], read_components: Any, threshold: float | None
) -> NearbyRows:
    """The rows of the corpus that decide on the splits of a batch.

    Args:
        rows, known: the batch's and the corpus' rows.
        columns: those that `linked` reads; stands: from parts with `split`, `component` and `joins` to split codes and
            today's components.
        threshold: of near duplicates; None where they are not looked for.
    """
    import numpy as np
    import pyarrow as pa

    batch_values = _collect_batch_values(rows, threshold)
    component_chunks = list[Any]()
    row_chunks = list[Any]()
    masks = list[Any]()
    digest_chunks = list[Any]()
    for chunk in corpus_rows(columns):
        is_hit = batch_values.find_hits(chunk)
        component_chunks.append(chunk.select(["split", "component", "joins"]))
        row_chunks.append(chunk.filter(pa.array(is_hit)))
        masks.append(is_hit)
        digest_chunks.append(chunk["normal_digest"].to_numpy())
    if not row_chunks:
        return NearbyRows(corpus_rows, 0, *(np.zeros(0, dtype=dtype) for dtype in (np.int64, np.int8, np.int64)))
    split, component = read_components(component_chunks)
    is_hit = np.concatenate(masks)
    digests = np.concatenate(digest_chunks)
    row_indices = np.concatenate(
        [np.flatnonzero(is_hit), np.flatnonzero(~is_hit & mask_members(component, component[is_hit]))]
    )
    return NearbyRows(
        make_row_reader(pa.concat_tables(row_chunks)),
        int(is_hit.sum()),
        digests[row_indices],
        split[row_indices],
        component[row_indices],
    )


@dataclass(frozen=True)
class _BatchValues:
    """What a batch's rows hold that can link them.

    Args:
        values: by column; bands: of their signatures, None where near duplicates are not looked for.
    """

    values: "dict[str, pa.Array]"
    bands: Bands | None

    def find_hits(self, chunk: "pa.Table") -> "np.ndarray[Any, Any]":
        """Which rows hold one of these."""
        import numpy as np
        import pyarrow.compute as pc

        is_hit = np.zeros(len(chunk), dtype=bool)
        for name, values in self.values.items():
            if len(values):
                is_hit |= pc.is_in(chunk[name], value_set=values).to_numpy()
        if self.bands is not None:
            is_hit |= np.concatenate(
                [
                    np.zeros(0, dtype=bool),
                    *(self.bands.find_sharing_rows(signatures) for signatures in iterate_signatures(chunk)),
                ]
            )
        return is_hit


def _collect_batch_values(rows: RowReader, threshold: float | None) -> _BatchValues:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.concat_tables(rows(list(LINKING)))
    values = {name: pc.unique(table[name].combine_chunks()).drop_null() for name in LINKING}
    if threshold is None:
        return _BatchValues(values, None)
    return _BatchValues(
        values,
        Bands(
            np.concatenate([signatures for chunk in rows(["signature"]) for signatures in iterate_signatures(chunk)]),
            threshold,
        ),
    )
