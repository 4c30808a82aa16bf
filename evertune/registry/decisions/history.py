"""A model's whole history, from the ledger and MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.registry.decisions import ledger
from evertune.registry.tracking import costs
from evertune.registry.tracking.run_facts import moment
from evertune.registry.tracking.store import client, said
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

Json = dict[str, Any]
MOST = 5_000  # runs of a kind, the newest
MOVES = {"moved", "external"}
SHOWN = {*MOVES, "decision", "approved", "rejected-by-hand", "abandoned"}


def chronicle(recipe: "Recipe", home: Home) -> Json:
    """Every decision, move, training, look for drift and backtest of a model, JSON-ready, oldest first.

    Raises:
        RegistryError: MLflow does not answer.
    """
    name, entries = recipe.registered_name, ledger.entries(home)
    aliases = _aliases(home, name) if entries else {}
    runs = _runs(home, recipe.name, f"tags.`evertune.recipe` = '{recipe.name}'")
    return {
        "model": name,
        "metric": recipe.metric,
        "champion": aliases.get("champion"),
        "aliases": aliases,
        "decisions": [_decision(one, home, runs) for one in entries if one["event"] in SHOWN],
        "unchanged": sum(one["event"] == "unchanged" for one in entries),
        "trainings": [_training(one) for one in runs.values()],
        "monitors": [_monitor(one) for one in _runs(home, recipe.name, "tags.`evertune.monitor` != ''").values()],
        "backtests": [_backtest(one) for one in _runs(home, recipe.name, "tags.`evertune.backtest` != ''").values()],
    }


def _aliases(home: Home, name: str) -> dict[str, int]:
    found = {alias: models.alias(home, name, alias) for alias in ("champion", "challenger")}
    return {alias: version for alias, version in found.items() if version is not None}


def _runs(home: Home, recipe: str, which: str) -> dict[str, Any]:
    """Runs of the recipe's experiment by id, oldest first; none where there is no experiment yet."""
    mlflow = client(home)
    with said(f"the runs of {recipe}"):
        place = mlflow.get_experiment_by_name(recipe)
        if place is None:
            return {}
        order = ["attributes.start_time DESC"]
        found = mlflow.search_runs([place.experiment_id], which, max_results=MOST, order_by=order)
    return {one.info.run_id: one for one in reversed(found)}


def _decision(entry: Json, home: Home, runs: dict[str, Any]) -> Json:
    """A line of the ledger, with the metric that it was made on and the way to its run's own report."""
    judged: Json = next((one for one in entry.get("evidence", ()) if one["test"] == "minimum"), {})
    what = entry.get("verdict") or ("rollback" if entry.get("rollback") else entry["event"])
    what = "by hand" if entry["event"] == "moved" and entry.get("by_hand") and what != "rollback" else what
    run = runs.get(str(entry.get("run_id")))
    return {
        "time": entry["time"], "event": entry["event"], "what": what, "who": entry["who"], "from": entry.get("from"),
        "version": entry.get("version", entry.get("to")), "reason": entry.get("reason"),
        "run_id": entry.get("run_id"), "report": None if run is None else _report(home, run),
        **{name: judged.get(name) for name in ("challenger", "low", "high", "rows")},
    }  # fmt: skip


def _report(home: Home, run: Any) -> str | None:
    folder = home.runs / Path(run.data.tags.get("evertune.folder", "")).name
    page = folder / "report" / "report.html"
    return str(page) if page.is_file() else None


def _training(run: Any) -> Json:
    names = ("rows_corpus", "rows_accepted", "rows_refused", costs.SECONDS)
    return {**_about(run), **{name: run.data.metrics.get(name) for name in names}}


def _monitor(run: Any) -> Json:
    tags, p = run.data.tags, run.data.metrics.get("p")
    found = "too few rows" if p is None else tags["evertune.monitor"]  # the tag knows drift and no drift alone
    return {
        **_about(run), "found": found, "version": tags.get("evertune.version"),
        "p": p, "reason": tags.get("mlflow.note.content"),
        "source": tags.get("evertune.source"),
    }  # fmt: skip


def _backtest(run: Any) -> Json:
    return {**_about(run), "reason": run.data.tags.get("mlflow.note.content")}


def _about(run: Any) -> Json:
    return {"run_id": run.info.run_id, "time": moment(run.info.start_time), "status": run.info.status}
