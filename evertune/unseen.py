"""Rows that a model has learned nothing of: those that it was tested on, and those that came since.

Both sides leave out what stands in or near rows that the model learned from, or was stopped by. That alone would not
leave them alike: of texts that recur, most stand near a train row, so that few of them are left among the rows that
came, while the test rows hold as many as ever. Whether a row `recurs` is known of both sides by the same rule (another
row of the model's snapshot stands in its component), so that rows are compared with rows of their own kind.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evertune.components import distinct, within

if TYPE_CHECKING:
    import pyarrow as pa

LEARNED = ("train", "validation")
FEW = 10  # rows of a kind on one side, with fewer than which it is not compared
COLUMNS = ("row_key", "split", "component")


@dataclass(frozen=True)
class Unseen:
    """Which rows of one side are compared.

    Args:
        kept: (rows,) those that are; recurs: (rows,) those whose component holds another row of the snapshot.
    """

    kept: NDArray[np.bool_]
    recurs: NDArray[np.bool_]


def sides(known: "pa.Table", came: "pa.Table") -> tuple[Unseen, Unseen]:
    """Which of the rows that a model's snapshot had, in all their versions, and of those that came since are compared.

    Args:
        known, came: `COLUMNS`, with the components of today.
    """
    both = _tested(known), _new(known, came)
    least = [min(int((side.recurs == kind)[side.kept].sum()) for side in both) for kind in (False, True)]
    # Where neither kind has enough, the commoner one is left, and counted: that is too little, as a look will say.
    shared = [kind for kind in (False, True) if least[kind] >= FEW] or [least[True] > least[False]]
    reference, current = (Unseen(side.kept & np.isin(side.recurs, shared), side.recurs) for side in both)
    return reference, current


def _tested(known: "pa.Table") -> Unseen:
    """Test rows that stand near none that was learned."""
    component = _component(known)
    first = np.unique(_codes(known["row_key"]), return_index=True)[1]
    ids, rows = np.unique(component[first], return_counts=True)
    kept = _are(known, ("test",)) & ~within(component, _learned(known))
    return Unseen(kept, within(component, ids[rows > 1]))


def _new(known: "pa.Table", came: "pa.Table") -> Unseen:
    """Rows of which no version was known, and that stand near none that was learned."""
    import pyarrow.compute as pc

    component = _component(came)
    there = pc.is_in(came["row_key"], value_set=pc.unique(known["row_key"])).to_numpy()
    # A row that bridges two splits is left out of both, and its component does not tell what it is near.
    kept = ~_are(came, ("excluded",)) & ~there & ~within(component, _learned(known))
    return Unseen(kept, within(component, distinct(_component(known))))


def _learned(known: "pa.Table") -> NDArray[np.int64]:
    found: NDArray[np.int64] = distinct(_component(known)[_are(known, LEARNED)])
    return found


def _component(rows: "pa.Table") -> NDArray[np.int64]:
    found: NDArray[np.int64] = rows["component"].to_numpy()
    return found


def _are(rows: "pa.Table", splits: tuple[str, ...]) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found: NDArray[np.bool_] = pc.is_in(rows["split"], value_set=pa.array(splits)).to_numpy().astype(bool)
    return found


def _codes(values: Any) -> Any:
    return values.combine_chunks().dictionary_encode().indices.to_numpy()
