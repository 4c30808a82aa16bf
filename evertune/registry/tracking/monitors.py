"""A look for drift in MLflow: one run each, beside those of the trainings."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.store import ensure_experiment, open_client, translate_errors
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Monitoring


def record_monitoring(recipe: "Recipe", home: Home, monitoring: "Monitoring", files: Path) -> str:
    """Record what was found, with the report's folder, and return the run's id.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    mlflow = open_client(home)
    tags = {
        "evertune.monitor": "drift" if monitoring.drifted else "no drift",
        "evertune.version": str(monitoring.version),
        "evertune.source": monitoring.source[:500],
        "mlflow.user": ledger.find_user(),
        "mlflow.note.content": monitoring.reason[:5000],
    }
    if monitoring.triggers:
        tags["evertune.triggers"] = "; ".join(
            f"{trigger.name}: {trigger.held or 'retrain'}" for trigger in monitoring.triggers
        )[:5000]
    with home.lock("monitor"), translate_errors("what the monitor found"):
        tags |= unfinished.mark_started(home, "monitor", files)
        unfinished.close_abandoned(home, recipe.name, held_lock="monitor")
        run = mlflow.create_run(ensure_experiment(home, recipe.name), tags=tags, run_name=f"{recipe.name} monitor")
        numbers = {
            "p": monitoring.p,
            **{f"p_{finding['test']}": finding["adjusted"] for finding in monitoring.findings},
        }
        numbers |= {f"rows_{side}": float(count) for side, count in monitoring.rows.items()}
        numbers["rows_left_out"] = float(monitoring.left_out)
        metrics = [
            Metric(name, float(value), run.info.start_time, 0) for name, value in numbers.items() if value is not None
        ]
        mlflow.log_batch(run.info.run_id, metrics=metrics)
        mlflow.log_artifacts(run.info.run_id, str(files), "report")
        mlflow.set_terminated(run.info.run_id)
        unfinished.mark_ended(home, "monitor")
    return str(run.info.run_id)
