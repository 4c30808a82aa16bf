"""A search in MLflow: one run for all of it, a child run for each trial."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.tracking.runs import Run, revision
from evertune.registry.tracking.store import client, experiment, said
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

RUN = "run.json"


def begin(recipe: "Recipe", home: Home, folder: Path, fields: dict[str, str]) -> str:
    """The run of a search's folder, made at the first call and taken up by later ones.

    One that a process made and died before it was noted is closed by `unfinished`.

    Args:
        fields: what is searched, in words, by path.
    Raises:
        RegistryError: MLflow does not answer.
    """
    tags = {
        **unfinished.begun(home, "search", folder), "evertune.search": folder.name, "mlflow.user": ledger.who(),
        "evertune.code": revision(),
    }  # fmt: skip
    known = read_json(folder / RUN)
    if known is None:
        run_id = _made(recipe, home, tags, f"{recipe.name} search of {', '.join(fields)}"[:250])
        write_json(folder / RUN, {"run_id": run_id})
        _params(home, run_id, fields)
        with said("the recipe"):
            client(home).log_text(run_id, recipe.model_dump_json(indent=1), "recipe.json")
        return run_id
    with said(f"the run {known['run_id']}, which {folder} belongs to (delete the folder to start anew)"):
        client(home).update_run(known["run_id"], status="RUNNING")
    return str(known["run_id"])


def trial(recipe: "Recipe", home: Home, parent: str, folder: Path, number: int, values: dict[str, str]) -> Run:
    """The child run of a trial, made once.

    Args:
        folder: the trial's own, in which its metrics by step are kept; values: what is tried, in words.
    Raises:
        RegistryError: MLflow does not answer.
    """
    known = read_json(folder / RUN)
    if known is None:
        tags = {"mlflow.parentRunId": parent, "mlflow.user": ledger.who()}
        tags[unfinished.FOLDER] = f"{home.identity()}/{unfinished.KINDS['search']}{folder.parent.parent.name}"
        name = f"trial {number}"
        known = {"run_id": _left(recipe, home, parent, name) or _made(recipe, home, tags, name)}
        _params(home, known["run_id"], values)
        write_json(folder / RUN, known)
    with said(f"the run {known['run_id']}"):
        client(home).update_run(known["run_id"], status="RUNNING")
    return Run(home, known["run_id"], folder)


def end_trial(home: Home, run: Run, state: str, value: float | None, why: str | None) -> None:
    """End a trial's run, `FINISHED`, or `KILLED` where it was pruned.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    run.flush()
    with said(f"the end of the run {run.run_id}"):
        mlflow = client(home)
        if value is not None:
            time = mlflow.get_run(run.run_id).info.start_time
            mlflow.log_batch(run.run_id, metrics=[Metric("value", value, time, 0)])
        mlflow.set_tag(run.run_id, "evertune.trial", state)
        if why is not None:
            mlflow.set_tag(run.run_id, "mlflow.note.content", why)
        mlflow.set_terminated(run.run_id, "FINISHED" if state == "complete" else "KILLED")


def finish(home: Home, run_id: str, best: dict[str, float], note: str, files: Path) -> None:
    """End the search's run with its best trial, the sentence, and the report's folder as an artifact.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    with said("the end of the search"):
        mlflow = client(home)
        start = mlflow.get_run(run_id).info.start_time
        mlflow.log_batch(run_id, metrics=[Metric(name, value, start, 0) for name, value in best.items()])
        mlflow.set_tag(run_id, "mlflow.note.content", note)
        mlflow.log_artifacts(run_id, str(files), "report")
        mlflow.set_terminated(run_id)
    unfinished.ended(home, "search")


def _made(recipe: "Recipe", home: Home, tags: dict[str, str], name: str) -> str:
    with said("a new run"):
        return str(client(home).create_run(experiment(home, recipe.name), tags=tags, run_name=name).info.run_id)


def _left(recipe: "Recipe", home: Home, parent: str, name: str) -> str | None:
    """The run that a process made for a trial before it died."""
    mine = f"tags.`mlflow.parentRunId` = '{parent}' AND tags.`mlflow.runName` = '{name}'"
    with said("the trials' runs"):
        left = client(home).search_runs([experiment(home, recipe.name)], mine, max_results=1)
    return str(left[0].info.run_id) if left else None


def _params(home: Home, run_id: str, values: dict[str, str]) -> None:
    from mlflow.entities import Param

    with said("the parameters"):
        params = [Param(name, value[:5000]) for name, value in values.items()]
        client(home).log_batch(run_id, params=params)
