"""Step 6: the gate's decision, and the aliases that follow from it."""

from evertune.config import Recipe
from evertune.gate import challenge
from evertune.records import Candidate, Decision, Evaluation
from evertune.registry.decisions import ledger, promotion
from evertune.registry.tracking import runs as tracking
from evertune.registry.versions import versions as models
from evertune.runs import recipe_changes
from evertune.runtime.home import home_of
from tasks.artifacts import show_decision
from tasks.step import said, step


@step
def promote(candidate: Candidate, report: Evaluation, recipe: Recipe) -> Decision:
    """Register the challenger, let the gate decide, and move the champion alias if it says so; safe to repeat."""
    home = home_of(recipe)
    with tracking.failing(home, candidate.run_id):
        ledger.recipe_changed(home, recipe_changes.since(recipe, home))
        version = models.register(recipe, home, candidate, challenge.examples(candidate))
        night = challenge.night(ledger.entries(home), report.champion_version, version)
        decision = challenge.decide(recipe, report, night)
        decision = promotion.settle(recipe, home, candidate, report, decision, version)
    said.info("promote: version %d is %s", version, decision.verdict)
    show_decision(recipe.name, decision.verdict, decision.reason, version, decision.evidence)
    return decision
