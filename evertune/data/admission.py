"""A staged batch through contract and split into the corpus: what the validate step and a release have in common."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.contract import judge as contract
from evertune.data.corpus import staging
from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.parquet_chunks import rows_of
from evertune.data.splits import assign as splits
from evertune.errors import DataError
from evertune.objectives import module
from evertune.records import Batch, Snapshot
from evertune.runtime import helper_process as beside
from evertune.runtime.home import Home
from evertune.runtime.threads import Behind, Spread, give_back

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)
NEEDED = ("great_expectations", "deltalake", "evertune.data.splits.minhash")  # what judging imports


def prepare() -> None:
    """A batch will come: start the process that judges it, which has imported Great Expectations by then."""
    beside.prepare(*NEEDED)


def admit(
    batch: Batch, recipe: Recipe, home: Home, docs_folder: Path | None = None,
    meanwhile: Sequence[str] = (), afterwards: Callable[[], object] | None = None, spread: Spread | None = None,
) -> tuple[Snapshot, contract.Verdicts | None]:  # fmt: skip
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
    if batch.path is None or corpus.committed(batch, home):
        beside.dismiss()
    if batch.path is None and not corpus.last_number(home):
        raise DataError(f"the sources hold no rows ({', '.join(batch.sources) or 'nothing to read'}); add some")
    if batch.path is None or corpus.committed(batch, home):
        return relabel.snapshot(corpus.snapshot(home), recipe), None
    accepted, before = corpus.PartsFile(home.batches), corpus.label_counts(home)
    try:
        if spread is not None and batch.rows > contract.SENT:
            beside.dismiss()
            verdicts = _judged(batch, recipe, home, accepted, docs_folder, spread)
        else:
            verdicts = beside.call(partial(_judged, batch, recipe, home, accepted, docs_folder), meanwhile, afterwards)
        changes = contract.label_changes.notes(verdicts, recipe, before)
        for warning in (*verdicts.warnings, *changes, *corpus.late(rows_of(accepted.path), recipe, home)):
            logger.warning("%s", warning)
        corpus.commit(batch, accepted, dealt(accepted, recipe, home), verdicts.refused, home)
    except contract.BatchStoppedError as stop:
        corpus.set_aside(batch, stop.verdicts.refused, home)
        raise
    finally:
        accepted.drop()
    return relabel.snapshot(corpus.snapshot(home), recipe), verdicts


def _judged(
    batch: Batch, recipe: Recipe, home: Home, accepted: corpus.PartsFile, docs_folder: Path | None,
    spread: Spread | None = None,
) -> contract.Verdicts:  # fmt: skip
    """The verdicts; accepted rows go to the file, as `splits.signed` gives them, while others are judged."""
    rows, names = staging.load(batch)
    finish = partial(splits.signed, inputs=module(recipe.objective.type).INPUTS[0])
    elsewhere = spread and contract.Elsewhere(spread, finish)
    with Behind(lambda part: accepted.add(part if elsewhere else finish(part))) as behind:
        labels, known = corpus.known_labels(home), corpus.known_inputs(home, recipe)
        verdicts = contract.judge(rows, names, recipe, labels, known, behind.take, docs_folder, elsewhere)
    accepted.close()
    return verdicts


def dealt(accepted: corpus.PartsFile, recipe: Recipe, home: Home) -> "pa.Table":
    """The splits of accepted rows, beside all that the corpus holds."""
    inputs = module(recipe.objective.type).INPUTS[0]
    give_back()  # what the contract took: the splits of many rows need it
    found = splits.dealt(
        rows_of(accepted.path), corpus.known_rows(home), recipe.data.split, inputs, corpus.inputs(home, inputs),
        home.batches, splits.lends_validation(recipe),
    )  # fmt: skip
    give_back()  # what they took: the commit needs it
    return found


def release(batch: Batch, passed: "pa.Table", events: "pa.Table", recipe: Recipe, home: Home) -> None:
    """Commit a release: rows for the corpus, which get their splits, and what the quarantine is told.

    Raises:
        DataError: another run has taken its number, or a table cannot be written.
    """
    accepted = corpus.PartsFile(home.batches)
    try:
        accepted.add(splits.signed(passed, module(recipe.objective.type).INPUTS[0]))
        accepted.close()
        corpus.commit(batch, accepted, dealt(accepted, recipe, home), events, home)
    finally:
        accepted.drop()
