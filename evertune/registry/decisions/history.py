"""A model's whole history, from the ledger and MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from evertune.registry.decisions import ledger
from evertune.registry.tracking.queries import TRAINING_SECONDS, format_time
from evertune.registry.tracking.store import open_client, translate_errors
from evertune.registry.versions import versions
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from mlflow.entities import Run

    from evertune.records import Evidence
    from evertune.runtime.context import RunContext

MAX_RUNS = 5_000  # newest runs of a kind
SHOWN = {"moved", "external", "decision", "approved", "rejected-by-hand", "abandoned"}


_End = TypedDict("_End", {"from": int | None})


class DecisionLine(_End):
    """An entry of the ledger, with the metric behind the decision and the path of its run's report."""

    time: str
    event: str
    what: str
    who: str
    version: int | None
    reason: str | None
    run_id: str | None
    report: str | None
    challenger: float | None
    low: float | None
    high: float | None
    rows: int | None


class RunLine(TypedDict):
    """A run of MLflow."""

    run_id: str
    time: str | None
    status: str


class TrainingLine(RunLine):
    """The run of a training, with its metrics; None for those that it lacks."""

    rows_corpus: float | None
    rows_accepted: float | None
    rows_refused: float | None
    training_seconds: float | None


class MonitorLine(RunLine):
    """The run of a check for drift."""

    found: str
    version: str | None
    p: float | None
    reason: str | None
    source: str | None


class BacktestLine(RunLine):
    """The run of a backtest."""

    reason: str | None


class History(TypedDict):
    """Every decision, alias move, training, drift check and backtest of a model, oldest first."""

    model: str
    metric: str
    champion: int | None
    aliases: dict[str, int]
    decisions: list[DecisionLine]
    unchanged: int
    trainings: list[TrainingLine]
    monitors: list[MonitorLine]
    backtests: list[BacktestLine]


def build_history(context: "RunContext") -> History:
    """Return every decision, alias move, training, drift check and backtest of a model, JSON-ready, oldest first.

    Raises:
        RegistryError: MLflow does not answer.
    """
    name = context.recipe.registered_name
    entries = ledger.read_entries(context.home)
    aliases = _find_aliases(context.home, name) if entries else {}
    runs = _find_runs(context.home, context.recipe.name, f"tags.`evertune.recipe` = '{context.recipe.name}'")
    return {
        "model": name,
        "metric": context.recipe.metric,
        "champion": aliases.get("champion"),
        "aliases": aliases,
        "decisions": [_describe_decision(entry, context.home, runs) for entry in entries if entry["event"] in SHOWN],
        "unchanged": sum(entry["event"] == "unchanged" for entry in entries),
        "trainings": [_describe_training(run) for run in runs.values()],
        "monitors": [
            _describe_monitor(run)
            for run in _find_runs(context.home, context.recipe.name, "tags.`evertune.monitor` != ''").values()
        ],
        "backtests": [
            _describe_backtest(run)
            for run in _find_runs(context.home, context.recipe.name, "tags.`evertune.backtest` != ''").values()
        ],
    }


def _find_aliases(home: Home, name: str) -> dict[str, int]:
    version_by_alias = {alias: versions.resolve_alias(home, name, alias) for alias in ("champion", "challenger")}
    return {alias: version for alias, version in version_by_alias.items() if version is not None}


def _find_runs(home: Home, recipe: str, condition: str) -> "dict[str, Run]":
    """Return the runs of the recipe's experiment by id, oldest first; empty if there is no experiment yet."""
    mlflow = open_client(home)
    with translate_errors(f"the runs of {recipe}"):
        experiment = mlflow.get_experiment_by_name(recipe)
        if experiment is None:
            return {}
        order = ["attributes.start_time DESC"]
        runs = mlflow.search_runs([experiment.experiment_id], condition, max_results=MAX_RUNS, order_by=order)
    return {run.info.run_id: run for run in reversed(runs)}


def _describe_decision(entry: ledger.Entry, home: Home, runs: "dict[str, Run]") -> DecisionLine:
    """Return an entry of the ledger, with the metric behind the decision and the path of its run's report."""
    no_test: Evidence = {"test": "minimum"}
    minimum_test = next((test for test in entry.get("evidence", ()) if test["test"] == "minimum"), no_test)
    kind = _name_decision(entry)
    run = runs.get(str(entry.get("run_id")))
    return {
        "time": entry["time"],
        "event": entry["event"],
        "what": kind,
        "who": entry["who"],
        "from": entry.get("from"),
        "version": entry.get("version", entry.get("to")),
        "reason": entry.get("reason"),
        "run_id": entry.get("run_id"),
        "report": None if run is None else _find_report(home, run),
        "challenger": minimum_test.get("challenger"),
        "low": minimum_test.get("low"),
        "high": minimum_test.get("high"),
        "rows": minimum_test.get("rows"),
    }


def _name_decision(entry: ledger.Entry) -> str:
    if entry.get("verdict"):
        return str(entry["verdict"])
    if entry.get("rollback"):
        return "rollback"
    if entry["event"] == "moved" and entry.get("by_hand"):
        return "by hand"
    return str(entry["event"])


def _find_report(home: Home, run: "Run") -> str | None:
    folder = home.runs / Path(run.data.tags.get("evertune.folder", "")).name
    page = folder / "report" / "report.html"
    return str(page) if page.is_file() else None


def _describe_training(run: "Run") -> TrainingLine:
    metrics = run.data.metrics
    return {
        **_describe_run(run),
        "rows_corpus": metrics.get("rows_corpus"),
        "rows_accepted": metrics.get("rows_accepted"),
        "rows_refused": metrics.get("rows_refused"),
        "training_seconds": metrics.get(TRAINING_SECONDS),
    }


def _describe_monitor(run: "Run") -> MonitorLine:
    tags = run.data.tags
    p = run.data.metrics.get("p")
    verdict = "too few rows" if p is None else tags["evertune.monitor"]  # the tag has only `drift` and `no drift`
    return {
        **_describe_run(run),
        "found": verdict,
        "version": tags.get("evertune.version"),
        "p": p,
        "reason": tags.get("mlflow.note.content"),
        "source": tags.get("evertune.source"),
    }


def _describe_backtest(run: "Run") -> BacktestLine:
    return {**_describe_run(run), "reason": run.data.tags.get("mlflow.note.content")}


def _describe_run(run: "Run") -> RunLine:
    return {"run_id": run.info.run_id, "time": format_time(run.info.start_time), "status": run.info.status}
