"""Registered versions, the snapshots they were trained on, and the versions they descend from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evertune.errors import RegistryError
from evertune.registry.tracking.store import open_client, tracking_uri, translate_errors
from evertune.registry.versions import versions as model_versions
from evertune.runtime.home import Home


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version.

    Args:
        snapshot: version of the corpus that it was trained on.
        parents: versions that it was compressed from, started from or distilled from, so that their rows count too.
    """

    version: int
    snapshot: int
    aliases: tuple[str, ...]
    parents: tuple[int, ...] = ()


def list_trained_versions(home: Home, name: str) -> list[TrainedVersion]:
    """Return the versions that Evertune registered under a name, oldest first.

    Raises:
        RegistryError: MLflow does not answer.
    """
    registered = [
        model_version
        for model_version in model_versions.list_versions(home, name)
        if "evertune.snapshot" in model_version.tags
    ]
    if not registered:
        return []
    with translate_errors(f"the aliases of {name}"):
        aliases = open_client(home).get_registered_model(name).aliases
    return [
        TrainedVersion(
            int(model_version.version),
            int(model_version.tags["evertune.snapshot"]),
            tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(model_version.version))),
            tuple(
                sorted({int(model_version.tags[key]) for key in model_versions.PARENTS if key in model_version.tags})
            ),
        )
        for model_version in registered
    ]


def find_ancestors(versions: Iterable[TrainedVersion], version: int) -> list[int]:
    """Return all versions that a version descends from, oldest first."""
    parents = {entry.version: entry.parents for entry in versions}
    ancestors = set[int]()
    pending = list(parents.get(version, ()))
    while pending:
        ancestor = pending.pop()
        if ancestor not in ancestors:
            ancestors.add(ancestor)
            pending += parents.get(ancestor, ())
    return sorted(ancestors - {version})


def find_original(home: Home, name: str, version: int, variant: Mapping[str, object]) -> int:
    """Return the version that a compressed variant was made from.

    Args:
        variant: the section `compression` of its card.
    Raises:
        RegistryError: the original is no longer registered.
    """
    numbers = [
        int(model_version.version)
        for model_version in model_versions.list_versions(home, name)
        if model_version.tags.get("evertune.bundle") == variant["of"]
    ]
    if not numbers:
        raise RegistryError(
            f"version {version} of {name} is a variant ({variant['method']}) of a version that is no longer "
            "registered, so it can be neither reproduced nor trained further"
        )
    return numbers[0]


def find_external_store(home: Home) -> str | None:
    """Return the address of the MLflow store in use; None for the home's own."""
    uri = tracking_uri(home)
    return None if str(home.root) in uri else uri
