"""Challenger and champion of a run on the same test rows, and what the run's page shows beside the scores."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.columns.strings import mask_equal
from evertune.data.corpus import transactions as corpus
from evertune.errors import EvertuneError
from evertune.evaluation import evaluate, resources, word_baseline, zero_shot
from evertune.evaluation.test_rows import load_test_rows
from evertune.evaluation.word_baseline import WordBaseline
from evertune.gate import challenge
from evertune.monitoring import monitor
from evertune.objectives import extract_cells
from evertune.records import Candidate, Evaluation, compute_digest, to_plain
from evertune.registry.decisions import ledger, queries
from evertune.registry.tracking import queries as run_queries
from evertune.registry.versions import versions
from evertune.runtime.context import RunContext
from evertune.runtime.files import write_json
from evertune.serving import bundle

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opponent:
    """The champion that a challenger is compared with.

    Args:
        version: registered version; None without a champion.
        problem: why there is none although there was one before.
    """

    version: int | None
    problem: str | None = None


def find_opponent(context: RunContext, run_id: str) -> Opponent:
    """Return the champion that the run's model is compared with.

    Raises:
        RegistryError: MLflow does not answer.
    """
    name = context.recipe.registered_name
    version = queries.find_opponent(context.home, name, run_id)
    if version is not None:
        return Opponent(version)
    # The run's own model may be the first champion already, where a crash came before the end of its run.
    if versions.find_champion(context.home, name) is not None:
        return Opponent(None)
    return Opponent(None, challenge.explain_lost_champion(ledger.read_entries(context.home)))


def compute_evaluation_key(candidate: Candidate, recipe: Recipe, opponent: Opponent) -> str:
    """Return the digest of all that an evaluation depends on; the same key, the same result."""
    return compute_digest(
        evaluate.STEP_VERSION,
        candidate.digest,
        candidate.tokens.snapshot.fingerprint,
        opponent.version,
        opponent.problem,
        recipe.evaluation,
    )


def score_models(candidate: Candidate, context: RunContext, opponent: Opponent) -> Evaluation:
    """Score both models on the same rows; write `drift.json` and `zero_shot.json` into the run's folder, for its page.

    A champion that cannot be read is no error: it becomes the evaluation's `problem`, and the gate holds.

    Raises:
        EvertuneError: the rows or the challenger cannot be read.
    """
    champion = None
    since = None
    problem = opponent.problem
    if opponent.version is not None:
        try:
            folder = versions.fetch_bundle(context.home, context.recipe.registered_name, opponent.version)
            champion = folder
            since = int(bundle.read_card(folder)["snapshot"]["batch"])
        except (EvertuneError, KeyError) as error:
            problem = f"the champion, version {opponent.version}, cannot be read: {error}"
    rows, leaked = load_test_rows(context, candidate.tokens.snapshot.version, since)
    report = evaluate.evaluate_models(
        context.recipe, candidate, rows, leaked, champion, opponent.version, problem=problem
    )

    drift = None
    if champion is not None and opponent.version is not None and since is not None and report.problem is None:
        drift = describe_drift(context.recipe, champion, opponent.version, rows, since)
    run_folder = Path(candidate.run_folder)
    write_json(run_folder / "drift.json", drift)
    write_json(run_folder / "zero_shot.json", describe_baseline(context.recipe, rows, candidate))
    write_json(run_folder / challenge.BASELINE, describe_word_baseline(context, rows, candidate))
    opponent_version = None if report.problem else opponent.version
    write_json(
        run_folder / challenge.RESOURCES, describe_resources(context, rows, candidate, champion, opponent_version)
    )
    return report


def describe_word_baseline(context: RunContext, rows: "pa.Table", candidate: Candidate) -> WordBaseline | None:
    """Return what a simple model of the words reaches; None where it does not apply.

    An error is logged and does not fail the run.

    Args:
        rows: test rows.
    """
    if not context.objective.has_labeled_texts:
        return None
    import pyarrow as pa

    try:
        names = ["split", *context.objective.INPUTS, context.objective.TARGET]
        known_rows = corpus.read_rows(context.home, candidate.tokens.snapshot.version, names)
        known_rows = label_names.rename_rows(known_rows, context.recipe)
        train = known_rows.filter(pa.array(mask_equal(known_rows["split"], "train")))
        return word_baseline.measure_word_baseline(context.recipe, train, rows, candidate.tokens.snapshot.labels)
    except Exception as error:
        logger.warning("evaluate: simple baseline not measured: %s: %s", type(error).__name__, error)
        return None


def describe_resources(
    context: RunContext, rows: "pa.Table", candidate: Candidate, champion: Path | None, version: int | None
) -> resources.Resources | None:
    """Return what challenger and champion take to serve.

    An error is logged and does not fail the run; a gate that asks for a bound then holds.

    Args:
        rows: test rows.
        champion: its bundle; version: its registered version. None without a champion that can be read.
    """
    try:
        inputs = extract_cells(rows, context.objective.INPUTS)
        seconds = None if version is None else _read_training_seconds(context, version)
        folder = None if version is None else champion
        return resources.measure_resources(Path(candidate.bundle), folder, inputs, (candidate.seconds, seconds))
    except Exception as error:  # the champion's code may be of any age
        logger.warning("evaluate: size and speed not measured: %s: %s", type(error).__name__, error)
        return None


def _read_training_seconds(context: RunContext, version: int) -> float | None:
    """Return how long the training of a version took; None for one that no run of Evertune made."""
    run_id = versions.fetch_version(context.home, context.recipe.registered_name, version).run_id
    return run_queries.read_training_seconds(context.home, run_id) if run_id else None


def describe_baseline(recipe: Recipe, rows: "pa.Table", candidate: Candidate) -> Mapping[str, object] | None:
    """Return what the base model reaches without training, or why that is not measured; None where it does not apply.

    It decides nothing, so an error is logged and does not fail the run.

    Args:
        rows: test rows.
    """
    try:
        if zero_shot.supports_baseline(recipe):
            return zero_shot.measure_baseline(recipe, rows, candidate.tokens.snapshot.labels)
        reason = zero_shot.explain_missing_baseline(recipe)
        return None if reason is None else {"why": reason}
    except Exception as error:
        logger.warning("evaluate: zero-shot baseline not measured: %s: %s", type(error).__name__, error)
        return None


def describe_drift(
    recipe: Recipe, champion: Path, version: int, rows: "pa.Table", since: int
) -> dict[str, object] | None:
    """Return how the new test rows differ from the older ones, as the champion sees them; None where rows are too few.

    It decides nothing, so an error is logged and does not fail the run.

    Args:
        champion: its bundle; version: its registered version.
        rows: test rows with `batch`.
        since: newest batch that the champion knew.
    """
    try:
        drift: dict[str, object] | None = to_plain(monitor.compare_run_rows(recipe, champion, version, rows, since))
        return drift
    except Exception as error:  # the champion's code may be of any age
        logger.warning("evaluate: drift of the new test rows not measured: %s: %s", type(error).__name__, error)
        return None
