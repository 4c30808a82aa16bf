"""Which versions keep their files, and the removal of the others' files; versions, runs and ledger stay as records."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from evertune.models import teachers
from evertune.registry.decisions import ledger
from evertune.registry.decisions.promotion import WAITING
from evertune.registry.tracking.store import open_client, translate_errors
from evertune.registry.versions import versions as model_versions
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from evertune.config import Recipe
    from evertune.runtime.context import RunContext

RECORDS = ("recipe.json", "environment.json")  # of a run: what `evertune trace` reads
STATE = model_versions.FILES
SNAPSHOT = "evertune.snapshot"  # tag of every version that Evertune registered
LOGGED = re.compile(r"models:/[^/@]+")  # the source of a version made from a logged model


@dataclass(frozen=True)
class RemovableVersion:
    """A version whose files no rule keeps.

    Args:
        created: milliseconds since 1970.
        files, bytes: number and size of the files of the model and of its run, without the records.
    """

    version: int
    run_id: str
    created: int
    files: int
    bytes: int


def find_kept_versions(context: "RunContext", before: int) -> dict[int, str]:
    """Return the versions that keep their files whatever their age, with the reason.

    Args:
        before: milliseconds since 1970; of younger versions it is not checked whether they share their files.
    Raises:
        RegistryError: MLflow does not answer.
    """
    name = context.recipe.registered_name
    all_versions = model_versions.list_versions(context.home, context.recipe.registered_name)
    if not all_versions:
        return {}
    with translate_errors(f"the aliases of {name}"):
        aliases = open_client(context.home).get_registered_model(name).aliases
    own_versions = [model_version for model_version in all_versions if SNAPSHOT in model_version.tags]
    newest = [int(model_version.version) for model_version in own_versions[-context.recipe.retention.runs :]]
    waiting = [
        int(model_version.version)
        for model_version in own_versions
        if model_version.tags.get("evertune.decision") == WAITING
    ]
    why = {
        int(model_version.version): "registered outside Evertune"
        for model_version in all_versions
        if SNAPSHOT not in model_version.tags
    }
    why |= dict.fromkeys(newest, f"one of the newest {context.recipe.retention.runs}")
    why |= dict.fromkeys(waiting, "waits for approval")
    why |= dict.fromkeys(_find_teacher_version(context.recipe), "the recipe's teacher")
    why |= dict.fromkeys(_find_predecessors(context.home, context.recipe.retention.predecessors), "was champion")
    names_by_version: dict[int, list[str]] = {}
    for alias, version in aliases.items():
        names_by_version.setdefault(int(version), []).append(alias)
    why |= {version: ", ".join(sorted(names)) for version, names in names_by_version.items()}
    removable = [
        model_version
        for model_version in own_versions
        if int(model_version.version) not in why and model_version.creation_timestamp <= before
    ]
    return why | _find_shared_files(
        context.home, [model_version for model_version in removable if STATE not in model_version.tags]
    )


def _find_teacher_version(recipe: "Recipe") -> list[int]:
    """Return the version that the recipe names as its teacher; the champion is kept anyway."""
    version = teachers.registered_teacher(recipe) or ""
    return [int(version)] if version.isdecimal() else []


def _find_predecessors(home: Home, limit: int | None) -> list[int]:
    """Return the former champions, the latest first."""
    moves = [entry for entry in ledger.read_entries(home) if entry["event"] in {"moved", "external"}]
    ends = [version for move in reversed(moves) for version in (move.get("to"), move.get("from"))]
    distinct = [version for version in dict.fromkeys(ends) if version is not None]
    return distinct if limit is None else distinct[: limit + 1]  # the first is the champion itself


def _find_shared_files(home: Home, versions: "Sequence[ModelVersion]") -> dict[int, str]:
    """Return the versions that share their files with another registered version, of any model, with the reason.

    Copying a version in MLflow copies no files.
    """
    if not versions:
        return {}
    with translate_errors("the versions that share files"):
        own_keys = {(version.name, version.version) for version in versions}
        others = [version for version in _iterate_versions(home) if (version.name, version.version) not in own_keys]
        locations = [(version, _locate_files(home, version)) for version in others]
        holders = [(version, _find_holder(home, version, locations)) for version in versions]
    return {
        int(version.version): f"shares its files with {other.name} version {other.version}"
        for version, other in holders
        if other is not None
    }


def _iterate_versions(home: Home) -> "Iterator[ModelVersion]":
    """Yield every version of every registered model."""
    page = open_client(home).search_model_versions()
    while True:
        yield from page
        if not page.token:
            return
        page = open_client(home).search_model_versions(page_token=page.token)


def _locate_files(home: Home, version: "ModelVersion") -> str:
    """Return where a version's files are, in a comparable form: path, address, or `models:/ID` of a logged model."""
    source = str(version.source)
    if not LOGGED.fullmatch(source):  # most versions are made from one, and each request takes time
        source = str(open_client(home).get_model_version_download_uri(version.name, version.version))
    parts = urlsplit(source)
    return (unquote(parts.path) if parts.scheme in {"", "file"} else source).rstrip("/")


