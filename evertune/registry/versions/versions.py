"""Registered models: one version a run, and the aliases `champion` and `challenger`."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from evertune.errors import RegistryError
from evertune.registry.decisions import ledger
from evertune.registry.tracking.run_facts import moment, told
from evertune.registry.tracking.store import client, refusal, said
from evertune.registry.versions import logged_models, requirements
from evertune.runtime.home import Home
from evertune.runtime.secrets import hidden
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Candidate

logger = logging.getLogger(__name__)
PARENTS = ("evertune.of", "evertune.start", "evertune.teacher_version")  # tags: versions that one descends from
FILES = "evertune.files"  # tag of a version: `going` while `evertune clean` removes its files, then `removed`
OUTSIDE = "registered outside Evertune, no snapshot on record"
FETCH_SECONDS = 600.0  # that another process may take to fetch a model


def champion(home: Home, name: str) -> int | None:
    """The version in use; None where there is none yet.

    Raises:
        RegistryError: MLflow does not answer.
    """
    return alias(home, name, "champion")


def alias(home: Home, name: str, which: str) -> int | None:
    """The version that an alias names; None where there is none.

    Raises:
        RegistryError: MLflow does not answer, or is not the one that the ledger tells of.
    """
    from mlflow.exceptions import MlflowException

    try:
        return int(client(home).get_model_version_by_alias(name, which).version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" and ledger.knows_versions(home):
            raise RegistryError(
                f"MLflow has no model {name}, but the ledger tells of its versions: is this another store? Set "
                f"MLFLOW_TRACKING_URI and registry.model as they were, or move {home.ledger} away to start anew"
            ) from None
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise RegistryError(refusal(f"the alias {which} of {name}", error)) from None  # as in `said`


def register(recipe: "Recipe", home: Home, candidate: "Candidate", examples: list[Any]) -> int:
    """Log the bundle as an MLflow model and register it; a run has one version, however often this is called.

    Args:
        examples: some inputs, for the model's input example.
    Raises:
        RegistryError: MLflow refused.
    """
    mlflow, name = client(home), recipe.registered_name
    with said(f"the model {name}"):
        if (known := version_of(home, name, candidate.run_id)) is not None:
            return known
        method = bundle.card(Path(candidate.bundle)).get("compression", {}).get("method", "")
        logged = logged_models.of(recipe, home, candidate, examples, requirements.required(recipe, method))
        _ensure_registered(mlflow, name)
        snapshot, noted = candidate.tokens.snapshot, mlflow.get_run(candidate.run_id).data.tags
        made = mlflow.create_model_version(
            name, logged.model_uri, run_id=candidate.run_id, model_id=logged.model_id,  # a server asks for both
            tags={
                "evertune.snapshot": str(snapshot.version), "evertune.fingerprint": snapshot.fingerprint,
                "evertune.bundle": candidate.digest, "evertune.decision": "pending",
                **{key: noted[key] for key in PARENTS if key in noted},
            },
        )  # fmt: skip
    return int(made.version)


def registered(home: Home, name: str, version: int) -> Any:
    """A version as MLflow knows it.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client(home).get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise RegistryError(refusal(f"version {version} of {name}", error)) from None  # as in `said`
        raise RegistryError(f"{name} has no version {version}; `evertune history RECIPE` lists them") from None


def facts(home: Home, name: str, version: int) -> dict[str, Any]:
    """What MLflow keeps of a version: `model`, and of the run that made it `run`, `recipe` and `environment`.

    Of a version that others registered much of it is None or empty, and all of `run` where no run is on record.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    mlflow, made = client(home), registered(home, name, version)
    with said(f"version {version} of {name}"):
        run = mlflow.get_run(made.run_id) if made.run_id else None
        noted = {**(run.data.tags if run else {}), **made.tags}
        tags = {key.removeprefix("evertune."): value for key, value in noted.items()}
        aliases = mlflow.get_registered_model(name).aliases
        files = {kind: _kept_json(home, made.run_id, f"{kind}.json") for kind in ("recipe", "environment") if run}
    shown = ("snapshot", "fingerprint", "bundle", "decision", "code", "variant", "of", "start", "teacher",
             "teacher_version")  # fmt: skip
    return {
        "model": {
            "registered": moment(made.creation_timestamp), "run_id": made.run_id,
            "aliases": sorted(alias for alias, number in aliases.items() if int(number) == version),
            **{key: tags.get(key) for key in shown},
        },
        "run": told(run),
        "recipe": {}, "environment": {}, **files,
    }  # fmt: skip


def made_with(home: Home, run_id: str) -> dict[str, Any]:
    """The revision of the code and the environment that a run noted when it began.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with said(f"the environment of the run {run_id}"):
        tags = client(home).get_run(run_id).data.tags
        return {"code": tags.get("evertune.code"), "environment": _kept_json(home, run_id, "environment.json")}


