"""Registered models: one version a run, and the aliases `champion` and `challenger`."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast
from urllib.parse import unquote, urlsplit

from evertune.errors import RegistryError
from evertune.registry.decisions import ledger
from evertune.registry.tracking.queries import RunFacts, describe_run, format_time
from evertune.registry.tracking.store import describe_refusal, open_client, translate_errors
from evertune.registry.versions import logged_models, requirements
from evertune.runtime.home import Home
from evertune.runtime.secrets import hide_secrets
from evertune.serving import bundle

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities.model_registry import ModelVersion

    from evertune.objectives import Input
    from evertune.records import Candidate
    from evertune.registry.tracking.runs import Environment
    from evertune.runtime.context import RunContext

logger = logging.getLogger(__name__)
PARENTS = ("evertune.of", "evertune.start", "evertune.teacher_version")  # tags: versions that a version descends from
FILES = "evertune.files"  # tag of a version: `going` while `evertune clean` removes its files, then `removed`
OUTSIDE = "registered outside Evertune, no snapshot on record"
FETCH_SECONDS = 600.0  # to wait for another process that fetches a model


class ModelFacts(TypedDict, total=False):
    """What MLflow has of a version itself; `trace` and `reproduce` add its `name` and `version`.

    Args:
        registered: ISO time.
        run_id: of the run that made it; empty for a version that no run made.
        snapshot: version of the corpus that it was trained on; `fingerprint` of that snapshot.
        bundle: digest of its files.
        decision: what became of it.
        code: revision of Evertune.
        variant, of: of a compressed variant: its method in words, and the version that it was made from.
        start: version whose weights its training continued.
        teacher, teacher_version: of a distilled model: digest of the teacher, and its version if it has one.
    """

    name: str
    version: int
    registered: str | None
    run_id: str
    aliases: list[str]
    snapshot: str | None
    fingerprint: str | None
    bundle: str | None
    decision: str | None
    code: str | None
    variant: str | None
    of: str | None
    start: str | None
    teacher: str | None
    teacher_version: str | None


class VersionFacts(TypedDict):
    """What MLflow has of a version, and of the run that made it; without a run, recipe and environment are empty."""

    model: ModelFacts
    run: RunFacts
    recipe: dict[str, Any]  # as it was logged, by any older Evertune
    environment: "Environment"


class RunOrigin(TypedDict):
    """What a run recorded at its start."""

    code: str | None
    environment: "Environment"


def find_champion(home: Home, name: str) -> int | None:
    """Return the version in use; None without a champion.

    Raises:
        RegistryError: MLflow does not answer.
    """
    return resolve_alias(home, name, "champion")


def resolve_alias(home: Home, name: str, alias_name: str) -> int | None:
    """Return the version that an alias points to; None without such an alias.

    Raises:
        RegistryError: MLflow does not answer, or does not know the model although the ledger does.
    """
    from mlflow.exceptions import MlflowException

    try:
        return int(open_client(home).get_model_version_by_alias(name, alias_name).version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" and ledger.has_versions(home):
            raise RegistryError(
                f"MLflow has no model {name}, but the ledger has versions of it, so this may be another store; set "
                f"MLFLOW_TRACKING_URI and registry.model as before, or move {home.ledger} away to start over"
            ) from None
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise RegistryError(
            describe_refusal(f"the alias {alias_name} of {name}", error)
        ) from None  # as in `translate_errors`


def register_version(context: "RunContext", candidate: "Candidate", examples: "Sequence[Input]") -> int:
    """Log the bundle as an MLflow model and return its registered version; one version a run, however often this runs.

    Args:
        examples: some inputs, for the model's input example.
    Raises:
        RegistryError: MLflow refused.
    """
    mlflow = open_client(context.home)
    name = context.recipe.registered_name
    with translate_errors(f"the model {name}"):
        version = find_run_version(context.home, name, candidate.run_id)
        if version is not None:
            return version
        method = bundle.read_card(Path(candidate.bundle)).get("compression", {}).get("method", "")
        logged_model = logged_models.ensure_logged_model(
            context, candidate, examples, requirements.list_requirements(context.recipe, method)
        )
        _ensure_registered(mlflow, name)
        snapshot = candidate.tokens.snapshot
        run_tags = mlflow.get_run(candidate.run_id).data.tags
        model_version = mlflow.create_model_version(
            name,
            logged_model.model_uri,
            run_id=candidate.run_id,
            model_id=logged_model.model_id,  # a server needs both
            tags={
                "evertune.snapshot": str(snapshot.version),
                "evertune.fingerprint": snapshot.fingerprint,
                "evertune.bundle": candidate.digest,
                "evertune.decision": "pending",
                **{key: run_tags[key] for key in PARENTS if key in run_tags},
            },
        )
    return int(model_version.version)


def fetch_version(home: Home, name: str, version: int) -> "ModelVersion":
    """Return a version as MLflow has it.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        return open_client(home).get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise RegistryError(
                describe_refusal(f"version {version} of {name}", error)
            ) from None  # as in `translate_errors`
        raise RegistryError(f"{name} has no version {version}; `evertune history RECIPE` lists them") from None


def describe_version(home: Home, name: str, version: int) -> VersionFacts:
    """Return what MLflow has of a version: `model`, and `run`, `recipe` and `environment` of the run that made it.

    For a version that was registered outside Evertune, much is None or empty; without a run, all of `run` is.

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
    model = {
        "registered": format_time(model_version.creation_timestamp),
        "run_id": model_version.run_id,
        "aliases": sorted(alias for alias, number in aliases.items() if int(number) == version),
        **{key: tags.get(key) for key in tag_names},
    }
    facts = {"model": model, "run": describe_run(run), "recipe": {}, "environment": {}, **files}
    return cast(VersionFacts, facts)


def read_run_origin(home: Home, run_id: str) -> RunOrigin:
    """Return the code revision and the environment that a run recorded at its start.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with translate_errors(f"the environment of the run {run_id}"):
        tags = open_client(home).get_run(run_id).data.tags
        environment = cast("Environment", _download_json(home, run_id, "environment.json"))
        return {"code": tags.get("evertune.code"), "environment": environment}


