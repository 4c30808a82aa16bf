"""Step 5: challenger and champion on the same sealed rows."""

from pathlib import Path

from evertune import bundle, challenge, corpus, evaluation, relabel, splits
from evertune.config import Recipe
from evertune.errors import EvertuneError
from evertune.home import home_of
from evertune.records import Candidate, Evaluation, digest
from evertune.registry import ledger, models, promotion, tracking
from tasks.artifacts import show_metrics
from tasks.step import said, step


@step
def evaluate(candidate: Candidate, recipe: Recipe) -> Evaluation:
    """Score both models on the same test rows, unless that is done."""
    home, folder = home_of(recipe), Path(candidate.run_folder)
    version = promotion.opponent(home, recipe.registered_name, candidate.run_id)
    # None too for the champion itself that met none, where a crash came before the run's end
    there = version is not None or models.champion(home, recipe.registered_name) is not None
    lost = None if there else challenge.lost(ledger.entries(home))
    seen = candidate.tokens.snapshot.fingerprint
    key = digest(evaluation.STEP_VERSION, candidate.digest, seen, version, lost, recipe.evaluation)
    report = evaluation.kept(folder, key)
    if report is None:
        with tracking.failing(home, candidate.run_id):
            report = _scored(candidate, recipe, version, lost)
        if report.problem is None:  # else it is to be made again once a person has mended what it needs
            evaluation.keep(folder, key, report)
    show_metrics(recipe.name, report)
    beside = f", champion {report.champion_metrics['test'][recipe.metric]:.4f}" if report.champion_metrics else ""
    leaking = f" ({report.leaked:,} of them in or near train rows)" if report.leaked else ""
    value = report.metrics["test"][recipe.metric]
    said.info("evaluate: %s %.4f on the test rows%s%s", recipe.metric, value, leaking, beside)
    return report


def _scored(candidate: Candidate, recipe: Recipe, version: int | None, problem: str | None) -> Evaluation:
    """Score both models; a champion that cannot be read is a reason to hold, not an error."""
    home, champion, near_theirs = home_of(recipe), None, set[str]()
    if version is not None:
        try:
            folder = models.bundle_of(home, recipe.registered_name, version)
            champion, near_theirs = folder, _leaked_to(folder, recipe)
        except (EvertuneError, KeyError) as error:
            problem = f"the champion, version {version}, cannot be read: {error}"
    rows = corpus.rows(home, candidate.tokens.snapshot.version)
    leaked = set(splits.leaked(rows).to_pylist()) | near_theirs
    test = relabel.rows(rows.filter([split == "test" for split in rows.column("split").to_pylist()]), recipe)
    return evaluation.evaluate(recipe, candidate, test, leaked, champion, version, problem=problem)


def _leaked_to(champion: Path, recipe: Recipe) -> set[str]:
    """Test rows that stand in or near what the champion was trained on."""
    return set(splits.leaked(corpus.rows(home_of(recipe), bundle.card(champion)["snapshot"]["version"])).to_pylist())
