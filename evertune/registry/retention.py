"""Which versions keep their files, and how those of the others go; versions, runs and ledger stay as records."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evertune.home import Home
from evertune.registry import ledger, models
from evertune.registry.promotion import WAITING
from evertune.registry.store import client, said

if TYPE_CHECKING:
    from evertune.config import Recipe

RECORDS = ("recipe.json", "environment.json")  # of a run: what `evertune trace` reads
STATE = "evertune.files"  # tag of a version: `going` while its files are removed, then `removed`


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


def kept(recipe: "Recipe", home: Home) -> dict[int, str]:
    """Versions whose files stay, and why.

    Raises:
        RegistryError: MLflow does not answer.
    """
    name, found = recipe.registered_name, models.versions(home, recipe.registered_name)
    if not found:
        return {}
    with said(f"the aliases of {name}"):
        aliases = client(home).get_registered_model(name).aliases
    newest = [int(one.version) for one in found[-recipe.retention.runs :]]
    asking = [int(one.version) for one in found if one.tags.get("evertune.decision") == WAITING]
    why = dict.fromkeys(newest, f"one of the newest {recipe.retention.runs}")
    why |= dict.fromkeys(asking, "waits for approval")
    why |= dict.fromkeys(_predecessors(home, recipe.retention.predecessors), "was champion")
    named: dict[int, list[str]] = {}
    for alias, version in aliases.items():
        named.setdefault(int(version), []).append(alias)
    return why | {version: ", ".join(sorted(names)) for version, names in named.items()}


def _predecessors(home: Home, most: int | None) -> list[int]:
    """Former champions, the last one first."""
    moves = [one for one in ledger.entries(home) if one["event"] in {"moved", "external"}]
    former = [one[end] for one in reversed(moves) for end in ("to", "from") if one.get(end) is not None]
    distinct = [int(one) for one in dict.fromkeys(former)]
    return distinct if most is None else distinct[: most + 1]  # the first is the champion itself


def old(recipe: "Recipe", home: Home, before: int) -> Iterator[Old]:
    """Versions whose files may go.

    Args:
        before: milliseconds since 1970; younger ones stay.
    Raises:
        RegistryError: MLflow does not answer.
    """
    stays = kept(recipe, home)
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
