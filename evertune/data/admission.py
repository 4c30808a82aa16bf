"""Take a staged batch through contract and splits into the corpus, for the validate step and for releases."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.data import label_names, label_review
from evertune.data.columns.chunks import RowReader
from evertune.data.contract import judge
from evertune.data.contract.batch import RemoteWorkers
from evertune.data.corpus import staging, transactions
from evertune.data.corpus.parquet_chunks import rows_of
from evertune.data.label_review import LabelReview
from evertune.data.splits import assign
from evertune.errors import DataError
from evertune.records import Batch, Snapshot
from evertune.runtime import helper_process
from evertune.runtime.context import RunContext
from evertune.runtime.threads import BackgroundWorker, Spread, release_memory

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)
VALIDATOR_IMPORTS = ("great_expectations", "deltalake", "evertune.data.splits.minhash")


def start_validator() -> None:
    """Start the process that will judge a batch, so that its slow imports are done when the batch comes."""
    helper_process.start_helper(*VALIDATOR_IMPORTS)


def admit_batch(
    batch: Batch,
    context: RunContext,
    docs_folder: Path | None = None,
    meanwhile: Sequence[str] = (),
    afterwards: Callable[[], object] | None = None,
    spread: Spread | None = None,
    review_labels: Callable[[RowReader], LabelReview | None] | None = None,
) -> tuple[Snapshot, judge.Verdicts | None]:
    """Judge a staged batch and commit it; an empty batch, or one that is already committed, changes nothing.

    Args:
        docs_folder: where Data Docs are written. Default: none are written.
        meanwhile, afterwards: as for `helper_process.run_in_helper`, which judges in the process that `start_validator`
            started.
        spread: lets other machines judge a large batch instead.
        review_labels: looks for doubtful labels among the accepted rows. Default: nobody does.
    Returns:
        The corpus afterwards, and the verdicts, or None if nothing was left to judge.
    Raises:
        BatchStoppedError: the batch is unacceptable as a whole; its refused rows are kept, and the next run judges it
            again.
        DataError: the sources never had a row, another run replaced the staged batch, or a table cannot be written.
    """
    is_done = batch.path is None or transactions.is_committed(batch, context.home)
    if is_done:
        helper_process.end_processes()
    if batch.path is None and not transactions.last_number(context.home):
        raise DataError(f"the sources hold no rows ({', '.join(batch.sources) or 'nothing to read'}); add some")
    if is_done:
        return label_names.rename_snapshot(transactions.take_snapshot(context.home), context.recipe), None

    accepted_file = transactions.ChunkFile(context.home.batches)
    labels_before = transactions.load_label_counts(context.home)
    try:
        if spread is not None and batch.rows > judge.SENT:
            helper_process.end_processes()
            verdicts = _judge_batch(batch, context, accepted_file, docs_folder, spread)
        else:
            judge_batch = partial(_judge_batch, batch, context, accepted_file, docs_folder)
            verdicts = helper_process.run_in_helper(judge_batch, meanwhile, afterwards)
        review = review_labels(rows_of(accepted_file.path)) if review_labels and verdicts.rows else None
        if review is not None and review.is_unusual:
            label_review.save_review(context.home, review)
            verdicts, accepted_file, warning = label_review.apply_review(review, verdicts, accepted_file, context)
            logger.warning("%s", warning)
        label_warnings = judge.label_changes.describe_changes(verdicts, context.recipe, labels_before)
        late_warnings = transactions.describe_late_rows(rows_of(accepted_file.path), context)
        for warning in (*verdicts.warnings, *label_warnings, *late_warnings):
            logger.warning("%s", warning)
        splits = split_accepted_rows(accepted_file, context)
        transactions.commit_batch(batch, accepted_file, splits, verdicts.refused, context.home)
    except judge.BatchStoppedError as stop:
        transactions.set_aside(batch, stop.verdicts.refused, context.home)
        raise
    finally:
        accepted_file.drop_file()
    return label_names.rename_snapshot(transactions.take_snapshot(context.home), context.recipe), verdicts


def _judge_batch(
    batch: Batch,
    context: RunContext,
    accepted_file: transactions.ChunkFile,
    docs_folder: Path | None,
    spread: Spread | None = None,
) -> judge.Verdicts:
    """Return the verdicts; accepted rows are signed and written to the file while others are still being judged."""
    rows, names = staging.open_batch(batch)
    sign_rows = partial(assign.add_signatures, input_role=context.objective.INPUTS[0])
    remote_judge = RemoteWorkers(spread, sign_rows) if spread else None
    with BackgroundWorker["pa.Table"](
        lambda chunk: accepted_file.add_rows(chunk if remote_judge else sign_rows(chunk))
    ) as writer:
        labels = transactions.known_labels(context.home)
        known_inputs = transactions.known_inputs(context)
        verdicts = judge.check_batch(
            rows, names, context.recipe, labels, known_inputs, writer.submit_item, docs_folder, remote_judge
        )
    accepted_file.close()
    return verdicts


def split_accepted_rows(accepted_file: transactions.ChunkFile, context: RunContext) -> "pa.Table":
    """Return the splits of accepted rows, assigned with regard to all rows of the corpus."""
    input_role = context.objective.INPUTS[0]
    release_memory()  # the contract's memory, which the splits of many rows need
    assigned_splits = assign.assign_splits(
        rows_of(accepted_file.path),
        transactions.known_rows(context.home),
        context.recipe.data.split,
        input_role,
        transactions.make_input_lookup(context.home, input_role),
        context.home.batches,
        assign.lends_validation(context.recipe),
    )
    release_memory()  # the splits' memory, which the commit needs
    return assigned_splits


def commit_release(batch: Batch, accepted_rows: "pa.Table", events: "pa.Table", context: RunContext) -> None:
    """Assign splits to released rows and commit them.

    Args:
        accepted_rows: rows for the corpus.
        events: rows for the quarantine, each with its new status.
    Raises:
        DataError: another run committed a batch with the same number, or a table cannot be written.
    """
    accepted_file = transactions.ChunkFile(context.home.batches)
    try:
        accepted_file.add_rows(assign.add_signatures(accepted_rows, context.objective.INPUTS[0]))
        accepted_file.close()
        transactions.commit_batch(
            batch, accepted_file, split_accepted_rows(accepted_file, context), events, context.home
        )
    finally:
        accepted_file.drop_file()
