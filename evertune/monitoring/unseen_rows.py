"""Rows that a model has not seen in training: those that it was tested on, and those that came since.

Both sides leave out rows that are in or near the train and validation rows of the model. That alone would not make them
comparable: most recurring texts are near a train row, so few of them are left among the new rows, while the test rows
hold as many as ever. So rows are compared within their kind: recurring or not. A row recurs if another row of the
model's snapshot is in its component, and belongs to another group where rows have groups (a thread is no recurrence).
The rule is the same on both sides.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evertune.data.columns.components import mask_members, sort_distinct

if TYPE_CHECKING:
    import pyarrow as pa

TRAINING_SPLITS = ("train", "validation")
MIN_ROWS = 10  # of a kind on each side; a kind with fewer rows is not compared
COLUMNS = ("row_key", "split", "component", "group")


@dataclass(frozen=True)
class Unseen:
    """Masks over the rows of one side.

    Args:
        kept: (rows,) the rows to compare.
        recurs: (rows,) rows whose component has another row, or another group, of the snapshot.
    """

    kept: NDArray[np.bool_]
    recurs: NDArray[np.bool_]


def select_both_sides(known_rows: "pa.Table", new_rows: "pa.Table") -> tuple[Unseen, Unseen]:
    """Return which test rows of a model's snapshot, and which rows that came since, are compared.

    Args:
        known_rows: all versions of the rows in the snapshot, with `COLUMNS` and today's components.
        new_rows: rows that came since, with the same columns.
    """
    both = _select_tested(known_rows), _select_new(known_rows, new_rows)
    least = [min(int((side.recurs == kind)[side.kept].sum()) for side in both) for kind in (False, True)]
    # If neither kind has enough rows, the more common one is kept, so that the check can report how few there are.
    shared_kinds = [kind for kind in (False, True) if least[kind] >= MIN_ROWS] or [least[True] > least[False]]
    reference, current = (Unseen(side.kept & np.isin(side.recurs, shared_kinds), side.recurs) for side in both)
    return reference, current


def _select_tested(known_rows: "pa.Table") -> Unseen:
    """Return the test rows that are near no train or validation row."""
    component = _read_components(known_rows)
    is_kept = _are_in_splits(known_rows, ("test",)) & ~mask_members(component, _find_training_components(known_rows))
    return Unseen(is_kept, mask_members(component, _find_shared_components(known_rows)))


def _select_new(known_rows: "pa.Table", new_rows: "pa.Table") -> Unseen:
    """Return the rows without a known version that are near no train or validation row."""
    import pyarrow.compute as pc

    component = _read_components(new_rows)
    is_known = pc.is_in(new_rows["row_key"], value_set=pc.unique(known_rows["row_key"])).to_numpy()
    # A row that bridges two splits is in neither, and its component does not tell what it is near.
    is_kept = (
        ~_are_in_splits(new_rows, ("excluded",))
        & ~is_known
        & ~mask_members(component, _find_training_components(known_rows))
    )
    is_near_known = mask_members(component, sort_distinct(_read_components(known_rows)))
    # A group that continues is near a known row, but only of its own group: that is no recurrence.
    recurs = is_near_known & mask_members(component, _find_shared_components(known_rows, new_rows))
    return Unseen(is_kept, recurs)


def _find_shared_components(*tables: "pa.Table") -> NDArray[np.int64]:
    """Return the components with rows of more than one group; a row without a group is a group of its own."""
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


def _find_training_components(known_rows: "pa.Table") -> NDArray[np.int64]:
    components: NDArray[np.int64] = sort_distinct(
        _read_components(known_rows)[_are_in_splits(known_rows, TRAINING_SPLITS)]
    )
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
