"""What MLflow keeps of runs: their facts, what trainings cost, and what checks for drift found."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.store import ensure_experiment, open_client, translate_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

    from evertune.records import Candidate, Monitoring
    from evertune.runtime.context import RunContext
    from evertune.runtime.home import Home

TRAINING_SECONDS = "training_seconds"  # metric of a run
TRAINED_SHARE = "trained_share"  # metric of a run: share of the parameters that were trained


class RunFacts(TypedDict):
    """A run of MLflow in plain values: its times in ISO, its metrics, and the rows of its snapshot by split."""

    name: str | None
    started: str | None
    ended: str | None
    who: str | None
    metrics: dict[str, float]
    rows: dict[str, int]


def summarize_training(candidate: "Candidate") -> dict[str, float]:
    """Return the metrics of a run that say what its training cost: seconds, and the share of trained parameters."""
    metrics = {TRAINING_SECONDS: candidate.seconds}
    if candidate.trained is not None:
        metrics[TRAINED_SHARE] = candidate.trained
    return metrics


def read_training_seconds(home: "Home", run_id: str) -> float | None:
    """Return the seconds that a run's training took; None where it recorded none.

    Raises:
        RegistryError: MLflow does not answer, or the run is gone.
    """
    with translate_errors(f"the run {run_id}"):
        seconds = open_client(home).get_run(run_id).data.metrics.get(TRAINING_SECONDS)
    return None if seconds is None else float(seconds)


def sum_training_seconds(context: "RunContext", moment: datetime) -> float:
    """Return the seconds of training in the runs of a recipe that began at this moment or later.

    A run that failed before its training ended counts with all its time. So does a run that a wrong clock dated into
    the future: a spent budget must not come back when the clock is corrected.

    Raises:
        RegistryError: MLflow does not answer.
    """
    mlflow = open_client(context.home)
    page_token = None
    total = 0.0
    condition = f"attributes.start_time >= {int(moment.timestamp() * 1000)}"
    with translate_errors("the trainings of the last days"):
        experiment_id = ensure_experiment(context.home, context.recipe.name)
        while True:
            page = mlflow.search_runs([experiment_id], condition, page_token=page_token)
            total += sum(_count_seconds(run) for run in page)
            page_token = page.token
            if not page_token:
                return total


def _count_seconds(run: "Run") -> float:
    seconds = run.data.metrics.get(TRAINING_SECONDS)
    if seconds is not None:
        return float(seconds)
    if unfinished.kind_of(run) != "run" or run.info.end_time is None:  # not a training, or one in progress
        return 0.0
    return max(0.0, float(run.info.end_time - run.info.start_time) / 1000)


def record_monitoring(context: "RunContext", monitoring: "Monitoring", files: Path) -> str:
    """Record a check for drift as a run of its own and return the run's id.

    Args:
        files: folder of the report; it becomes an artifact.
    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    mlflow = open_client(context.home)
    tags = {
        "evertune.monitor": "drift" if monitoring.drifted else "no drift",
        "evertune.version": str(monitoring.version),
        "evertune.source": monitoring.source[:500],
        "mlflow.user": ledger.find_user(),
        "mlflow.note.content": monitoring.reason[:5000],
    }
    if monitoring.triggers:
        triggers = "; ".join(f"{trigger.name}: {trigger.held or 'retrain'}" for trigger in monitoring.triggers)
        tags["evertune.triggers"] = triggers[:5000]

    numbers = {"p": monitoring.p}
    numbers |= {f"p_{finding['test']}": finding["adjusted"] for finding in monitoring.findings}
    numbers |= {f"rows_{side}": float(count) for side, count in monitoring.rows.items()}
    numbers["rows_left_out"] = float(monitoring.left_out)

    with context.home.lock("monitor"), translate_errors("the results of the drift check"):
        tags |= unfinished.mark_started(context.home, "monitor", files)
        unfinished.close_abandoned(context.home, context.recipe.name, held_lock="monitor")
        run = mlflow.create_run(
            ensure_experiment(context.home, context.recipe.name), tags=tags, run_name=f"{context.recipe.name} monitor"
        )
        metrics = [
            Metric(name, float(value), run.info.start_time, 0) for name, value in numbers.items() if value is not None
        ]
        mlflow.log_batch(run.info.run_id, metrics=metrics)
        mlflow.log_artifacts(run.info.run_id, str(files), "report")
        mlflow.set_terminated(run.info.run_id)
        unfinished.mark_ended(context.home, "monitor")
    return str(run.info.run_id)


def describe_run(run: "Run | None") -> RunFacts:
    """Return a run's name, times, user, metrics and rows in plain values; empty values where there is no run."""
    if run is None:
        return {"name": None, "started": None, "ended": None, "who": None, "metrics": {}, "rows": {}}
    return {
        "name": run.info.run_name,
        "started": format_time(run.info.start_time),
        "ended": format_time(run.info.end_time),
        "who": run.data.tags.get("mlflow.user"),
        "metrics": dict(run.data.metrics),
        "rows": _read_rows(run),
    }


def _read_rows(run: "Run") -> dict[str, int]:
    """Return the rows of the run's snapshot by split, as they were at its start; empty for a run of others."""
    profiles = [entry.dataset.profile for entry in run.inputs.dataset_inputs]
    return dict(json.loads(profiles[0]).get("rows", {})) if profiles and profiles[0] else {}


def format_time(milliseconds: int | None) -> str | None:
    """Return milliseconds since 1970 as ISO time in UTC."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
