"""Step 5: challenger and champion on the same sealed rows."""

from pathlib import Path

from evertune.config import Recipe
from evertune.evaluation import evaluate as evaluation
from evertune.records import Candidate, Evaluation
from evertune.registry.tracking import runs
from evertune.runs import comparison
from evertune.runtime import job_slots
from evertune.runtime.context import open_context
from tasks.artifacts import show_metrics
from tasks.step import logger, step


@step
def evaluate(candidate: Candidate, recipe: Recipe) -> Evaluation:
    """Score both models on the same test rows, unless an earlier process did."""
    context = open_context(recipe)
    folder = Path(candidate.run_folder)
    opponent = comparison.find_opponent(context, candidate.run_id)
    key = comparison.compute_evaluation_key(candidate, recipe, opponent)
    report = evaluation.load_evaluation(folder, key)
    if report is None:
        with runs.fail_on_error(context.home, candidate.run_id), job_slots.hold_slot(recipe.name):
            report = comparison.score_models(candidate, context, opponent)
        if report.problem is None:  # else the next run scores again, once a person has repaired the champion
            evaluation.save_evaluation(folder, key, report)
    show_metrics(recipe.name, report)
    logger.info("evaluate: %s", _summarize_report(report, recipe.metric))
    return report


def _summarize_report(report: Evaluation, metric: str) -> str:
    summary = f"{metric} {report.metrics['test'][metric]:.4f} on the test rows"
    if report.leaked:
        summary += f" ({report.leaked:,} of them in or near train rows)"
    if report.champion_metrics:
        summary += f", champion {report.champion_metrics['test'][metric]:.4f}"
    return summary
