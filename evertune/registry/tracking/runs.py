"""One MLflow run for each training, however often that is interrupted."""

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
from typing import TYPE_CHECKING, TypedDict, cast

from evertune.errors import RegistryError
from evertune.models import base as base_models
from evertune.records import Snapshot, Tokens
from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.store import ensure_experiment, open_client, tracking_uri, translate_errors
from evertune.runtime.files import append_json, read_json, read_json_lines, write_json
from evertune.runtime.home import Home
from evertune.runtime.secrets import hide_secrets, strip_credentials

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.runtime.context import RunContext

logger = logging.getLogger(__name__)
HISTORY = "history.jsonl"  # metrics by step
SENT = "sent.json"  # number of its lines that MLflow has
SOON = 1.0  # seconds that a metric waits, to be sent together with others
LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "mlflow", "prefect", "great-expectations")


class Environment(TypedDict, total=False):
    """What arithmetic depends on; empty for a run that recorded nothing, and older runs lack some of it.

    Args:
        cpus: number of cores; None if the system does not say.
        arithmetic: the GPU, or the vector instructions of the CPU.
        libraries: versions by name.
        base_model: digest of its files.
    """

    python: str
    platform: str
    host: str
    cpus: int | None
    threads: int
    arithmetic: str
    libraries: dict[str, str]
    base_model: str


class Run:
    """An MLflow run in progress.

    Args:
        run_id: of MLflow.
        folder: of the run; it holds a copy of the metrics by step, for the report.
    """

    def __init__(self, home: Home, run_id: str, folder: Path) -> None:
        self._client = open_client(home)
        self._home = home
        self.run_id = run_id
        self.folder = folder
        self._logged_entries = {frozenset(line.items()) for line in read_history(folder)}
        self._lock = threading.Lock()
        self._is_send_pending = False

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one step, once: to the disk at once, to MLflow within seconds, together with others.

        Raises:
            OSError: the disk is full or not writable.
        """
        entry = {"step": step, **metrics}
        if frozenset(entry.items()) in self._logged_entries:
            return  # a training that continues after a crash logs the metrics of its checkpoint again
        append_json(self.folder / HISTORY, {"time": int(time.time() * 1000), **entry})
        self._logged_entries.add(frozenset(entry.items()))
        if not self._is_send_pending:
            self._is_send_pending = True
            threading.Thread(target=self._send_soon, daemon=True).start()

    def _send_soon(self) -> None:
        time.sleep(SOON)
        self._is_send_pending = False
        try:
            self.send_metrics()
        except RegistryError as error:  # the next call sends them, at the latest the one at the end of the run
            logger.warning("%s; the metrics are stored here and will be sent later", error)

    def send_metrics(self) -> None:
        """Send the metrics that MLflow does not have yet, in one request.

        After a crash between the request and the record of it, they are sent again: MLflow stores a metric of the same
        time and value once.

        Raises:
            RegistryError: MLflow does not answer.
        """
        from mlflow.entities import Metric

        with self._lock, translate_errors("the metrics"):
            lines = _read_lines(self.folder)
            sent = read_json(self.folder / SENT) or 0
            metrics = [
                Metric(name, float(value), line["time"], line["step"])
                for line in lines[sent:]
                for name, value in line.items()
                if name not in {"time", "step"}
            ]
            if metrics:
                self._client.log_batch(self.run_id, metrics=metrics)
                write_json(self.folder / SENT, len(lines))

    def set_tags(self, **tags: object) -> None:
        """Set tags `evertune.NAME`, in one request; without tags none is sent.

        Raises:
            RegistryError: MLflow does not answer.
        """
        if not tags:
            return
        from mlflow.entities import RunTag

        with translate_errors("the tags"):
            self._client.log_batch(
                self.run_id, tags=[RunTag(f"evertune.{name}", str(value)) for name, value in tags.items()]
            )

    def set_description(self, text: str) -> None:
        """Set the run's description on MLflow's page.

        Raises:
            RegistryError: MLflow does not answer.
        """
        with translate_errors("the description"):
            self._client.set_tag(self.run_id, "mlflow.note.content", text)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with its files, as an artifact.

        Args:
            folder: among the run's artifacts. Default: the top one.
        Raises:
            RegistryError: MLflow does not answer.
        """
        upload = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with translate_errors(f"the artifact {path.name}"):
            upload(self.run_id, str(path), folder)

    def log_recipe(self, recipe: "Recipe") -> None:
        """Log the recipe; the recipe of the last decision replaces the one that the run started with.

        Raises:
            RegistryError: MLflow does not answer.
        """
        with translate_errors("the recipe"):
            self._client.log_text(self.run_id, recipe.model_dump_json(indent=1), "recipe.json")

    def finish_run(self, status: str = "FINISHED") -> None:
        """Send all metrics and end the run.

        Args:
            status: of MLflow.
        Raises:
            RegistryError: MLflow does not answer.
        """
        self.send_metrics()
        with translate_errors("the end of the run"):
            self._client.set_terminated(self.run_id, status)
        unfinished.mark_ended(self._home, "run")


def read_history(folder: Path) -> list[dict[str, float]]:
    """Return a run's metrics by step, oldest first; of a step that was repeated after a crash, the last ones.

    Args:
        folder: of the run.
    """
    lines = [{name: value for name, value in line.items() if name != "time"} for line in _read_lines(folder)]
    return list({(line["step"], frozenset(line)): line for line in lines}.values())


