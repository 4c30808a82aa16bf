"""Which versions keep their files, and how those of the others go; versions, runs and ledger stay as records."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from evertune.models import teachers
from evertune.registry.decisions import ledger
from evertune.registry.decisions.promotion import WAITING
from evertune.registry.tracking.store import client, said
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

RECORDS = ("recipe.json", "environment.json")  # of a run: what `evertune trace` reads
STATE = models.FILES
OURS = "evertune.snapshot"  # tag of every version that Evertune registered
LOGGED = re.compile(r"models:/[^/@]+")  # the source of a version that was made of a logged model


@dataclass(frozen=True)
class Old:
    """A version whose files no rule keeps.

    Args:
        created: milliseconds since 1970; files, bytes: of the model and of its run, without the records.
    """

    version: int
    run_id: str
    created: int
    files: int
    bytes: int


def kept(recipe: "Recipe", home: Home, before: int) -> dict[int, str]:
    """Versions whose files stay whatever their age, and why.

    Args:
        before: milliseconds since 1970; whether a younger one has its files for itself is not asked.
    Raises:
        RegistryError: MLflow does not answer.
    """
    name, every = recipe.registered_name, models.versions(home, recipe.registered_name)
    if not every:
        return {}
    with said(f"the aliases of {name}"):
        aliases = client(home).get_registered_model(name).aliases
    found = [one for one in every if OURS in one.tags]
    newest = [int(one.version) for one in found[-recipe.retention.runs :]]
    asking = [int(one.version) for one in found if one.tags.get("evertune.decision") == WAITING]
    why = {int(one.version): "registered outside Evertune" for one in every if OURS not in one.tags}
    why |= dict.fromkeys(newest, f"one of the newest {recipe.retention.runs}")
    why |= dict.fromkeys(asking, "waits for approval")
    why |= dict.fromkeys(_teacher(recipe), "the recipe's teacher")
    why |= dict.fromkeys(_predecessors(home, recipe.retention.predecessors), "was champion")
    named: dict[int, list[str]] = {}
    for alias, version in aliases.items():
        named.setdefault(int(version), []).append(alias)
    why |= {version: ", ".join(sorted(names)) for version, names in named.items()}
    free = [one for one in found if int(one.version) not in why and one.creation_timestamp <= before]
    return why | _shared(home, [one for one in free if STATE not in one.tags])


def _teacher(recipe: "Recipe") -> list[int]:
    """The version that the recipe names as its teacher; where that is the champion, it stays as such."""
    named = teachers.registered(recipe) or ""
    return [int(named)] if named.isdecimal() else []


def _predecessors(home: Home, most: int | None) -> list[int]:
    """Former champions, the last one first."""
    moves = [one for one in ledger.entries(home) if one["event"] in {"moved", "external"}]
    former = [one[end] for one in reversed(moves) for end in ("to", "from") if one.get(end) is not None]
    distinct = [int(one) for one in dict.fromkeys(former)]
    return distinct if most is None else distinct[: most + 1]  # the first is the champion itself


def _shared(home: Home, versions: Sequence[Any]) -> dict[int, str]:
    """Those whose files another registered version, of whatever model, has too: a copy of a version copies no files."""
    if not versions:
        return {}
    with said("the models that share their files with others"):
        ours = {(one.name, one.version) for one in versions}
        others = [one for one in _registered(home) if (one.name, one.version) not in ours]
        places = [(one, _location(home, one)) for one in others]
        found = [(one, _holder(home, one, places)) for one in versions]
    return {
        int(one.version): f"its files are those of {other.name} version {other.version} too"
        for one, other in found if other is not None
    }  # fmt: skip


def _registered(home: Home) -> Iterator[Any]:
    """Every version of every registered model."""
    page = client(home).search_model_versions()
    while True:
        yield from page
        if not page.token:
            return
        page = client(home).search_model_versions(page_token=page.token)


def _location(home: Home, version: Any) -> str:
    """Where a version's files lie, in a form that compares: a path, an address, or `models:/ID` of a logged model."""
    source = str(version.source)
    if not LOGGED.fullmatch(source):  # of these there are most, and each question takes time
        source = str(client(home).get_model_version_download_uri(version.name, version.version))
    place = urlsplit(source)
    return (unquote(place.path) if place.scheme in {"", "file"} else source).rstrip("/")


def _holder(home: Home, version: Any, places: Sequence[tuple[Any, str]]) -> Any | None:
    """Another version that is of the same run, or lies within the files of this one or of its run."""
    mlflow = client(home)
    uris = (
        mlflow.get_model_version_download_uri(version.name, version.version),
        mlflow.get_run(version.run_id).info.artifact_uri,
    )
    own = [_location(home, version), f"runs:/{version.run_id}"]
    own += [unquote(urlsplit(uri).path) if urlsplit(uri).scheme in {"", "file"} else uri for uri in uris]
    for other, place in places:
        if other.run_id == version.run_id or any(f"{place}/".startswith(f"{one.rstrip('/')}/") for one in own):
            return other
    return None


def old(recipe: "Recipe", home: Home, before: int, stays: Mapping[int, str]) -> Iterator[Old]:
    """Versions whose files may go.

    Args:
        before: as for `kept`; younger ones stay; stays: what `kept` gave.
    Raises:
        RegistryError: MLflow does not answer.
    """
    for one in models.versions(home, recipe.registered_name):
        if int(one.version) in stays or one.tags.get(STATE) == "removed" or one.creation_timestamp > before:
            continue
        with said(f"the files of version {one.version}"):
            sizes = [size for repository, path in _places(home, one) for size in _sizes(repository, path)]
        yield Old(int(one.version), one.run_id, one.creation_timestamp, len(sizes), sum(sizes))


def remove(recipe: "Recipe", home: Home, versions: list[int]) -> None:
    """Remove the files of versions and of their runs; what a crash left half done is done by the next call.

    Raises:
        RegistryError: MLflow, or its artifact store, refused.
    """
    mlflow, name = client(home), recipe.registered_name
    for version in versions:
        with said(f"the files of version {version}"):
            one = mlflow.get_model_version(name, str(version))
            mlflow.set_model_version_tag(name, str(version), STATE, "going")
            for repository, path in _places(home, one):
                repository.delete_artifacts(path)
            mlflow.set_model_version_tag(name, str(version), STATE, "removed")


def _places(home: Home, version: Any) -> list[tuple[Any, str | None]]:
    """Artifact stores of a version and its run, with the paths in them that may go."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    mlflow = client(home)
    run = get_artifact_repository(mlflow.get_run(version.run_id).info.artifact_uri)
    model = get_artifact_repository(mlflow.get_model_version_download_uri(version.name, version.version))
    places = [(run, one.path) for one in run.list_artifacts() if one.path not in RECORDS]
    return [*places, (model, None)]


def _sizes(repository: Any, path: str | None) -> Iterator[int]:
    below = repository.list_artifacts(path)
    if not below and path is not None:  # a file
        parent = path.rpartition("/")[0] or None
        yield from (one.file_size or 0 for one in repository.list_artifacts(parent) if one.path == path)
    for one in below:
        if one.is_dir:
            yield from _sizes(repository, one.path)
        else:
            yield one.file_size or 0
