"""Step 6: the gate's decision, and the alias moves that follow from it."""

from evertune.config import Recipe
from evertune.gate import challenge
from evertune.records import Candidate, Decision, Evaluation
from evertune.registry.decisions import ledger, promotion
from evertune.registry.tracking import runs
from evertune.registry.versions import versions
from evertune.runs import recipe_changes
from evertune.runtime.context import open_context
from tasks.artifacts import show_decision
from tasks.step import logger, step


@step
def promote(candidate: Candidate, report: Evaluation, recipe: Recipe) -> Decision:
    """Register the challenger, let the gate decide, and move the champion alias if it decides so; safe to repeat."""
    context = open_context(recipe)
    with runs.fail_on_error(context.home, candidate.run_id):
        ledger.record_recipe_change(context.home, recipe_changes.find_changes(context))
        version = versions.register_version(context, candidate, challenge.read_examples(candidate))
        entries = ledger.read_entries(context.home)
        challenge_number = challenge.count_challenges(entries, report.champion_version, version)
        look = challenge.count_looks(entries, report, version)
        decision = challenge.decide_challenge(recipe, report, challenge_number, look)
        decision = promotion.apply_decision(context, candidate, report, decision, version)
    logger.info("promote: version %d is %s", version, decision.verdict)
    show_decision(recipe.name, decision.verdict, decision.reason, version, decision.evidence)
    return decision
