"""A backtest in MLflow: one run for all of it, a child run for each policy at the end of each window."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.runs import find_code_revision
from evertune.registry.tracking.store import ensure_experiment, open_client, translate_errors
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

RUN = "run.json"
SENT = "sent.json"


class StepFacts(TypedDict):
    """A policy at the end of a window, see `backtesting.verdict.Step`."""

    policy: str
    window: int
    day: str
    rows: int
    metrics: dict[str, float | None]
    retrained: bool
    promoted: bool
    wrong: bool
    before: float | None
    verdict: str | None
    reason: str | None
    drift: float | None
    seconds: float
    model: int | None


class Backtest:
    """The MLflow run of a backtest's folder, created once and continued by later processes.

    Args:
        folder: of the backtest.
        every: length of a window, as given by the user.
    Raises:
        RegistryError: MLflow does not answer.
    """

    def __init__(self, recipe: "Recipe", home: Home, folder: Path, every: str) -> None:
        self._client = open_client(home)
        self._folder = folder
        self._experiment_id = ensure_experiment(home, recipe.name)
        self._home = home
        self._tags = unfinished.mark_started(home, "backtest", folder)
        self._sent_steps: list[str] = read_json(folder / SENT) or []
        run_record = read_json(folder / RUN)
        self.run_id = run_record["run_id"] if run_record else self._create_run(recipe, every)
        with translate_errors(f"the run {self.run_id}, which {folder} belongs to (delete the folder to start over)"):
            self._client.update_run(self.run_id, status="RUNNING")
        unfinished.close_abandoned(home, recipe.name, held_lock="backtest", except_run=self.run_id)

    def _create_run(self, recipe: "Recipe", every: str) -> str:
        tags = {
            "evertune.backtest": self._folder.name,
            "mlflow.user": ledger.find_user(),
            "evertune.code": str(find_code_revision()),
        }
        tags |= self._tags
        with translate_errors("a new run"):
            run = self._client.create_run(
                self._experiment_id, tags=tags, run_name=f"{recipe.name} backtest, every {every}"
            )
            write_json(self._folder / RUN, {"run_id": run.info.run_id})
            self._client.log_text(run.info.run_id, recipe.model_dump_json(indent=1), "recipe.json")
        return str(run.info.run_id)

    def log_step(self, step: StepFacts) -> None:
        """Log a step as a child run, once.

        Args:
            step: JSON-ready facts of a policy at the end of a window.
        Raises:
            RegistryError: MLflow does not answer.
        """
        name = f"{step['policy']} {step['day']}"
        if name in self._sent_steps:
            return
        with translate_errors(f"the step {name}"):
            self._send_step(name, step)
        self._sent_steps.append(name)
        write_json(self._folder / SENT, self._sent_steps)

    def _send_step(self, name: str, step: StepFacts) -> None:
        from mlflow.entities import Metric, Param

        condition = f"tags.`mlflow.parentRunId` = '{self.run_id}' AND tags.`mlflow.runName` = '{name}'"
        # A process that died here may have left the run.
        existing_runs = self._client.search_runs([self._experiment_id], condition, max_results=1)
        tags = {"mlflow.parentRunId": self.run_id, "mlflow.user": ledger.find_user(), **self._tags}
        if existing_runs:
            run = existing_runs[0]
        else:
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=name)
        numbers = {**step["metrics"], "rows": step["rows"], "seconds": step["seconds"], "drift_p": step["drift"]}
        metrics = [
            Metric(key, float(value), run.info.start_time, step["window"])
            for key, value in numbers.items()
            if value is not None
        ]
        facts = ("policy", "window", "day", "retrained", "promoted", "wrong", "verdict", "model", "reason")
        values: Mapping[str, object] = step
        params = [Param(key, str(values[key])[:5000]) for key in facts if values[key] is not None]
        self._client.log_batch(run.info.run_id, metrics=metrics, params=params)
        self._client.set_terminated(run.info.run_id)

    def finish_run(self, numbers: dict[str, float], note: str, files: Path) -> None:
        """End the run with its totals, the recommendation and the report.

        Args:
            numbers: metrics by name.
            note: the recommendation; it becomes the run's description.
            files: folder of the report; it becomes an artifact.
        Raises:
            RegistryError: MLflow does not answer.
        """
        from mlflow.entities import Metric

        with translate_errors("the end of the backtest"):
            start = self._client.get_run(self.run_id).info.start_time
            metrics = [Metric(key, value, start, 0) for key, value in numbers.items()]
            self._client.log_batch(self.run_id, metrics=metrics)
            self._client.set_tag(self.run_id, "mlflow.note.content", note)
            self._client.log_artifacts(self.run_id, str(files), "report")
            self._client.set_terminated(self.run_id)
        unfinished.mark_ended(self._home, "backtest")
