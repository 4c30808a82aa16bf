"""A look for drift in MLflow: one run each, beside those of the trainings."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.store import client, experiment, said
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Monitoring


def keep(recipe: "Recipe", home: Home, found: "Monitoring", files: Path) -> str:
    """Record what was found, with the report's folder, and return the run's id.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    mlflow = client(home)
    tags = {
        "evertune.monitor": "drift" if found.drifted else "no drift", "evertune.version": str(found.version),
        "evertune.source": found.source[:500], "mlflow.user": ledger.who(), "mlflow.note.content": found.reason[:5000],
    }  # fmt: skip
    if found.triggers:
        tags["evertune.triggers"] = "; ".join(f"{one.name}: {one.held or 'retrain'}" for one in found.triggers)[:5000]
    with home.lock("monitor"), said("what the monitor found"):
        tags |= unfinished.begun(home, "monitor", files)
        unfinished.close(home, recipe.name, holding="monitor")
        run = mlflow.create_run(experiment(home, recipe.name), tags=tags, run_name=f"{recipe.name} monitor")
        numbers = {"p": found.p, **{f"p_{one['test']}": one["adjusted"] for one in found.findings}}
        numbers |= {f"rows_{side}": float(count) for side, count in found.rows.items()}
        numbers["rows_left_out"] = float(found.left_out)
        metrics = [
            Metric(name, float(value), run.info.start_time, 0) for name, value in numbers.items() if value is not None
        ]
        mlflow.log_batch(run.info.run_id, metrics=metrics)
        mlflow.log_artifacts(run.info.run_id, str(files), "report")
        mlflow.set_terminated(run.info.run_id)
        unfinished.ended(home, "monitor")
    return str(run.info.run_id)
