"""Since when the corpus has had what a row holds: a row that came again with another timestamp only is not new."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.corpus import delta_tables
from evertune.objectives import module
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

HELD = ["row_key", "input_digest", "target_digest"]


def first_batches(home: Home, rows: "pa.Table", recipe: Recipe) -> Any:
    """(rows,) number of the batch that first brought the same input and target under each row's key.

    A label that the recipe renames is the same one under either name, whichever the source uses.

    Args:
        rows: of the corpus, with `row_version`, `row_key` and `batch`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    own = rows["batch"].to_numpy()
    if not pc.any(pc.not_equal(rows["row_key"], rows["row_version"])).as_py():
        return own  # without ids every version is a row of its own
    keys = rows["row_key"].combine_chunks()
    every = pa.concat_tables([part.filter(pc.is_in(part["row_key"], value_set=keys)) for part in _read(home, recipe)])
    again = pc.filter(pc.struct_field(counts := pc.value_counts(every["row_key"]), "values"),
                      pc.greater(pc.struct_field(counts, "counts"), 1))  # fmt: skip
    every = every.filter(pc.is_in(every["row_key"], value_set=again)).combine_chunks()
    if not len(every):
        return own
    first = _firsts(every)
    place = pc.index_in(rows["row_version"].combine_chunks(), value_set=every["row_version"].combine_chunks())
    known = np.asarray(place.is_valid())
    found = own.copy()
    found[known] = first[np.asarray(place.drop_null())]
    return found


def _read(home: Home, recipe: Recipe) -> "Iterator[pa.Table]":
    """All rows, with the digests of the targets of today."""
    target = [module(recipe.objective.type).TARGET] if recipe.contract.label.rename else []
    for part in delta_tables.rows_of(home.corpus)([*HELD, "row_version", "batch", *target]):
        now = relabel.target_digests(part, recipe)
        yield part.set_column(HELD.index("target_digest"), "target_digest", now).drop_columns(target)


def _firsts(every: "pa.Table") -> Any:
    """(rows,) the lowest batch of the rows with the same key, input and target."""
    import numpy as np

    columns = (every[name].combine_chunks().dictionary_encode(null_encoding="encode") for name in HELD)
    codes = [np.asarray(one.indices) for one in columns]
    group = np.unique(np.column_stack(codes), axis=0, return_inverse=True)[1].ravel()
    lowest = np.full(group.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, group, every["batch"].to_numpy())
    return lowest[group]