def _download_json(home: Home, run_id: str, path: str) -> dict[str, object]:
    """Return a JSON artifact of a run; empty if the run has none.

    Raises:
        RegistryError: MLflow does not answer.
    """
    if not any(artifact.path == path for artifact in open_client(home).list_artifacts(run_id)):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(open_client(home).download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")
    content: dict[str, object] = json.loads(text)
    return content


def find_run_version(home: Home, name: str, run_id: str) -> int | None:
    """Return the registered version that a run made; None if it has made none.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with translate_errors(f"the version of the run {run_id}"):
        matches = open_client(home).search_model_versions(f"name='{name}' and run_id='{run_id}'")
    return min((int(match.version) for match in matches), default=None)


def _ensure_registered(mlflow: "mlflow.MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def fetch_bundle(home: Home, name: str, version: int) -> Path:
    """Return the bundle folder of a registered version, with unchanged files; from a remote store it is fetched.

    Raises:
        RegistryError: there is no such version, its files are missing or changed, or it was registered outside
            Evertune.
    """
    from mlflow.exceptions import MlflowException

    tags = fetch_version(home, name, version).tags
    registered_digest = tags.get("evertune.bundle")
    with translate_errors(f"version {version} of {name}"):
        location = urlsplit(open_client(home).get_model_version_download_uri(name, str(version)))
    advice = (
        "restore the artifact store, go back to the previous champion with `evertune rollback RECIPE`, or make another "
        "version champion with `evertune promote RECIPE --version N` (`evertune run RECIPE` trains one)"
    )
    if registered_digest is None:  # there is no record of the files that were tested
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
        ) from None  # as in `translate_errors`
    if current_digest != registered_digest:
        if current_digest is not None:
            state = "have changed since it was registered"
        else:
            state = "were removed by `evertune clean`" if FILES in tags else "are missing"
        raise RegistryError(f"version {version} of {name}: its files {state}; {advice}")
    return folder


def _fetch_remote_bundle(home: Home, name: str, version: int, digest: str) -> Path:
    """Return a local copy of a remote bundle, stored under the digest of its files; a damaged copy is fetched again."""
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
    home: Home,
    name: str,
    to: int,
    *,
    expected: int | None,
    recheck: Callable[[], None] = lambda: None,
    **facts: Unpack[ledger.MoveFacts],
) -> None:
    """Move the champion alias, under the model's lock: intent, check, alias, confirmation.

    Args:
        to: the new champion.
        expected: the champion at the time of the decision.
        recheck: called before the move; raises if the decision is no longer valid.
        facts: for the ledger, such as the reason.
    Raises:
        RegistryError: the champion was moved since the decision; nothing is changed.
    """
    with home.lock("champion"):
        _repair_locked(home, name)
        current = find_champion(home, name)
        if current != expected:
            raise RegistryError(
                f"the champion of {name} is version {current}, and was {expected} at the time of the decision; "
                "compare again with `evertune run RECIPE` (with --force if there are no new rows)"
            )
        recheck()
        move = cast(ledger.Facts, {**facts, "from": current, "to": to})
        ledger.append_event(home, "intent", **move)
        with translate_errors("the alias champion"):
            open_client(home).set_registered_model_alias(name, "champion", str(to))
        ledger.append_event(home, "moved", **move)


def repair_ledger(home: Home, name: str) -> None:
    """Complete the record of a move that a crash cut off, and record moves that were made outside Evertune.

    Raises:
        RegistryError: MLflow does not answer, or another process holds the lock for too long.
    """
    with home.lock("champion"):
        _repair_locked(home, name)


def _repair_locked(home: Home, name: str) -> None:
    current = find_champion(home, name)
    intent = ledger.find_open_intent(home)
    if intent is not None and current == intent["to"]:
        move: ledger.Facts = {**_event_facts(intent), "repaired": True}
        ledger.append_event(home, "moved", **move)
    elif intent is not None:
        details: ledger.Facts = {
            "from": intent["from"],
            "to": intent["to"],
            "reason": "interrupted before the alias moved",
        }
        ledger.append_event(home, "abandoned", **details)
    if current != ledger.find_last_champion(home):
        logger.warning("the champion of %s was moved to version %s outside Evertune", name, current)
        outside: ledger.Facts = {
            "from": ledger.find_last_champion(home),
            "to": current,
            "reason": "moved outside Evertune",
        }
        ledger.append_event(home, "external", **outside)


def _event_facts(entry: ledger.Entry) -> ledger.Facts:
    return cast(ledger.Facts, {key: value for key, value in entry.items() if key not in {"time", "event"}})


def set_challenger(home: Home, name: str, version: int) -> None:
    """Point the alias `challenger` to a version.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with translate_errors("the alias challenger"):
        open_client(home).set_registered_model_alias(name, "challenger", str(version))


def set_tags(home: Home, name: str, version: int, **tags: object) -> None:
    """Set tags `evertune.NAME` of a version.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with translate_errors(f"the tags of version {version} of {name}"):
        for key, value in tags.items():
            open_client(home).set_model_version_tag(name, str(version), f"evertune.{key}", str(value))


def list_versions(home: Home, name: str, decision: str | None = None) -> "list[ModelVersion]":
    """Return all registered versions, or those with this tag `evertune.decision`, oldest first, with their tags.

    Raises:
        RegistryError: MLflow does not answer.
    """
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
