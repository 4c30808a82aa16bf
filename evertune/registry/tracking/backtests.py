"""A replayed history in MLflow: one run for the backtest, a child run for each policy at each window's end."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.runs import revision
from evertune.registry.tracking.store import client, experiment, said
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

RUN, SENT = "run.json", "sent.json"


class Backtest:
    """The run of one folder, made at its first call and taken up by later ones.

    Args:
        folder: of the backtest; every: its windows, as they were asked for.
    Raises:
        RegistryError: MLflow does not answer.
    """

    def __init__(self, recipe: "Recipe", home: Home, folder: Path, every: str) -> None:
        self._client, self._folder, self._place = client(home), folder, experiment(home, recipe.name)
        self._home, self._tags = home, unfinished.begun(home, "backtest", folder)
        self._sent: list[str] = read_json(folder / SENT) or []
        known = read_json(folder / RUN)
        self.run_id = known["run_id"] if known else self._begun(recipe, every)
        with said(f"the run {self.run_id}, which {folder} belongs to (delete the folder to start anew)"):
            self._client.update_run(self.run_id, status="RUNNING")
        unfinished.close(home, recipe.name, holding="backtest", but=self.run_id)

    def _begun(self, recipe: "Recipe", every: str) -> str:
        tags = {"evertune.backtest": self._folder.name, "mlflow.user": ledger.who(), "evertune.code": str(revision())}
        tags |= self._tags
        with said("a new run"):
            run = self._client.create_run(self._place, tags=tags, run_name=f"{recipe.name} backtest, every {every}")
            write_json(self._folder / RUN, {"run_id": run.info.run_id})
            self._client.log_text(run.info.run_id, recipe.model_dump_json(indent=1), "recipe.json")
        return str(run.info.run_id)

    def tell(self, step: dict[str, Any]) -> None:
        """Keep a step as a child run, once."""
        name = f"{step['policy']} {step['day']}"
        if name in self._sent:
            return
        with said(f"the step {name}"):
            self._send(name, step)
        self._sent.append(name)
        write_json(self._folder / SENT, self._sent)

    def _send(self, name: str, step: dict[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        mine = f"tags.`mlflow.parentRunId` = '{self.run_id}' AND tags.`mlflow.runName` = '{name}'"
        left = self._client.search_runs([self._place], mine, max_results=1)  # of a process that died here
        tags = {"mlflow.parentRunId": self.run_id, "mlflow.user": ledger.who(), **self._tags}
        run = left[0] if left else self._client.create_run(self._place, tags=tags, run_name=name)
        numbers = {**step["metrics"], "rows": step["rows"], "seconds": step["seconds"], "drift_p": step["drift"]}
        metrics = [
            Metric(key, float(value), run.info.start_time, step["window"])
            for key, value in numbers.items() if value is not None
        ]  # fmt: skip
        facts = ("policy", "window", "day", "retrained", "promoted", "wrong", "verdict", "model", "reason")
        params = [Param(key, str(step[key])[:5000]) for key in facts if step[key] is not None]
        self._client.log_batch(run.info.run_id, metrics=metrics, params=params)
        self._client.set_terminated(run.info.run_id)

    def finish(self, numbers: dict[str, float], note: str, files: Path) -> None:
        """End the run with the sums, the recommendation, and the report's folder as an artifact."""
        from mlflow.entities import Metric

        with said("the end of the backtest"):
            start = self._client.get_run(self.run_id).info.start_time
            metrics = [Metric(key, value, start, 0) for key, value in numbers.items()]
            self._client.log_batch(self.run_id, metrics=metrics)
            self._client.set_tag(self.run_id, "mlflow.note.content", note)
            self._client.log_artifacts(self.run_id, str(files), "report")
            self._client.set_terminated(self.run_id)
        unfinished.ended(self._home, "backtest")
