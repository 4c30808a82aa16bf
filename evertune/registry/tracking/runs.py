"""One MLflow run for each fine-tuning, however often it is interrupted."""

import contextlib
import json
import logging
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.errors import RegistryError
from evertune.models import base as base_models
from evertune.records import Snapshot, Tokens
from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.store import client, experiment, said, tracking_uri
from evertune.runtime.files import append_json, read_json, read_json_lines, write_json
from evertune.runtime.home import Home
from evertune.runtime.secrets import bare, hidden

if TYPE_CHECKING:
    from evertune.config import Recipe

logger = logging.getLogger(__name__)
HISTORY, SENT = "history.jsonl", "sent.json"  # metrics by step, and how many of its lines MLflow has
SOON = 1.0  # seconds that a metric waits for others to be sent with
LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "mlflow", "prefect", "great-expectations")


class Run:
    """An MLflow run that is being written.

    Args:
        run_id: of MLflow.
        folder: the run's own folder; a copy of the metrics by step is kept in it, for the report.
    """

    def __init__(self, home: Home, run_id: str, folder: Path) -> None:
        self._client, self._home, self.run_id, self.folder = client(home), home, run_id, folder
        self._noted = {frozenset(line.items()) for line in history(folder)}
        self._lock, self._waiting = threading.Lock(), False

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of one step, once; they are on the disk at once, and sent within seconds together with others."""
        entry = {"step": step, **metrics}
        if frozenset(entry.items()) in self._noted:
            return  # a training that goes on after a crash hands on again what its checkpoint holds
        append_json(self.folder / HISTORY, {"time": int(time.time() * 1000), **entry})
        self._noted.add(frozenset(entry.items()))
        if not self._waiting:
            self._waiting = True
            threading.Thread(target=self._send_soon, daemon=True).start()  # training does not wait for it

    def _send_soon(self) -> None:
        time.sleep(SOON)
        self._waiting = False
        try:
            self.flush()
        except RegistryError as error:  # the next time they are sent, or by the flush at the end
            logger.warning("%s; the metrics are kept and sent later", error)

    def flush(self) -> None:
        """Send the metrics that MLflow does not have yet, in one request.

        A crash between request and note sends them again: MLflow keeps a metric of the same time and value once.

        Raises:
            RegistryError: MLflow does not answer.
        """
        from mlflow.entities import Metric

        with self._lock, said("the metrics"):
            lines, sent = _lines(self.folder), read_json(self.folder / SENT) or 0
            metrics = [
                Metric(name, float(value), line["time"], line["step"])
                for line in lines[sent:] for name, value in line.items() if name not in {"time", "step"}
            ]  # fmt: skip
            if metrics:
                self._client.log_batch(self.run_id, metrics=metrics)
                write_json(self.folder / SENT, len(lines))

    def tag(self, **tags: Any) -> None:
        """Set tags `evertune.NAME`, in one request."""
        from mlflow.entities import RunTag

        with said("the tags"):
            self._client.log_batch(
                self.run_id, tags=[RunTag(f"evertune.{name}", str(value)) for name, value in tags.items()]
            )

    def note(self, text: str) -> None:
        """Set the run's description on MLflow's page."""
        with said("the description"):
            self._client.set_tag(self.run_id, "mlflow.note.content", text)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, or a folder with all in it."""
        keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with said(f"the artifact {path.name}"):
            keep(self.run_id, str(path), folder)

    def recipe(self, recipe: "Recipe") -> None:
        """Keep the recipe; that of the last decision replaces the one that the run began with."""
        with said("the recipe"):
            self._client.log_text(self.run_id, recipe.model_dump_json(indent=1), "recipe.json")

    def finish(self, status: str = "FINISHED") -> None:
        """End the run, once all its metrics are sent."""
        self.flush()
        with said("the end of the run"):
            self._client.set_terminated(self.run_id, status)
        unfinished.ended(self._home, "run")


def history(folder: Path) -> list[dict[str, Any]]:
    """Metrics by step of a run, oldest first; of a step that was repeated after a crash, the last."""
    lines = [{name: value for name, value in line.items() if name != "time"} for line in _lines(folder)]
    return list({(line["step"], frozenset(line)): line for line in lines}.values())


def _lines(folder: Path) -> list[dict[str, Any]]:
    return read_json_lines(folder / HISTORY)


