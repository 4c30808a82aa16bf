"""From the evidence on disk to the gate's decision."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.gate import decide as gate_rules
from evertune.gate.hypothesis_tests import Scored
from evertune.objectives import load_objective
from evertune.records import Candidate, Decision, Evaluation
from evertune.runtime.files import read_json

if TYPE_CHECKING:
    from evertune.config import Recipe


def decide_challenge(recipe: "Recipe", report: Evaluation, challenge_number: int) -> Decision:
    """Compare challenger and champion on the rows that neither has seen or nearly seen.

    Args:
        night: how many challengers, this one included, this champion has met.
    """
    objective = load_objective(recipe.objective.type)
    with np.load(report.evidence) as evidence:
        names = evidence["names"].tolist()
        clean = evidence["mask_test_clean"]
        champion = evidence["stats_champion"][clean] if "stats_champion" in evidence else None
        scored = Scored(
            challenger=evidence["stats_challenger"][clean],
            champion=champion,
            fresh=evidence["mask_fresh"][clean],
            slices=dict(zip(evidence["slice_names"].tolist(), evidence["slices"][:, clean], strict=True)),
            unusable=int((~clean).sum()),
            majority=evidence["stats_majority"][clean],
            groups=evidence["groups"][clean],
            apart=evidence["mask_new_labels"][clean] if "mask_new_labels" in evidence else None,
        )
    return gate_rules.decide_promotion(
        scored,
        lambda sums: objective.compute_metrics(sums, names),
        recipe.metric,
        recipe.evaluation.gate,
        objective.LOWER_IS_BETTER,
        challenge_number,
        recipe.evaluation.bootstrap,
        recipe.training.seed,
        problem=report.problem,
        behaviour=(read_json(Path(report.details)) or {}).get("robustness"),
        no_shares=objective.ABSOLUTE_METRICS,
    )


def count_challenges(entries: list[dict[str, Any]], champion: int | None, version: int) -> int:
    """How often this champion was challenged with evidence, this time included; a repeated challenge keeps its number.

    Args:
        entries: of the ledger.
    """
    challengers = [
        entry["version"]
        for entry in entries
        if entry["event"] == "decision"
        and entry["champion"] == champion
        and gate_rules.used_error_budget(entry["evidence"])
    ]
    distinct_challengers = list(dict.fromkeys(challengers))
    return distinct_challengers.index(version) + 1 if version in distinct_challengers else len(distinct_challengers) + 1


def explain_lost_champion(entries: list[dict[str, Any]]) -> str | None:
    """Why a registry without a champion is no first night: what the ledger knows of one; None where there was none.

    Args:
        entries: of the ledger.
    """
    champions = [
        entry["to"] for entry in entries if entry["event"] in {"moved", "external"} and entry["to"] is not None
    ]
    if not champions:
        return None
    return (
        f"the ledger knows champion {champions[-1]}, the registry has none: its alias or version was deleted, or "
        "MLFLOW_TRACKING_URI names another store; if it was taken away on purpose, name the next one with "
        "`evertune promote RECIPE --version N`"
    )


def read_examples(candidate: Candidate) -> list[Any]:
    """A few inputs for the registered model's input example."""
    return list((read_json(Path(candidate.run_folder) / "parity.json") or {}).get("inputs", [])[:3])
