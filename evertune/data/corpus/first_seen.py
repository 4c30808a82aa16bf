"""Find which batch first brought a row's content: a row that came again with only another timestamp is not new."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.corpus import delta_tables
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

CONTENT = ["row_key", "input_digest", "target_digest"]


def find_first_batches(home: Home, rows: "pa.Table", recipe: Recipe) -> "np.ndarray":
    """Return (rows,) the number of the batch that first brought the same input and target under each row's key.

    The old and the new name of a label that the recipe renames count as the same label.

    Args:
        rows: of the corpus, with `row_version`, `row_key` and `batch`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    batches: np.ndarray = rows["batch"].to_numpy()
    if not pc.any(pc.not_equal(rows["row_key"], rows["row_version"])).as_py():
        return batches  # without ids every version is a row of its own

    keys = rows["row_key"].combine_chunks()
    key_rows = pa.concat_tables(
        [chunk.filter(pc.is_in(chunk["row_key"], value_set=keys)) for chunk in _read_digests(RunContext(recipe, home))]
    )
    key_counts = pc.value_counts(key_rows["row_key"])
    repeated_keys = pc.filter(
        pc.struct_field(key_counts, "values"), pc.greater(pc.struct_field(key_counts, "counts"), 1)
    )
    key_rows = key_rows.filter(pc.is_in(key_rows["row_key"], value_set=repeated_keys)).combine_chunks()
    if not len(key_rows):
        return batches

    lowest_batches = _find_lowest_batches(key_rows)
    indices = pc.index_in(rows["row_version"].combine_chunks(), value_set=key_rows["row_version"].combine_chunks())
    is_matched = np.asarray(indices.is_valid())
    result = batches.copy()
    result[is_matched] = lowest_batches[np.asarray(indices.drop_null())]
    return result


def _read_digests(context: RunContext) -> "Iterator[pa.Table]":
    """Yield all rows, with digests of the targets under their current names."""
    target_columns = [context.objective.TARGET] if context.recipe.contract.label.rename else []
    for chunk in delta_tables.rows_of(context.home.corpus)([*CONTENT, "row_version", "batch", *target_columns]):
        digests = label_names.digest_targets(chunk, context.recipe)
        yield chunk.set_column(CONTENT.index("target_digest"), "target_digest", digests).drop_columns(target_columns)


def _find_lowest_batches(rows: "pa.Table") -> "np.ndarray":
    """Return (rows,) the lowest batch of the rows with the same key, input and target."""
    import numpy as np

    columns = (rows[name].combine_chunks().dictionary_encode(null_encoding="encode") for name in CONTENT)
    codes = [np.asarray(column.indices) for column in columns]
    groups = np.unique(np.column_stack(codes), axis=0, return_inverse=True)[1].ravel()
    lowest: np.ndarray = np.full(groups.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, groups, rows["batch"].to_numpy())
    return lowest[groups]
