"""Collect what the home knows for the readiness page of a run."""

import logging
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from evertune.data.corpus import tombstones
from evertune.data.corpus import transactions as corpus
from evertune.errors import EvertuneError
from evertune.records import Evaluation, Outcome
from evertune.registry.decisions import ledger, queries
from evertune.registry.tracking import runs
from evertune.registry.versions import versions
from evertune.runs.readiness import Facts, judge_readiness, to_rows
from evertune.runtime.context import RunContext
from evertune.runtime.files import append_json, read_json, read_json_lines
from evertune.runtime.home import Home

logger = logging.getLogger(__name__)
IDENTIFIERS = ("id", "group", "timestamp")
REPRODUCTIONS = "reproductions.jsonl"  # verdicts of `evertune reproduce`
GIT_STATES = {"": "committed", "??": "untracked"}
SHOWN = 8  # changed libraries


def describe_readiness(
    context: RunContext, run: runs.Run, outcome: Outcome, evaluation: Evaluation, origin: Mapping[str, Any]
) -> list[dict[str, Any]] | None:
    """Return the 28 tests with their results, JSON-ready; None where they cannot be judged.

    They decide nothing, so an error is logged and does not fail the run.

    Args:
        origin: of the run's page, see `report.write_run_page`.
    """
    try:
        return to_rows(judge_readiness(collect_facts(context, run, outcome, evaluation, origin)))
    except Exception as error:
        logger.warning("conclude: readiness not judged: %s: %s", type(error).__name__, error)
        return None


def collect_facts(
    context: RunContext, run: runs.Run, outcome: Outcome, evaluation: Evaluation, origin: Mapping[str, Any]
) -> Facts:
    """Return what the home knows.

    Raises:
        EvertuneError: the corpus or MLflow cannot be read.
    """
    recipe = context.recipe
    home = context.home
    version = evaluation.champion_version
    champion = None if version is None else _read_champion(context, version)
    resources = origin.get("resources") or {}
    baseline = (origin.get("word_baseline") or {}).get("metrics") or {}
    counts = outcome.rows
    return Facts(
        expectations=_count_expectations(home),
        inputs={role: recipe.column(role) for role in context.objective.INPUTS},
        identifiers={role: recipe.data.columns[role] for role in IDENTIFIERS if role in recipe.data.columns},
        forgotten=_count_forgotten(context),
        recipe_state=find_recipe_state(recipe.folder / recipe.file),
        searches=_count_folders(home.model / "searches"),
        backtests=_count_folders(home.model / "backtests"),
        metric=recipe.metric,
        falls=recipe.metric in context.objective.LOWER_IS_BETTER,
        score=evaluation.metrics["test"].get(recipe.metric),
        baseline=baseline.get(recipe.metric),
        evidence=outcome.evidence,
        slices=_count_slices(evaluation, recipe.evaluation.gate.slice.min_rows),
        verdict=outcome.decision,
        by_hand=_was_made_by_hand(home, outcome.champion_version),
        reproduced=_find_last_reproduction(home),
        losses=[line["loss"] for line in runs.read_history(run.folder) if "loss" in line],
        steps=list(outcome.seconds),
        has_champion=version is not None,
        previous_is_whole=None if champion is None else champion.is_whole,
        libraries=() if champion is None else _compare_libraries(champion.libraries, origin),
        notified=bool(recipe.notify.targets),
        refused=counts["refused"] / counts["new"] if counts.get("new") else _read_refused_share(home),
        tolerance=recipe.contract.tolerance,
        is_scheduled=recipe.schedule is not None,
        champion_days=None if champion is None else champion.days,
        latency=(resources.get("ratios") or {}).get("latency"),
        latency_bound=recipe.evaluation.gate.resources.get("latency"),
    )


class Champion(NamedTuple):
    """The champion that a run met.

    Args:
        libraries: of the run that made it, versions by name.
        days: since it was registered; None where that is not known.
        is_whole: whether all its files are there and unchanged.
    """

    libraries: Mapping[str, str]
    days: float | None
    is_whole: bool