def _kept_json(home: Home, run_id: str, path: str) -> dict[str, Any]:
    """A JSON artifact of a run; empty where the run has none.

    Raises:
        RegistryError: MLflow does not answer.
    """
    if not any(one.path == path for one in client(home).list_artifacts(run_id)):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(client(home).download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def version_of(home: Home, name: str, run_id: str) -> int | None:
    """The registered version that a run made; None where it made none yet."""
    with said(f"the version of the run {run_id}"):
        found = client(home).search_model_versions(f"name='{name}' and run_id='{run_id}'")
    return min((int(one.version) for one in found), default=None)


def _ensure_registered(mlflow: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def bundle_of(home: Home, name: str, version: int) -> Path:
    """The bundle folder of a registered version, with the very files of its registration; fetched from a remote store.

    Raises:
        RegistryError: the version or its files are not there, the files have changed, or others registered it.
    """
    from mlflow.exceptions import MlflowException

    tags = registered(home, name, version).tags
    made = tags.get("evertune.bundle")
    with said(f"version {version} of {name}"):
        place = urlsplit(client(home).get_model_version_download_uri(name, str(version)))
    advice = (
        "restore the artifact store, go back to a version that is whole with `evertune rollback RECIPE`, or give "
        "another one the place with `evertune promote RECIPE --version N` (`evertune run RECIPE` trains one)"
    )
    if made is None:  # nothing tells which files, or which answers, were tested
        raise RegistryError(f"version {version} of {name}: {OUTSIDE}; {advice}")
    try:
        if place.scheme in {"", "file"}:
            path = unquote(place.path) if place.scheme else place.path
            folder = Path(path) / "artifacts" / "bundle"
        else:
            folder = _fetched(home, name, version, made)
        found = bundle.digest(folder) if (folder / "evertune.json").is_file() else None
    except (MlflowException, OSError, StopIteration) as error:
        raise RegistryError(
            f"version {version} of {name} is registered, but its files cannot be read "
            f"({type(error).__name__}: {hidden(str(error))}); {advice}"
        ) from None  # as in `said`
    if found != made:
        lost = "are gone: `evertune clean` removed them" if FILES in tags else "are not there"
        state = lost if found is None else "are not those that were registered"
        raise RegistryError(f"version {version} of {name}: its files {state}; {advice}")
    return folder


def _fetched(home: Home, name: str, version: int, registered: str) -> Path:
    """A copy of a remote version's bundle, kept under the digest of its files; a damaged copy is fetched again."""
    import mlflow

    kept = home.model / "fetched" / registered
    with home.lock("fetch", timeout=FETCH_SECONDS):
        if not any(bundle.digest(path.parent) == registered for path in kept.rglob("evertune.json")):
            scratch = kept.with_name(f".{registered}")
            for folder in (scratch, kept):
                shutil.rmtree(folder, ignore_errors=True)
            scratch.mkdir(parents=True)
            mlflow.artifacts.download_artifacts(f"models:/{name}/{version}/artifacts/bundle", dst_path=str(scratch))
            scratch.rename(kept)
    return next(path.parent for path in kept.rglob("evertune.json"))


def move_champion(
    home: Home, name: str, to: int, *, expected: int | None, still: Callable[[], None] = lambda: None, **facts: Any
) -> None:
    """Move the alias, under the model's lock: intent, check, alias, confirmation.

    Args:
        expected: the champion that the decision was made against.
        still: raises where the decision does not hold any more.
        facts: reason, evidence and whatever the ledger shall keep.
    Raises:
        RegistryError: somebody moved the champion since; nothing is changed.
    """
    with home.lock("champion"):
        _repair(home, name)
        now = champion(home, name)
        if now != expected:
            raise RegistryError(
                f"the champion of {name} is version {now}, not {expected} as when this was decided; "
                "compare anew with `evertune run RECIPE` (with --force where nothing is new)"
            )
        still()
        ledger.append(home, "intent", **{**facts, "from": now, "to": to})
        with said("the alias champion"):
            client(home).set_registered_model_alias(name, "champion", str(to))
        ledger.append(home, "moved", **{**facts, "from": now, "to": to})


def repair(home: Home, name: str) -> None:
    """Finish the record of a move that a crash cut off, and record moves that others made.

    Raises:
        RegistryError: MLflow does not answer, or another process moves the champion all the time.
    """
    with home.lock("champion"):
        _repair(home, name)


def _repair(home: Home, name: str) -> None:
    now, intent = champion(home, name), ledger.open_intent(home)
    if intent is not None and now == intent["to"]:
        ledger.append(home, "moved", **{**_facts(intent), "repaired": True})
    elif intent is not None:
        why = {"from": intent["from"], "to": intent["to"], "reason": "interrupted before the alias moved"}
        ledger.append(home, "abandoned", **why)
    if now != ledger.last_known(home):
        logger.warning("the champion of %s was moved to version %s outside Evertune", name, now)
        ledger.append(
            home, "external", **{"from": ledger.last_known(home), "to": now, "reason": "moved outside Evertune"}
        )


def _facts(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in {"time", "event"}}


def set_challenger(home: Home, name: str, version: int) -> None:
    """Point the alias `challenger` at a version."""
    with said("the alias challenger"):
        client(home).set_registered_model_alias(name, "challenger", str(version))


def tag(home: Home, name: str, version: int, **tags: Any) -> None:
    """Set tags `evertune.NAME` of a version."""
    with said(f"tags of version {version} of {name}"):
        for key, value in tags.items():
            client(home).set_model_version_tag(name, str(version), f"evertune.{key}", str(value))


def versions(home: Home, name: str, decision: str | None = None) -> list[Any]:
    """All registered versions, or those with this tag `evertune.decision`, oldest first, with their tags."""
    only = "" if decision is None else f" and tags.`evertune.decision` = '{decision}'"
    with said(f"the versions of {name}"):
        return sorted(client(home).search_model_versions(f"name='{name}'{only}"), key=lambda one: int(one.version))