def begin(recipe: "Recipe", home: Home, tokens: Tokens, folder: Path) -> Run:
    """Start the run of this folder, or take up the one that an earlier process left.

    Raises:
        RegistryError: MLflow does not answer.
    """
    known, tags = read_json(folder / "run.json"), unfinished.begun(home, "run", folder)
    run = Run(home, known["run_id"] if known else _begun(recipe, home, tokens, tags), folder)
    if known:
        with said(f"the run {run.run_id}, which {folder} belongs to (delete the folder to start anew)"):
            run._client.update_run(run.run_id, status="RUNNING")
    unfinished.close(home, recipe.name, holding="run", but=run.run_id)
    if not known:
        _describe(run, recipe, home, tokens)
        write_json(folder / "run.json", {"run_id": run.run_id})  # last: until then, a run is found by its tag
    return run


def _begun(recipe: "Recipe", home: Home, tokens: Tokens, tags: dict[str, str]) -> str:
    """The id of a new run, or of the one that a process had begun for this folder when it died."""
    mlflow = client(home)
    with said("a new run"):
        place, [(tag, value)] = experiment(home, recipe.name), tags.items()
        its = f"tags.`{tag}` = '{value}' AND attributes.status != 'FINISHED'"
        left = mlflow.search_runs([place], its, max_results=1)
        if left:
            mlflow.update_run(left[0].info.run_id, status="RUNNING")
            return str(left[0].info.run_id)
        title = f"{recipe.name} snapshot {tokens.snapshot.version}"
        return str(mlflow.create_run(place, tags={**tags, "mlflow.user": ledger.who()}, run_name=title).info.run_id)


@contextlib.contextmanager
def failing(home: Home, run_id: str) -> Iterator[None]:
    """Mark the run FAILED if the block raises; the next start takes it up again."""
    try:
        yield
    except BaseException:
        fail(home, run_id)
        raise


def fail(home: Home, run_id: str) -> None:
    """Mark the run FAILED where MLflow answers: what made it fail is what a person shall hear of."""
    with contextlib.suppress(Exception):
        client(home).set_terminated(run_id, "FAILED")


def url(home: Home, run_id: str) -> str:
    """Where a person sees the run: the server's page, else the command that shows it."""
    uri = tracking_uri(home)
    if uri.startswith("http"):
        with said(f"the run {run_id}"):
            run = client(home).get_run(run_id)
        server = bare(uri).rstrip("/")  # no password on a page
        page = f"{server}/#/experiments/{run.info.experiment_id}/runs/{run_id}"
        return f"{page}?workflowType=machine_learning"  # else MLflow shows its menu for agents
    return f"mlflow ui --backend-store-uri {hidden(uri)}"


def _describe(run: Run, recipe: "Recipe", home: Home, tokens: Tokens) -> None:
    from mlflow.entities import Param

    # What shapes the model. How it is judged may change while the run stays the same: that is told by `recipe.json`.
    params = _flat(recipe.model_dump(mode="json", include={"objective", "base_model", "training", "data"}))
    with said("the parameters"):
        run._client.log_batch(run.run_id, params=[Param(key, str(value)[:5000]) for key, value in params.items()])
    run.tag(
        recipe=recipe.name, snapshot=tokens.snapshot.version, fingerprint=tokens.snapshot.fingerprint, code=revision()
    )
    run.recipe(recipe)
    with said("environment and data set"):
        made_with = {**environment(), "base_model": base_models.fingerprint(recipe)}
        run._client.log_dict(run.run_id, made_with, "environment.json")
        _log_dataset(run, recipe, home, tokens.snapshot)


def _log_dataset(run: Run, recipe: "Recipe", home: Home, snapshot: Snapshot) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=f"{recipe.name}-corpus", digest=snapshot.fingerprint[:36], source_type="delta_table",
        source=json.dumps({"path": str(home.corpus), "delta_table_version": snapshot.version}),
        profile=json.dumps({"rows": snapshot.rows, "labels": len(snapshot.labels)}),
    )  # fmt: skip
    run._client.log_inputs(run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        parts = [_flat(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()]
        return {key: item for part in parts for key, item in part.items()}
    return {prefix: value}


def environment() -> dict[str, Any]:
    """Machine, threads and library versions: what arithmetic depends on."""
    import torch

    return {
        "python": platform.python_version(), "platform": platform.platform(), "host": socket.gethostname(),
        "cpus": os.cpu_count(), "threads": torch.get_num_threads(), "arithmetic": _arithmetic(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }  # fmt: skip


def _arithmetic() -> str:
    """The GPU that computes, or what the processor's vector unit can do."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()


def revision() -> str:
    """The git revision of Evertune's code, `+dirty` where it is changed; its version outside a clone."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"evertune {version('evertune')}"
    return commit + ("+dirty" if dirty else "")
