"""Rows that a model has learned nothing of: those that it was tested on, and those that came since.

Both sides leave out what stands in or near rows that the model learned from, or was stopped by. That alone would not
leave them alike: of texts that recur, most stand near a train row, so that few of them are left among the rows that
came, while the test rows hold as many as ever. Whether a row `recurs` is known of both sides by the same rule (another
row of the model's snapshot stands in its component, and another group's where rows have one: a thread is no
recurrence), so that rows are compared with rows of their own kind.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evertune.data.columns.components import mask_members, sort_distinct

if TYPE_CHECKING:
    import pyarrow as pa

LEARNED = ("train", "validation")
FEW = 10  # rows of a kind on one side, with fewer than which it is not compared
COLUMNS = ("row_key", "split", "component", "group")


@dataclass(frozen=True)
class Unseen:
    """Which rows of one side are compared.

    Args:
        kept: (rows,) those that are.
        recurs: (rows,) those whose component holds another row, or another group, of the snapshot.
    """

    kept: NDArray[np.bool_]
    recurs: NDArray[np.bool_]


def select_both_sides(known_rows: "pa.Table", new_rows: "pa.Table") -> tuple[Unseen, Unseen]:
    """Which of the rows that a model's snapshot had, in all their versions, and of those that came since are compared.

    Args:
        known, came: `COLUMNS`, with the components of today.
    """
    both = _select_tested(known_rows), _select_new(known_rows, new_rows)
    least = [min(int((side.recurs == kind)[side.kept].sum()) for side in both) for kind in (False, True)]
    # Where neither kind has enough, the commoner one is left, and counted: that is too little, as a look will say.
    shared_kinds = [kind for kind in (False, True) if least[kind] >= FEW] or [least[True] > least[False]]
    reference, current = (Unseen(side.kept & np.isin(side.recurs, shared_kinds), side.recurs) for side in both)
    return reference, current


def _select_tested(known_rows: "pa.Table") -> Unseen:
    """Test rows that stand near none that was learned."""
    component = _read_components(known_rows)
    is_kept = _are_in_splits(known_rows, ("test",)) & ~mask_members(component, _find_learned_components(known_rows))
    return Unseen(is_kept, mask_members(component, _find_shared_components(known_rows)))


def _select_new(known_rows: "pa.Table", new_rows: "pa.Table") -> Unseen:
    """Rows of which no version was known, and that stand near none that was learned."""
    import pyarrow.compute as pc

    component = _read_components(new_rows)
    is_known = pc.is_in(new_rows["row_key"], value_set=pc.unique(known_rows["row_key"])).to_numpy()
    # A row that bridges two splits is left out of both, and its component does not tell what it is near.
    is_kept = (
        ~_are_in_splits(new_rows, ("excluded",))
        & ~is_known
        & ~mask_members(component, _find_learned_components(known_rows))
    )
    is_near_known = mask_members(component, sort_distinct(_read_components(known_rows)))
    return Unseen(
        is_kept, is_near_known & mask_members(component, _find_shared_components(known_rows, new_rows))
    )  # one group that goes on met itself alone


def _find_shared_components(*tables: "pa.Table") -> NDArray[np.int64]:
    """The components in which rows of more than one group stand; a row without a group is one for itself."""
    import pyarrow as pa

    component = np.concatenate([_read_components(rows) for rows in tables])
    unit = _encode_values(pa.chunked_array([_name_units(rows) for rows in tables], pa.string()))
    order = np.lexsort((unit, component))
    component = component[order]
    unit = unit[order]
    shared: NDArray[np.int64] = sort_distinct(component[1:][(np.diff(component) == 0) & (np.diff(unit) != 0)])
    return shared


def _name_units(rows: "pa.Table") -> Any:
    import pyarrow.compute as pc

    group = pc.binary_join_element_wise("group", rows["group"].cast("string").combine_chunks(), " ")
    return pc.coalesce(group, rows["row_key"].cast("string").combine_chunks())


def _find_learned_components(known_rows: "pa.Table") -> NDArray[np.int64]:
    components: NDArray[np.int64] = sort_distinct(_read_components(known_rows)[_are_in_splits(known_rows, LEARNED)])
    return components


def _read_components(rows: "pa.Table") -> NDArray[np.int64]:
    components: NDArray[np.int64] = rows["component"].to_numpy()
    return components


def _are_in_splits(rows: "pa.Table", splits: tuple[str, ...]) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    mask: NDArray[np.bool_] = pc.is_in(rows["split"], value_set=pa.array(splits)).to_numpy().astype(bool)
    return mask


def _encode_values(values: Any) -> Any:
    return values.combine_chunks().dictionary_encode().indices.to_numpy()
