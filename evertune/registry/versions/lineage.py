"""Registered versions and the snapshots that they learned from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evertune.errors import RegistryError
from evertune.registry.tracking.store import client, said, tracking_uri
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home


@dataclass(frozen=True)
class Learned:
    """A registered version.

    Args:
        snapshot: version of the corpus that it was trained on.
        parents: the versions that it was made of, started from or was taught by: what they learned is in it too.
    """

    version: int
    snapshot: int
    aliases: tuple[str, ...]
    parents: tuple[int, ...] = ()


def learned(home: Home, name: str) -> list[Learned]:
    """Every registered version, oldest first; those that others registered under the name are left out.

    Raises:
        RegistryError: MLflow does not answer.
    """
    found = [one for one in models.versions(home, name) if "evertune.snapshot" in one.tags]
    if not found:
        return []
    with said(f"the aliases of {name}"):
        aliases = client(home).get_registered_model(name).aliases
    return [
        Learned(
            int(one.version), int(one.tags["evertune.snapshot"]),
            tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(one.version))),
            tuple(sorted({int(one.tags[key]) for key in models.PARENTS if key in one.tags})),
        )
        for one in found
    ]  # fmt: skip


def forebears(versions: Iterable[Learned], version: int) -> list[int]:
    """Every version that one descends from, oldest first."""
    parents = {one.version: one.parents for one in versions}
    found, left = set[int](), list(parents.get(version, ()))
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += parents.get(one, ())
    return sorted(found - {version})


def original(home: Home, name: str, version: int, variant: Mapping[str, Any]) -> int:
    """The version that a variant was made of.

    Args:
        variant: what its card says of its compression.
    Raises:
        RegistryError: that version is not registered any more.
    """
    found = [
        int(one.version) for one in models.versions(home, name) if one.tags.get("evertune.bundle") == variant["of"]
    ]
    if not found:
        raise RegistryError(
            f"version {version} of {name} is a variant ({variant['method']}) of a version that is not registered any "
            "more: it can be neither reproduced nor trained on"
        )
    return found[0]


def elsewhere(home: Home) -> str | None:
    """The MLflow store in use, where it is not the home's own."""
    uri = tracking_uri(home)
    return None if str(home.root) in uri else uri
