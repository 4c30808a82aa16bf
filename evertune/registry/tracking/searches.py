"""A search in MLflow: one run for all of it, a child run for each trial."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.runs import Run, find_code_revision
from evertune.registry.tracking.store import ensure_experiment, open_client, translate_errors
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.runtime.context import RunContext

RUN = "run.json"


def open_search_run(context: "RunContext", folder: Path, fields: dict[str, str]) -> str:
    """Return the id of a search's MLflow run, created once and continued by later processes.

    A run that a process created before it died, and did not record, is closed by `unfinished.close_abandoned`.

    Args:
        folder: of the search.
        fields: the searched values in words, by path.
    Raises:
        RegistryError: MLflow does not answer.
    """
    tags = {
        **unfinished.mark_started(context.home, "search", folder),
        "evertune.search": folder.name,
        "mlflow.user": ledger.find_user(),
        "evertune.code": find_code_revision(),
    }
    run_record = read_json(folder / RUN)
    if run_record is None:
        run_id = _create_run(context, tags, f"{context.recipe.name} search of {', '.join(fields)}"[:250])
        write_json(folder / RUN, {"run_id": run_id})
        _log_params(context.home, run_id, fields)
        with translate_errors("the recipe"):
            open_client(context.home).log_text(run_id, context.recipe.model_dump_json(indent=1), "recipe.json")
        return run_id
    with translate_errors(
        f"the run {run_record['run_id']}, which {folder} belongs to (delete the folder to start over)"
    ):
        open_client(context.home).update_run(run_record["run_id"], status="RUNNING")
    return str(run_record["run_id"])


def open_trial_run(context: "RunContext", parent: str, folder: Path, number: int, values: dict[str, str]) -> Run:
    """Return the child run of a trial, created once.

    Args:
        parent: id of the search's run.
        folder: of the trial; it holds the metrics by step.
        values: the tried values in words, by path.
    Raises:
        RegistryError: MLflow does not answer.
    """
    run_record = read_json(folder / RUN)
    if run_record is None:
        tags = {"mlflow.parentRunId": parent, "mlflow.user": ledger.find_user()}
        tags[unfinished.FOLDER] = (
            f"{context.home.load_identity()}/{unfinished.KINDS['search']}{folder.parent.parent.name}"
        )
        name = f"trial {number}"
        run_record = {"run_id": _find_leftover(context, parent, name) or _create_run(context, tags, name)}
        _log_params(context.home, run_record["run_id"], values)
        write_json(folder / RUN, run_record)
    with translate_errors(f"the run {run_record['run_id']}"):
        open_client(context.home).update_run(run_record["run_id"], status="RUNNING")
    return Run(context.home, run_record["run_id"], folder)


def end_trial(home: Home, run: Run, state: str, value: float | None, why: str | None) -> None:
    """End a trial's run as `FINISHED`, or as `KILLED` if the trial did not complete.

    Args:
        state: of the trial; `complete` or why it did not complete.
        value: of the metric that is searched for.
        why: the state in words; it becomes the run's description.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    run.send_metrics()
    with translate_errors(f"the end of the run {run.run_id}"):
        mlflow = open_client(home)
        if value is not None:
            time = mlflow.get_run(run.run_id).info.start_time
            mlflow.log_batch(run.run_id, metrics=[Metric("value", value, time, 0)])
        mlflow.set_tag(run.run_id, "evertune.trial", state)
        if why is not None:
            mlflow.set_tag(run.run_id, "mlflow.note.content", why)
        mlflow.set_terminated(run.run_id, "FINISHED" if state == "complete" else "KILLED")


def finish_search_run(home: Home, run_id: str, best: dict[str, float], note: str, files: Path) -> None:
    """End the search's run with its best trial, its result in words, and its report.

    Args:
        best: metrics of the best trial.
        note: the result in words; it becomes the run's description.
        files: folder of the report; it becomes an artifact.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    with translate_errors("the end of the search"):
        mlflow = open_client(home)
        start = mlflow.get_run(run_id).info.start_time
        mlflow.log_batch(run_id, metrics=[Metric(name, value, start, 0) for name, value in best.items()])
        mlflow.set_tag(run_id, "mlflow.note.content", note)
        mlflow.log_artifacts(run_id, str(files), "report")
        mlflow.set_terminated(run_id)
    unfinished.mark_ended(home, "search")


def _create_run(context: "RunContext", tags: dict[str, str], name: str) -> str:
    with translate_errors("a new run"):
        return str(
            open_client(context.home)
            .create_run(ensure_experiment(context.home, context.recipe.name), tags=tags, run_name=name)
            .info.run_id
        )


def _find_leftover(context: "RunContext", parent: str, name: str) -> str | None:
    """Return the run that a process created for a trial before it died, if any."""
    condition = f"tags.`mlflow.parentRunId` = '{parent}' AND tags.`mlflow.runName` = '{name}'"
    with translate_errors("the trials' runs"):
        runs = open_client(context.home).search_runs(
            [ensure_experiment(context.home, context.recipe.name)], condition, max_results=1
        )
    return str(runs[0].info.run_id) if runs else None


def _log_params(home: Home, run_id: str, values: dict[str, str]) -> None:
    from mlflow.entities import Param

    with translate_errors("the parameters"):
        params = [Param(name, value[:5000]) for name, value in values.items()]
        open_client(home).log_batch(run_id, params=params)