def _read_champion(context: RunContext, version: int) -> Champion:
    name = context.recipe.registered_name
    facts = versions.describe_version(context.home, name, version)
    registered = facts["model"]["registered"]
    age = datetime.now(UTC) - datetime.fromisoformat(registered) if registered else None
    return Champion(
        libraries=facts["environment"].get("libraries") or {},
        days=None if age is None else age.total_seconds() / 86400,
        is_whole=_has_all_files(context.home, name, version),
    )


def _has_all_files(home: Home, name: str, version: int) -> bool:
    try:
        versions.fetch_bundle(home, name, version)
    except EvertuneError:
        return False
    return True


def _compare_libraries(before: Mapping[str, str], origin: Mapping[str, Any]) -> list[str]:
    """Return the libraries that have changed since, such as `torch 2.12.0 -> 2.13.0`."""
    now = (origin.get("environment") or {}).get("libraries") or {}
    changed = [f"{name} {before[name]} -> {now[name]}" for name in before if name in now and before[name] != now[name]]
    return changed[:SHOWN]


def find_recipe_state(path: Path) -> str | None:
    """Return whether a recipe is `committed`, `changed` or `untracked` in git; None outside a repository."""
    command = ["git", "-C", str(path.parent), "status", "--porcelain", "--ignored", "--", path.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    state = done.stdout[:2].strip()
    return "untracked" if state == "!!" else GIT_STATES.get(state, "changed")


def _count_folders(folder: Path) -> int:
    return sum(path.is_dir() for path in folder.glob("*")) if folder.is_dir() else 0


def _count_slices(evaluation: Evaluation, min_rows: int) -> int:
    """Return the number of slices of the test rows that have enough rows to be tested."""
    slices = (read_json(Path(evaluation.details)) or {}).get("slices") or {}
    return sum(entry["rows"] >= min_rows for entry in slices.values())


def _count_expectations(home: Home) -> int | None:
    result = _read_newest_result(home)
    return None if result is None else int(result["expectations"])


def _read_newest_result(home: Home) -> Mapping[str, Any] | None:
    """Return the result of the newest batch's contract; None where it was never checked, or the pages were removed."""
    for folder in sorted(home.data_docs.glob("[0-9]*"), reverse=True):
        result: Mapping[str, Any] | None = read_json(folder / "result.json")
        if result is not None:
            return result
    return None


def _read_refused_share(home: Home) -> float | None:
    """Return 0 for a run without new rows whose contract was checked before; None where it never was."""
    return None if _read_newest_result(home) is None else 0.0


def _count_forgotten(context: RunContext) -> int | None:
    """Return the number of rows in the corpus that were to be forgotten; None if nothing ever was."""
    stones = tombstones.load_tombstones(context.home)
    if not any(stones.digests.values()):
        return None
    names = ["row_version", "occurrence", *context.objective.COLUMNS, "id", "group"]
    rows = corpus.read_rows(context.home, corpus.newest_version(context.home), names)
    return int(stones.find_forgotten(rows).sum())


def _was_made_by_hand(home: Home, champion: int | None) -> bool:
    """Whether a person made the champion although the gate had not promoted it."""
    if champion is None:
        return False
    moves = [entry for entry in ledger.read_entries(home) if entry["event"] == "moved" and entry["to"] == champion]
    decision = queries.find_last_decision(home, champion)
    is_by_hand = bool(moves and moves[-1].get("by_hand") and not moves[-1].get("rollback"))
    return is_by_hand and (decision is None or decision["verdict"] != "promoted")


def record_reproduction(home: Home, version: int, verdict: str) -> None:
    """Keep how a reproduction ended, for the readiness of later versions."""
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    append_json(home.model / REPRODUCTIONS, {"time": moment, "version": version, "verdict": verdict})


def _find_last_reproduction(home: Home) -> str | None:
    lines = read_json_lines(home.model / REPRODUCTIONS)
    return str(lines[-1]["verdict"]) if lines else None
