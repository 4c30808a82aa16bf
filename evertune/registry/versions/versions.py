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
from evertune.registry.tracking.run_facts import describe_run, format_time
from evertune.registry.tracking.store import describe_refusal, open_client, translate_errors
from evertune.registry.versions import logged_models, requirements
from evertune.runtime.home import Home
from evertune.runtime.secrets import hide_secrets
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Candidate

logger = logging.getLogger(__name__)
PARENTS = ("evertune.of", "evertune.start", "evertune.teacher_version")  # tags: versions that one descends from
FILES = "evertune.files"  # tag of a version: `going` while `evertune clean` removes its files, then `removed`
OUTSIDE = "registered outside Evertune, no snapshot on record"
FETCH_SECONDS = 600.0  # that another process may take to fetch a model


def find_champion(home: Home, name: str) -> int | None:
    """The version in use; None where there is none yet.

    Raises:
        RegistryError: MLflow does not answer.
    """
    return resolve_alias(home, name, "champion")


def resolve_alias(home: Home, name: str, alias_name: str) -> int | None:
    """The version that an alias names; None where there is none.

    Raises:
        RegistryError: MLflow does not answer, or is not the one that the ledger tells of.
    """
    from mlflow.exceptions import MlflowException

    try:
        return int(open_client(home).get_model_version_by_alias(name, alias_name).version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" and ledger.has_versions(home):
            raise RegistryError(
                f"MLflow has no model {name}, but the ledger tells of its versions: is this another store? Set "
                f"MLFLOW_TRACKING_URI and registry.model as they were, or move {home.ledger} away to start anew"
            ) from None
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise RegistryError(describe_refusal(f"the alias {alias_name} of {name}", error)) from None  # as in `said`


def register_version(recipe: "Recipe", home: Home, candidate: "Candidate", examples: list[Any]) -> int:
    """Log the bundle as an MLflow model and register it; a run has one version, however often this is called.

    Args:
        examples: some inputs, for the model's input example.
    Raises:
        RegistryError: MLflow refused.
    """
    mlflow = open_client(home)
    name = recipe.registered_name
    with translate_errors(f"the model {name}"):
        if (version := find_run_version(home, name, candidate.run_id)) is not None:
            return version
        method = bundle.read_card(Path(candidate.bundle)).get("compression", {}).get("method", "")
        logged_model = logged_models.ensure_logged_model(
            recipe, home, candidate, examples, requirements.list_requirements(recipe, method)
        )
        _ensure_registered(mlflow, name)
        snapshot = candidate.tokens.snapshot
        run_tags = mlflow.get_run(candidate.run_id).data.tags
        model_version = mlflow.create_model_version(
            name,
            logged_model.model_uri,
            run_id=candidate.run_id,
            model_id=logged_model.model_id,  # a server asks for both
            tags={
                "evertune.snapshot": str(snapshot.version),
                "evertune.fingerprint": snapshot.fingerprint,
                "evertune.bundle": candidate.digest,
                "evertune.decision": "pending",
                **{key: run_tags[key] for key in PARENTS if key in run_tags},
            },
        )
    return int(model_version.version)


def fetch_version(home: Home, name: str, version: int) -> Any:
    """A version as MLflow knows it.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        return open_client(home).get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise RegistryError(describe_refusal(f"version {version} of {name}", error)) from None  # as in `said`
        raise RegistryError(f"{name} has no version {version}; `evertune history RECIPE` lists them") from None


def describe_version(home: Home, name: str, version: int) -> dict[str, Any]:
    """What MLflow keeps of a version: `model`, and of the run that made it `run`, `recipe` and `environment`.

    Of a version that others registered much of it is None or empty, and all of `run` where no run is on record.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    mlflow = open_client(home)
    model_version = fetch_version(home, name, version)
    with translate_errors(f"version {version} of {name}"):
        run = mlflow.get_run(model_version.run_id) if model_version.run_id else None
        all_tags = {**(run.data.tags if run else {}), **model_version.tags}
        tags = {key.removeprefix("evertune."): value for key, value in all_tags.items()}
        aliases = mlflow.get_registered_model(name).aliases
        files = {
            kind: _download_json(home, model_version.run_id, f"{kind}.json")
            for kind in ("recipe", "environment")
            if run
        }
    tag_names = (
        "snapshot",
        "fingerprint",
        "bundle",
        "decision",
        "code",
        "variant",
        "of",
        "start",
        "teacher",
        "teacher_version",
    )
    return {
        "model": {
            "registered": format_time(model_version.creation_timestamp),
            "run_id": model_version.run_id,
            "aliases": sorted(alias for alias, number in aliases.items() if int(number) == version),
            **{key: tags.get(key) for key in tag_names},
        },
        "run": describe_run(run),
        "recipe": {},
        "environment": {},
        **files,
    }


def read_run_origin(home: Home, run_id: str) -> dict[str, Any]:
    """The revision of the code and the environment that a run noted when it began.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with translate_errors(f"the environment of the run {run_id}"):
        tags = open_client(home).get_run(run_id).data.tags
        return {"code": tags.get("evertune.code"), "environment": _download_json(home, run_id, "environment.json")}


def _download_json(home: Home, run_id: str, path: str) -> dict[str, Any]:
    """A JSON artifact of a run; empty where the run has none.

    Raises:
        RegistryError: MLflow does not answer.
    """
    if not any(artifact.path == path for artifact in open_client(home).list_artifacts(run_id)):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(open_client(home).download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def find_run_version(home: Home, name: str, run_id: str) -> int | None:
    """The registered version that a run made; None where it made none yet."""
    with translate_errors(f"the version of the run {run_id}"):
        matches = open_client(home).search_model_versions(f"name='{name}' and run_id='{run_id}'")
    return min((int(match.version) for match in matches), default=None)


def _ensure_registered(mlflow: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def fetch_bundle(home: Home, name: str, version: int) -> Path:
    """The bundle folder of a registered version, with the very files of its registration; fetched from a remote store.

    Raises:
        RegistryError: the version or its files are not there, the files have changed, or others registered it.
    """
    from mlflow.exceptions import MlflowException

    tags = fetch_version(home, name, version).tags
    registered_digest = tags.get("evertune.bundle")
    with translate_errors(f"version {version} of {name}"):
        location = urlsplit(open_client(home).get_model_version_download_uri(name, str(version)))
    advice = (
        "restore the artifact store, go back to a version that is whole with `evertune rollback RECIPE`, or give "
        "another one the place with `evertune promote RECIPE --version N` (`evertune run RECIPE` trains one)"
    )
    if registered_digest is None:  # nothing tells which files, or which answers, were tested
        raise RegistryError(f"version {version} of {name}: {OUTSIDE}; {advice}")
    try:
        if location.scheme in {"", "file"}:
            path = unquote(location.path) if location.scheme else location.path
            folder = Path(path) / "artifacts" / "bundle"
        else:
            folder = _fetch_remote_bundle(home, name, version, registered_digest)
        current_digest = bundle.compute_digest(folder) if (folder / "evertune.json").is_file() else None
    except (MlflowException, OSError, StopIteration) as error:
        raise RegistryError(
            f"version {version} of {name} is registered, but its files cannot be read "
            f"({type(error).__name__}: {hide_secrets(str(error))}); {advice}"
        ) from None  # as in `said`
    if current_digest != registered_digest:
        absence = "are gone: `evertune clean` removed them" if FILES in tags else "are not there"
        state = absence if current_digest is None else "are not those that were registered"
        raise RegistryError(f"version {version} of {name}: its files {state}; {advice}")
    return folder


def _fetch_remote_bundle(home: Home, name: str, version: int, digest: str) -> Path:
    """A copy of a remote version's bundle, kept under the digest of its files; a damaged copy is fetched again."""
    import mlflow

    target = home.model / "fetched" / digest
    with home.lock("fetch", timeout=FETCH_SECONDS):
        if not any(bundle.compute_digest(path.parent) == digest for path in target.rglob("evertune.json")):
            scratch = target.with_name(f".{digest}")
            for folder in (scratch, target):
                shutil.rmtree(folder, ignore_errors=True)
            scratch.mkdir(parents=True)
            mlflow.artifacts.download_artifacts(f"models:/{name}/{version}/artifacts/bundle", dst_path=str(scratch))
            scratch.rename(target)
    return next(path.parent for path in target.rglob("evertune.json"))


def move_champion(
    home: Home, name: str, to: int, *, expected: int | None, recheck: Callable[[], None] = lambda: None, **facts: Any
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
        _repair_locked(home, name)
        current = find_champion(home, name)
        if current != expected:
            raise RegistryError(
                f"the champion of {name} is version {current}, not {expected} as when this was decided; "
                "compare anew with `evertune run RECIPE` (with --force where nothing is new)"
            )
        recheck()
        ledger.append_event(home, "intent", **{**facts, "from": current, "to": to})
        with translate_errors("the alias champion"):
            open_client(home).set_registered_model_alias(name, "champion", str(to))
        ledger.append_event(home, "moved", **{**facts, "from": current, "to": to})


def repair_ledger(home: Home, name: str) -> None:
    """Finish the record of a move that a crash cut off, and record moves that others made.

    Raises:
        RegistryError: MLflow does not answer, or another process moves the champion all the time.
    """
    with home.lock("champion"):
        _repair_locked(home, name)


def _repair_locked(home: Home, name: str) -> None:
    current = find_champion(home, name)
    intent = ledger.find_open_intent(home)
    if intent is not None and current == intent["to"]:
        ledger.append_event(home, "moved", **{**_event_facts(intent), "repaired": True})
    elif intent is not None:
        details = {"from": intent["from"], "to": intent["to"], "reason": "interrupted before the alias moved"}
        ledger.append_event(home, "abandoned", **details)
    if current != ledger.find_last_champion(home):
        logger.warning("the champion of %s was moved to version %s outside Evertune", name, current)
        ledger.append_event(
            home,
            "external",
            **{"from": ledger.find_last_champion(home), "to": current, "reason": "moved outside Evertune"},
        )


def _event_facts(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in {"time", "event"}}


def set_challenger(home: Home, name: str, version: int) -> None:
    """Point the alias `challenger` at a version."""
    with translate_errors("the alias challenger"):
        open_client(home).set_registered_model_alias(name, "challenger", str(version))


def set_tags(home: Home, name: str, version: int, **tags: Any) -> None:
    """Set tags `evertune.NAME` of a version."""
    with translate_errors(f"tags of version {version} of {name}"):
        for key, value in tags.items():
            open_client(home).set_model_version_tag(name, str(version), f"evertune.{key}", str(value))


def list_versions(home: Home, name: str, decision: str | None = None) -> list[Any]:
    """All registered versions, or those with this tag `evertune.decision`, oldest first, with their tags."""
    condition = "" if decision is None else f" and tags.`evertune.decision` = '{decision}'"
    with translate_errors(f"the versions of {name}"):
        return sorted(
            open_client(home).search_model_versions(f"name='{name}'{condition}"),
            key=lambda model_version: int(model_version.version),
        )


def list_model_names(home: Home) -> list[str]:
    """The names of all registered models, in alphabetical order.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with translate_errors("the list of models"):
        return sorted(model.name for model in open_client(home).search_registered_models())