def _find_holder(
    home: Home, version: "ModelVersion", locations: "Sequence[tuple[ModelVersion, str]]"
) -> "ModelVersion | None":
    """Return another version of the same run, or one whose files are within those of this version or of its run."""
    mlflow = open_client(home)
    uris = (
        mlflow.get_model_version_download_uri(version.name, version.version),
        mlflow.get_run(version.run_id).info.artifact_uri,
    )
    own_locations = [_locate_files(home, version), f"runs:/{version.run_id}"]
    own_locations += [unquote(urlsplit(uri).path) if urlsplit(uri).scheme in {"", "file"} else uri for uri in uris]
    for other, location in locations:
        if other.run_id == version.run_id or any(
            f"{location}/".startswith(f"{own_location.rstrip('/')}/") for own_location in own_locations
        ):
            return other
    return None


def find_removable(context: "RunContext", before: int, kept_versions: Mapping[int, str]) -> Iterator[RemovableVersion]:
    """Yield the versions whose files may be removed.

    Args:
        before: milliseconds since 1970; younger versions stay.
        kept_versions: as `find_kept_versions` returns them.
    Raises:
        RegistryError: MLflow does not answer.
    """
    for version in model_versions.list_versions(context.home, context.recipe.registered_name):
        if (
            int(version.version) in kept_versions
            or version.tags.get(STATE) == "removed"
            or version.creation_timestamp > before
        ):
            continue
        with translate_errors(f"the files of version {version.version}"):
            sizes = [
                size
                for repository, path in _find_artifacts(context.home, version)
                for size in _list_sizes(repository, path)
            ]
        yield RemovableVersion(int(version.version), version.run_id, version.creation_timestamp, len(sizes), sum(sizes))


def remove_files(context: "RunContext", versions: list[int]) -> None:
    """Remove the files of versions and of their runs; after a crash the next call completes the removal.

    Raises:
        RegistryError: MLflow, or its artifact store, refused.
    """
    mlflow = open_client(context.home)
    name = context.recipe.registered_name
    for version in versions:
        with translate_errors(f"the files of version {version}"):
            model_version = mlflow.get_model_version(name, str(version))
            mlflow.set_model_version_tag(name, str(version), STATE, "going")
            for repository, path in _find_artifacts(context.home, model_version):
                repository.delete_artifacts(path)
            mlflow.set_model_version_tag(name, str(version), STATE, "removed")


def _find_artifacts(home: Home, version: "ModelVersion") -> "list[tuple[ArtifactRepository, str | None]]":
    """Return the artifact stores of a version and its run, with the paths in them that may be removed."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    mlflow = open_client(home)
    run = get_artifact_repository(mlflow.get_run(version.run_id).info.artifact_uri)
    model = get_artifact_repository(mlflow.get_model_version_download_uri(version.name, version.version))
    artifacts = [(run, artifact.path) for artifact in run.list_artifacts() if artifact.path not in RECORDS]
    return [*artifacts, (model, None)]


def _list_sizes(repository: "ArtifactRepository", path: str | None) -> Iterator[int]:
    children = repository.list_artifacts(path)
    if not children and path is not None:  # a file
        parent = path.rpartition("/")[0] or None
        yield from (child.file_size or 0 for child in repository.list_artifacts(parent) if child.path == path)
    for child in children:
        if child.is_dir:
            yield from _list_sizes(repository, child.path)
        else:
            yield child.file_size or 0
