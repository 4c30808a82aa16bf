"""A staged batch through contract and split into the corpus: what the validate step and a release have in common."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from evertune import contract, corpus, splits
from evertune.config import Recipe
from evertune.corpus import staging
from evertune.errors import DataError
from evertune.home import Home
from evertune.objectives import module
from evertune.records import Batch, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)


def admit(
    batch: Batch, recipe: Recipe, home: Home, docs_folder: Path | None = None
) -> tuple[Snapshot, contract.Verdicts | None]:
    """Judge a staged batch and commit it; a batch that is committed already, or holds nothing, changes nothing.

    Args:
        docs_folder: where Data Docs go. Default: none are written.
    Returns:
        The corpus after it; the verdicts, None where nothing was left to judge.
    Raises:
        BatchStoppedError: the batch is unacceptable as a whole; its refused rows are kept, the next run judges again.
        DataError: no row has ever come, another run replaced the staged batch, or a table cannot be written.
    """
    if batch.path is None and not corpus.last_number(home):
        raise DataError(f"the sources hold no rows ({', '.join(batch.sources) or 'nothing to read'}); add some")
    if batch.path is None or corpus.committed(batch, home):
        return corpus.snapshot(home), None
    table = staging.load(batch)
    try:
        verdicts = contract.judge(table, recipe, corpus.known_labels(home), corpus.known_inputs(home), docs_folder)
    except contract.BatchStoppedError as stop:
        corpus.set_aside(batch, stop.verdicts.refused, home)
        raise
    for warning in verdicts.warnings:
        logger.warning("%s", warning)
    corpus.commit(batch, with_splits(verdicts.accepted, recipe, home), verdicts.refused, home)
    return corpus.snapshot(home), verdicts


def with_splits(accepted: "pa.Table", recipe: Recipe, home: Home) -> "pa.Table":
    """Accepted rows with their splits, beside all that the corpus holds."""
    inputs = next(iter(module(recipe.objective.type).COLUMNS))
    known = corpus.history(home, splits.KNOWN)
    look_up = corpus.inputs(home, inputs)
    return splits.assign(accepted, known, recipe.data.split, inputs, look_up, splits.lends_validation(recipe))
