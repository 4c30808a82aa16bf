"""Step 6: the gate's decision, and the alias moves that follow from it."""

from evertune.config import Recipe
from evertune.gate import challenge
from evertune.records import Candidate, Decision, Evaluation
from evertune.registry.decisions import ledger, promotion
from evertune.registry.tracking import runs
from evertune.registry.versions import versions
from evertune.runs import recipe_changes
from evertune.runtime.context import RunContext
from evertune.runtime.home import home_of
from tasks.artifacts import show_decision
from tasks.step import logger, step


@step
def promote(candidate: Candidate, report: Evaluation, recipe: Recipe) -> Decision:
    """Register the challenger, let the gate decide, and move the champion alias if it decides so; safe to repeat."""
    home = home_of(recipe)
    with runs.fail_on_error(home, candidate.run_id):
        ledger.record_recipe_change(home, recipe_changes.find_changes(RunContext(recipe, home)))
        version = versions.register_version(RunContext(recipe, home), candidate, challenge.read_examples(candidate))
        challenge_number = challenge.count_challenges(ledger.read_entries(home), report.champion_version, version)
        decision = challenge.decide_challenge(recipe, report, challenge_number)
        decision = promotion.apply_decision(RunContext(recipe, home), candidate, report, decision, version)
    logger.info("promote: version %d is %s", version, decision.verdict)
    show_decision(recipe.name, decision.verdict, decision.reason, version, decision.evidence)
    return decision
