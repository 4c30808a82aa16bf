"""The test rows that champion and challenger are scored on."""

from typing import TYPE_CHECKING

from evertune.data import label_names
from evertune.data.columns.strings import mask_equal
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.evaluation.evaluate import select_scored_rows
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ["row_version", "row_key", "batch", "split", "component"]


def load_test_rows(context: RunContext, version: int, since: int | None) -> "tuple[pa.Table, set[str]]":
    """Return the test rows to score, and the row versions among them that leaked into a training.

    A row leaked if it is in or near the rows that the challenger or the champion was trained on. The column `batch` of
    the rows is the batch that first brought their content.

    Args:
        version: of the corpus; the challenger was trained on this snapshot.
        since: newest batch that the champion knew; None without a champion.
    Raises:
        DataError: the corpus cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    all_rows = corpus.read_rows(context.home, version, COLUMNS)
    leaked = _find_leaked_rows(all_rows, context.home, version, since)
    aged_rows = set_first_batches(all_rows, context)
    is_scored = pa.array(select_scored_rows(aged_rows, context.recipe.evaluation.window, since))
    chosen = aged_rows.filter(is_scored)
    # The window keeps the newest rows: older batches need not be read.
    last_unread_batch = all_rows.filter(is_scored)["batch"][0].as_py() - 1 if len(chosen) else None
    rows = corpus.read_rows(context.home, version, since=last_unread_batch)
    rows = rows.take(pc.index_in(chosen["row_version"], value_set=rows["row_version"]))
    rows = rows.set_column(rows.column_names.index("batch"), "batch", chosen["batch"])
    if "component" not in rows.column_names:
        rows = rows.append_column("component", chosen["component"])
    return label_names.rename_rows(rows, context.recipe), leaked


def _find_leaked_rows(all_rows: "pa.Table", home: Home, version: int, since: int | None) -> set[str]:
    """Return the row versions that leaked into the challenger's training or into the champion's."""
    leaked: set[str] = set(splits.find_leaked_rows(all_rows).to_pylist())
    if since is not None and has_superseded_rows(all_rows):
        champion_rows = corpus.read_rows(home, version, COLUMNS, until=since)
        leaked |= set(splits.find_leaked_rows(champion_rows).to_pylist())
    return leaked


def has_superseded_rows(rows: "pa.Table") -> bool:
    """Return whether earlier versions of these rows may exist.

    Without an id column there are none: rows are only added, and components only grow.

    Args:
        rows: with `row_key` and `row_version`.
    """
    import pyarrow.compute as pc

    return bool(pc.any(pc.not_equal(rows["row_key"], rows["row_version"])).as_py())


def set_first_batches(rows: "pa.Table", context: RunContext) -> "pa.Table":
    """Return the rows; `batch` of each test row is the one that first brought its content.

    A row that came again with the same content, such as one with a new timestamp, is not new.

    Args:
        rows: with `row_version`, `row_key`, `batch` and `split`.
    Raises:
        DataError: the corpus cannot be read.
    """
    import pyarrow as pa

    batches = rows["batch"].to_numpy().copy()
    is_test = mask_equal(rows["split"], "test")
    batches[is_test] = corpus.find_first_batches(context.home, rows.filter(pa.array(is_test)), context.recipe)
    return rows.set_column(rows.column_names.index("batch"), "batch", pa.array(batches))
