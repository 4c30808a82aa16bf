"""Registered versions and the snapshots that they learned from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evertune.errors import RegistryError
from evertune.registry.tracking.store import open_client, tracking_uri, translate_errors
from evertune.registry.versions import versions as model_versions
from evertune.runtime.home import Home


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version.

    Args:
        snapshot: version of the corpus that it was trained on.
        parents: the versions that it was made of, started from or was taught by: what they learned is in it too.
    """

    version: int
    snapshot: int
    aliases: tuple[str, ...]
    parents: tuple[int, ...] = ()


def list_trained_versions(home: Home, name: str) -> list[TrainedVersion]:
    """Every registered version, oldest first; those that others registered under the name are left out.

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
    """Every version that one descends from, oldest first."""
    parents = {entry.version: entry.parents for entry in versions}
    ancestors = set[int]()
    pending = list(parents.get(version, ()))
    while pending:
        if (ancestor := pending.pop()) not in ancestors:
            ancestors.add(ancestor)
            pending += parents.get(ancestor, ())
    return sorted(ancestors - {version})


def find_original(home: Home, name: str, version: int, variant: Mapping[str, Any]) -> int:
    """The version that a variant was made of.

    Args:
        variant: what its card says of its compression.
    Raises:
        RegistryError: that version is not registered any more.
    """
    numbers = [
        int(model_version.version)
        for model_version in model_versions.list_versions(home, name)
        if model_version.tags.get("evertune.bundle") == variant["of"]
    ]
    if not numbers:
        raise RegistryError(
            f"version {version} of {name} is a variant ({variant['method']}) of a version that is not registered any "
            "more: it can be neither reproduced nor trained on"
        )
    return numbers[0]


def find_external_store(home: Home) -> str | None:
    """The MLflow store in use, where it is not the home's own."""
    uri = tracking_uri(home)
    return None if str(home.root) in uri else uri