def _read_lines(folder: Path) -> list[dict[str, float]]:
    return cast(list[dict[str, float]], read_json_lines(folder / HISTORY))


def open_run(context: "RunContext", tokens: Tokens, folder: Path) -> Run:
    """Create the MLflow run of this folder, or continue the one that an earlier process left.

    Raises:
        RegistryError: MLflow does not answer.
    """
    run_record = read_json(folder / "run.json")
    tags = unfinished.mark_started(context.home, "run", folder)
    run = Run(context.home, run_record["run_id"] if run_record else _create_run(context, tokens, tags), folder)
    if run_record:
        with translate_errors(f"the run {run.run_id}, which {folder} belongs to (delete the folder to start over)"):
            run._client.update_run(run.run_id, status="RUNNING")
    unfinished.close_abandoned(context.home, context.recipe.name, held_lock="run", except_run=run.run_id)
    if not run_record:
        _log_origin(run, context, tokens)
        write_json(folder / "run.json", {"run_id": run.run_id})  # last: before that, the run is found by its tag
    return run


def _create_run(context: "RunContext", tokens: Tokens, tags: dict[str, str]) -> str:
    """Return the id of a new run, or of the one that a process created for this folder before it died."""
    mlflow = open_client(context.home)
    with translate_errors("a new run"):
        experiment_id = ensure_experiment(context.home, context.recipe.name)
        [(tag, value)] = tags.items()
        condition = f"tags.`{tag}` = '{value}' AND attributes.status != 'FINISHED'"
        unfinished_runs = mlflow.search_runs([experiment_id], condition, max_results=1)
        if unfinished_runs:
            mlflow.update_run(unfinished_runs[0].info.run_id, status="RUNNING")
            return str(unfinished_runs[0].info.run_id)
        title = f"{context.recipe.name} snapshot {tokens.snapshot.version}"
        return str(
            mlflow.create_run(
                experiment_id, tags={**tags, "mlflow.user": ledger.find_user()}, run_name=title
            ).info.run_id
        )


@contextlib.contextmanager
def fail_on_error(home: Home, run_id: str) -> Iterator[None]:
    """Mark the run FAILED if the block raises; the next run of the recipe continues it."""
    try:
        yield
    except BaseException:
        mark_failed(home, run_id)
        raise


def mark_failed(home: Home, run_id: str) -> None:
    """Mark the run FAILED; errors of MLflow are ignored, so that they do not hide the error that made it fail."""
    with contextlib.suppress(Exception):
        open_client(home).set_terminated(run_id, "FAILED")


def find_run_url(home: Home, run_id: str) -> str:
    """Return the address of the run's page on the server; without a server, the command that starts one.

    Raises:
        RegistryError: MLflow does not answer.
    """
    uri = tracking_uri(home)
    if uri.startswith("http"):
        with translate_errors(f"the run {run_id}"):
            run = open_client(home).get_run(run_id)
        server = strip_credentials(uri).rstrip("/")  # no password on a page
        page = f"{server}/#/experiments/{run.info.experiment_id}/runs/{run_id}"
        return f"{page}?workflowType=machine_learning"  # else MLflow shows its menu for agents
    return f"mlflow ui --backend-store-uri {hide_secrets(uri)}"


def _log_origin(run: Run, context: "RunContext", tokens: Tokens) -> None:
    from mlflow.entities import Param

    # Only what shapes the model: how it is evaluated may change within the run, and `recipe.json` has that.
    params = _flatten_params(
        context.recipe.model_dump(mode="json", include={"objective", "base_model", "training", "data"})
    )
    with translate_errors("the parameters"):
        run._client.log_batch(run.run_id, params=[Param(key, str(value)[:5000]) for key, value in params.items()])
    run.set_tags(
        recipe=context.recipe.name,
        snapshot=tokens.snapshot.version,
        fingerprint=tokens.snapshot.fingerprint,
        code=find_code_revision(),
    )
    run.log_recipe(context.recipe)
    with translate_errors("the environment and the data set"):
        facts = {**describe_environment(), "base_model": base_models.fingerprint_base(context.recipe)}
        run._client.log_dict(run.run_id, facts, "environment.json")
        _log_dataset(run, context, tokens.snapshot)


def _log_dataset(run: Run, context: "RunContext", snapshot: Snapshot) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=f"{context.recipe.name}-corpus",
        digest=snapshot.fingerprint[:36],
        source_type="delta_table",
        source=json.dumps({"path": str(context.home.corpus), "delta_table_version": snapshot.version}),
        profile=json.dumps({"rows": snapshot.rows, "labels": len(snapshot.labels)}),
    )
    run._client.log_inputs(run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _flatten_params(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        parts = [_flatten_params(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()]
        return {key: item for part in parts for key, item in part.items()}
    return {prefix: value}


def describe_environment() -> Environment:
    """Return what arithmetic depends on: machine, threads and library versions."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "arithmetic": _describe_arithmetic(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _describe_arithmetic() -> str:
    """Return the name of the GPU, or the vector instructions of the CPU."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()


def find_code_revision() -> str:
    """Return the git revision of Evertune's code, `+dirty` if it is changed; outside a clone its version."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"evertune {version('evertune')}"
    return commit + ("+dirty" if dirty else "")
