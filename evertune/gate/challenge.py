"""Read the evidence of a challenge from disk, and let the gate decide."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evertune.gate.decide import decide_promotion, used_error_budget
from evertune.gate.expected import RowScores
from evertune.gate.hypothesis_tests import Case, Scored
from evertune.gate.label_scores import compute_label_f1
from evertune.gate.resources import read_baseline, read_ratios
from evertune.objectives import load_objective
from evertune.records import Candidate, Decision, Evaluation, compute_digest
from evertune.runtime.files import read_json

RESOURCES = "resources.json"  # beside the details: what both models take
BASELINE = "word_baseline.json"  # what a simple model reaches

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.registry.decisions.ledger import Entry


def decide_challenge(recipe: "Recipe", report: Evaluation, challenge_number: int, look: int = 1) -> Decision:
    """Compare challenger and champion on the test rows that are in or near neither model's training rows.

    Args:
        recipe: the model's recipe.
        report: what the evaluation wrote.
        challenge_number: how many challengers, this one included, this champion has met.
        look: how many of them it met on these very test rows.
    Raises:
        DataError: the arrays do not describe the same rows.
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
            leaked=int((~clean).sum()),
            majority=evidence["stats_majority"][clean],
            groups=evidence["groups"][clean],
            has_new_label=evidence["mask_new_labels"][clean] if "mask_new_labels" in evidence else None,
        )
        scores = _read_scores(evidence, clean)
    folder = Path(report.details).parent
    details = read_json(Path(report.details)) or {}
    case = Case(
        scored,
        metrics=lambda sums: objective.compute_metrics(sums, names),
        metric=recipe.metric,
        rule=recipe.evaluation.gate,
        lower_is_better=objective.LOWER_IS_BETTER,
        challenge_number=challenge_number,
        resamples=recipe.evaluation.bootstrap,
        seed=recipe.training.seed,
        problem=report.problem,
        robustness=details.get("robustness") or {},
        no_shares=objective.ABSOLUTE_METRICS,
        scores=scores,
        look=look,
        fingerprint=fingerprint_rows(report),
        label_score=partial(compute_label_f1, objective, names) if objective.LABELED else None,
        ratios=read_ratios(read_json(folder / RESOURCES)),
        baseline=read_baseline(read_json(folder / BASELINE)),
    )
    return decide_promotion(case)


def _read_scores(evidence: Mapping[str, NDArray[np.float64]], clean: NDArray[np.bool_]) -> RowScores | None:
    """Return both models' scores of the clean rows; None where there are none."""
    if "log_challenger" not in evidence or "log_champion" not in evidence:
        return None
    return RowScores(
        challenger=evidence["log_challenger"][clean],
        champion=evidence["log_champion"][clean],
        sizes=evidence["sizes"][clean],
        days=evidence["days"][clean],
        ingests=evidence["ingests"][clean],
        classes=evidence["class"][clean].astype(np.int64),
    )


def fingerprint_rows(report: Evaluation) -> str:
    """Return a digest of the clean test rows: challenges on the same rows share a look."""
    with np.load(report.evidence) as evidence:
        if "row_version" not in evidence:
            return ""
        return compute_digest(sorted(evidence["row_version"][evidence["mask_test_clean"]].tolist()))[:16]


def count_challenges(entries: "Sequence[Entry]", champion: int | None, version: int) -> int:
    """Count how often this champion was challenged with evidence, this time included; a repeat keeps its number.

    Args:
        entries: the ledger, oldest first.
        champion: version of the champion; None without one.
        version: version of the challenger.
    """
    challengers = [
        entry["version"]
        for entry in entries
        if entry["event"] == "decision" and entry["champion"] == champion and used_error_budget(entry["evidence"])
    ]
    return _count_distinct(challengers, version)


def count_looks(entries: "Sequence[Entry]", report: Evaluation, version: int) -> int:
    """Count how often this champion was challenged on these very test rows, this time included.

    Args:
        entries: the ledger, oldest first.
        report: what the evaluation wrote.
        version: version of the challenger; a repeat keeps its number.
    """
    fingerprint = fingerprint_rows(report)
    challengers = [
        entry["version"]
        for entry in entries
        if entry["event"] == "decision"
        and entry["champion"] == report.champion_version
        and fingerprint
        and any(item.get("fingerprint") == fingerprint for item in entry["evidence"])
    ]
    return _count_distinct(challengers, version)


def _count_distinct(challengers: list[int], version: int) -> int:
    """Return the number of this challenger among all that came before it."""
    distinct_challengers = list(dict.fromkeys(challengers))
    return distinct_challengers.index(version) + 1 if version in distinct_challengers else len(distinct_challengers) + 1


def explain_lost_champion(entries: "Sequence[Entry]") -> str | None:
    """Return what is wrong if the ledger records a champion and the registry has none; None for a first version.

    Args:
        entries: the ledger, oldest first.
    """
    champions = [
        entry["to"] for entry in entries if entry["event"] in {"moved", "external"} and entry["to"] is not None
    ]
    if not champions:
        return None
    return (
        f"the ledger records champion {champions[-1]}, but the registry has no champion: its alias or version was "
        "deleted, or MLFLOW_TRACKING_URI names another store. If it was removed on purpose, name the next one with "
        "`evertune promote RECIPE --version N`"
    )


def read_examples(candidate: Candidate) -> list[Any]:
    """Return up to three inputs for the registered model's input example."""
    return list((read_json(Path(candidate.run_folder) / "parity.json") or {}).get("inputs", [])[:3])
