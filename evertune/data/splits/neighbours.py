"""Find the rows of the corpus that a small batch can be linked with, in one pass over short columns.

This is the cost that each run pays for every row of a long history. It is as low as possible without an index that
would have to be maintained: each column is compared with a small set; nothing is sorted or written to files.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evertune.data.columns.chunks import RowReader, make_row_reader
from evertune.data.columns.components import mask_members
from evertune.data.splits.minhash import iterate_signatures
from evertune.data.splits.near_duplicates import Bands

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SMALL = 10_000  # rows of a batch; a larger batch would be near a large part of the corpus
LINKING = ("row_key", "group", "normal_digest")
ReadComponents = Callable[["Iterable[pa.Table]"], "tuple[np.ndarray, np.ndarray]"]


@dataclass(frozen=True)
class NearbyRows:
    """Rows of the corpus that can decide on the splits of a batch.

    Args:
        linked: reads those that share a key, a group, an input or an LSH bucket with a row of the batch, in order.
        count: number of linked rows.
        normal: digests of normalised inputs, of the linked rows and then of all other rows of their components.
        split: codes of the splits of these rows.
        component: current components of these rows.
    """

    linked: RowReader
    count: int
    normal: "np.ndarray"
    split: "np.ndarray"
    component: "np.ndarray"


def find_nearby_rows(
    rows: RowReader,
    corpus_rows: RowReader,
    columns: Sequence[str],
    read_components: ReadComponents,
    threshold: float | None,
) -> NearbyRows:
    """Return the rows of the corpus that can decide on the splits of a batch.

    Args:
        rows: reads the batch's rows.
        corpus_rows: reads the corpus' rows.
        columns: those that `linked` reads.
        read_components: from chunks with `split`, `component` and `joins` to split codes and current components.
        threshold: least similarity of near duplicates; None to not search them.
    """
    import numpy as np
    import pyarrow as pa

    batch_values = _collect_batch_values(rows, threshold)
    component_chunks = list[pa.Table]()
    row_chunks = list[pa.Table]()
    masks = list[np.ndarray]()
    digest_chunks = list[np.ndarray]()
    for chunk in corpus_rows(columns):
        is_hit = batch_values.find_hits(chunk)
        component_chunks.append(chunk.select(["split", "component", "joins"]))
        row_chunks.append(chunk.filter(pa.array(is_hit)))
        masks.append(is_hit)
        digest_chunks.append(chunk["normal_digest"].to_numpy())
    if not row_chunks:
        no_numbers = np.zeros(0, dtype=np.int64)
        return NearbyRows(corpus_rows, 0, no_numbers, np.zeros(0, dtype=np.int8), no_numbers)
    split, component = read_components(component_chunks)
    is_hit = np.concatenate(masks)
    digests = np.concatenate(digest_chunks)
    is_in_component = mask_members(component, component[is_hit])
    row_indices = np.concatenate([np.flatnonzero(is_hit), np.flatnonzero(~is_hit & is_in_component)])
    return NearbyRows(
        make_row_reader(pa.concat_tables(row_chunks)),
        int(is_hit.sum()),
        digests[row_indices],
        split[row_indices],
        component[row_indices],
    )


@dataclass(frozen=True)
class _BatchValues:
    """Values of a batch's rows that can link them with others.

    Args:
        values: by column.
        bands: of their signatures; None if near duplicates are not searched.
    """

    values: "dict[str, pa.Array]"
    bands: Bands | None

    def find_hits(self, chunk: "pa.Table") -> "np.ndarray":
        """Return a mask of the rows that have one of the values or share an LSH bucket."""
        import numpy as np
        import pyarrow.compute as pc

        is_hit = np.zeros(len(chunk), dtype=bool)
        for name, values in self.values.items():
            if len(values):
                is_hit |= pc.is_in(chunk[name], value_set=values).to_numpy()
        if self.bands is not None:
            masks = [self.bands.find_sharing_rows(signatures) for signatures in iterate_signatures(chunk)]
            is_hit |= np.concatenate([np.zeros(0, dtype=bool), *masks])
        return is_hit


def _collect_batch_values(rows: RowReader, threshold: float | None) -> _BatchValues:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.concat_tables(rows(list(LINKING)))
    values = {name: pc.unique(table[name].combine_chunks()).drop_null() for name in LINKING}
    if threshold is None:
        return _BatchValues(values, None)
    signatures = [block for chunk in rows(["signature"]) for block in iterate_signatures(chunk)]
    return _BatchValues(values, Bands(np.concatenate(signatures), threshold))
