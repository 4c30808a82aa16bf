"""From the evidence on disk to the gate's decision."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.gate import decide as gate
from evertune.gate.hypothesis_tests import Scored
from evertune.objectives import module, no_shares
from evertune.records import Candidate, Decision, Evaluation
from evertune.runtime.files import read_json

if TYPE_CHECKING:
    from evertune.config import Recipe


def decide(recipe: "Recipe", report: Evaluation, night: int) -> Decision:
    """Compare challenger and champion on the rows that neither has seen or nearly seen.

    Args:
        night: how many challengers, this one included, this champion has met.
    """
    objective = module(recipe.objective.type)
    with np.load(report.evidence) as evidence:
        names, clean = evidence["names"].tolist(), evidence["mask_test_clean"]
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
    return gate.decide(
        scored, lambda sums: objective.metrics(sums, names), recipe.metric, recipe.evaluation.gate,
        objective.LOWER_IS_BETTER, night, recipe.evaluation.bootstrap, recipe.training.seed, problem=report.problem,
        behaviour=(read_json(Path(report.details)) or {}).get("robustness"),
        no_shares=no_shares(objective),
    )  # fmt: skip


def night(entries: list[dict[str, Any]], champion: int | None, version: int) -> int:
    """How often this champion was challenged with evidence, this time included; a repeated challenge keeps its number.

    Args:
        entries: of the ledger.
    """
    met = [
        one["version"] for one in entries
        if one["event"] == "decision" and one["champion"] == champion and gate.spent(one["evidence"])
    ]  # fmt: skip
    order = list(dict.fromkeys(met))
    return order.index(version) + 1 if version in order else len(order) + 1


def lost(entries: list[dict[str, Any]]) -> str | None:
    """Why a registry without a champion is no first night: what the ledger knows of one; None where there was none.

    Args:
        entries: of the ledger.
    """
    known = [one["to"] for one in entries if one["event"] in {"moved", "external"} and one["to"] is not None]
    if not known:
        return None
    return (
        f"the ledger knows champion {known[-1]}, the registry has none: its alias or version was deleted, or "
        "MLFLOW_TRACKING_URI names another store; if it was taken away on purpose, name the next one with "
        "`evertune promote RECIPE --version N`"
    )


def examples(candidate: Candidate) -> list[Any]:
    """A few inputs for the registered model's input example."""
    return list((read_json(Path(candidate.run_folder) / "parity.json") or {}).get("inputs", [])[:3])
