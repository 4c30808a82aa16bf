"""A staged batch through contract and split into the corpus: what the validate step and a release have in common."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.contract import judge
from evertune.data.contract.batch import RemoteWorkers
from evertune.data.corpus import staging, transactions
from evertune.data.corpus.parquet_chunks import rows_of
from evertune.data.splits import assign
from evertune.errors import DataError
from evertune.objectives import load_objective
from evertune.records import Batch, Snapshot
from evertune.runtime import helper_process
from evertune.runtime.home import Home
from evertune.runtime.threads import BackgroundWorker, Spread, release_memory

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)
NEEDED = ("great_expectations", "deltalake", "evertune.data.splits.minhash")  # what judging imports


def start_validator() -> None:
    """A batch will come: start the process that judges it, which has imported Great Expectations by then."""
    helper_process.start_helper(*NEEDED)


def admit_batch(
    batch: Batch,
    recipe: Recipe,
    home: Home,
    docs_folder: Path | None = None,
    meanwhile: Sequence[str] = (),
    afterwards: Callable[[], object] | None = None,
    spread: Spread | None = None,
) -> tuple[Snapshot, judge.Verdicts | None]:
    """Judge a staged batch and commit it; a batch that is committed already, or holds nothing, changes nothing.

    Args:
        docs_folder: where Data Docs go. Default: none are written.
        meanwhile, afterwards: see `beside.call`; of the process that `prepare` started, which judges.
        spread: has other machines judge a batch of many parts instead.
    Returns:
        The corpus after it; the verdicts, None where nothing was left to judge.
    Raises:
        BatchStoppedError: the batch is unacceptable as a whole; its refused rows are kept, the next run judges again.
        DataError: no row has ever come, another run replaced the staged batch, or a table cannot be written.
    """
    if batch.path is None or transactions.is_committed(batch, home):
        helper_process.end_processes()
    if batch.path is None and not transactions.last_number(home):
        raise DataError(f"the sources hold no rows ({', '.join(batch.sources) or 'nothing to read'}); add some")
    if batch.path is None or transactions.is_committed(batch, home):
        return label_names.rename_snapshot(transactions.take_snapshot(home), recipe), None
    accepted_file = transactions.ChunkFile(home.batches)
    labels_before = transactions.load_label_counts(home)
    try:
        if spread is not None and batch.rows > judge.SENT:
            helper_process.end_processes()
            verdicts = _judge_batch(batch, recipe, home, accepted_file, docs_folder, spread)
        else:
            verdicts = helper_process.run_in_helper(
                partial(_judge_batch, batch, recipe, home, accepted_file, docs_folder), meanwhile, afterwards
            )
        changes = judge.label_changes.describe_changes(verdicts, recipe, labels_before)
        for warning in (
            *verdicts.warnings,
            *changes,
            *transactions.describe_late_rows(rows_of(accepted_file.path), recipe, home),
        ):
            logger.warning("%s", warning)
        transactions.commit_batch(
            batch, accepted_file, split_accepted_rows(accepted_file, recipe, home), verdicts.refused, home
        )
    except judge.BatchStoppedError as stop:
        transactions.set_aside(batch, stop.verdicts.refused, home)
        raise
    finally:
        accepted_file.drop_file()
    return label_names.rename_snapshot(transactions.take_snapshot(home), recipe), verdicts


def _judge_batch(
    batch: Batch,
    recipe: Recipe,
    home: Home,
    accepted_file: transactions.ChunkFile,
    docs_folder: Path | None,
    spread: Spread | None = None,
) -> judge.Verdicts:
    """The verdicts; accepted rows go to the file, as `splits.signed` gives them, while others are judged."""
    rows, names = staging.open_batch(batch)
    sign_rows = partial(assign.add_signatures, input_role=load_objective(recipe.objective.type).INPUTS[0])
    remote_judge = spread and RemoteWorkers(spread, sign_rows)
    with BackgroundWorker(lambda chunk: accepted_file.add_rows(chunk if remote_judge else sign_rows(chunk))) as writer:
        labels = transactions.known_labels(home)
        known_inputs = transactions.known_inputs(home, recipe)
        verdicts = judge.check_batch(
            rows, names, recipe, labels, known_inputs, writer.submit_item, docs_folder, remote_judge
        )
    accepted_file.close()
    return verdicts


def split_accepted_rows(accepted_file: transactions.ChunkFile, recipe: Recipe, home: Home) -> "pa.Table":
    """The splits of accepted rows, beside all that the corpus holds."""
    inputs = load_objective(recipe.objective.type).INPUTS[0]
    release_memory()  # what the contract took: the splits of many rows need it
    assigned_splits = assign.assign_splits(
        rows_of(accepted_file.path),
        transactions.known_rows(home),
        recipe.data.split,
        inputs,
        transactions.make_input_lookup(home, inputs),
        home.batches,
        assign.lends_validation(recipe),
    )
    release_memory()  # what they took: the commit needs it
    return assigned_splits


def commit_release(batch: Batch, accepted_rows: "pa.Table", events: "pa.Table", recipe: Recipe, home: Home) -> None:
    """Commit a release: rows for the corpus, which get their splits, and what the quarantine is told.

    Raises:
        DataError: another run has taken its number, or a table cannot be written.
    """
    accepted_file = transactions.ChunkFile(home.batches)
    try:
        accepted_file.add_rows(assign.add_signatures(accepted_rows, load_objective(recipe.objective.type).INPUTS[0]))
        accepted_file.close()
        transactions.commit_batch(batch, accepted_file, split_accepted_rows(accepted_file, recipe, home), events, home)
    finally:
        accepted_file.drop_file()
