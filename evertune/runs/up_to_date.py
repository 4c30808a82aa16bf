"""Whether there is anything to do: what the last concluded run saw against what is there now. Imports nothing heavy."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evertune.models import base as base_models
from evertune.models import teachers
from evertune.records import Outcome, Snapshot, digest, plain, settled
from evertune.runs import recipe_changes
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

Fingerprints = Callable[["Recipe", dict[str, Any], dict[str, str]], dict[str, str] | None]
INTENT = "intent.json"  # in `home.forgotten`: what is still to be forgotten
# Sections that change neither a model nor its comparison.
OUTSIDE = ("folder", "file", "schedule", "registry", "contract", "monitor", "notify", "retention", "triggers")


def recipe_fingerprint(recipe: "Recipe") -> str:
    """What of the recipe decides a run's result; its sources are told apart by what they hold."""
    sections = settled(recipe, *OUTSIDE)
    sections["data"].pop("sources")
    for name in recipe.training.HOW:
        sections.get("training", {}).pop(name, None)
    renamed = [recipe.contract.label.rename] if recipe.contract.label.rename else []  # the one part of `contract`
    taught = teachers.fingerprint(recipe)
    return digest(sections, base_models.fingerprint(recipe), *renamed, *([] if taught is None else [taught]))


def before_start(recipe: "Recipe", home: Home, fingerprints: Fingerprints) -> Outcome | None:
    """The last outcome, as `unchanged`, where recipe, sources and corpus are those that it came from; else None.

    Args:
        fingerprints: `sources.fingerprints`; None from it means that only reading tells.
    """
    state = read_json(home.state) or {}
    done = state.get("concluded")
    if done is None or done["recipe"] != recipe_fingerprint(recipe):
        return None
    if done.get("batch") != state.get("batch") or any(home.batches.glob("*.parquet")):
        return None  # rows were released, or a run did not end
    if (home.forgotten / INTENT).exists():
        return None  # rows are still to be forgotten
    with files_read(home) as files:
        now = fingerprints(recipe, files, done["sources"])
    if now is None or any(done["sources"].get(uri) != found for uri, found in now.items()):
        return None
    return _unchanged(done)


def after_reading(recipe: "Recipe", home: Home, snapshot: Snapshot) -> Outcome | None:
    """As `before_start`, once the sources have been read: no row was accepted; it is remembered that they were read."""
    done = (read_json(home.state) or {}).get("concluded")
    if done is None or done["recipe"] != recipe_fingerprint(recipe) or done["snapshot"] != snapshot.fingerprint:
        return None
    _note(recipe, home, done, snapshot)
    return replace(_unchanged(done), rows=rows(snapshot))


def last(home: Home) -> Outcome | None:
    """The last outcome, as `unchanged`; None before the first."""
    done = (read_json(home.state) or {}).get("concluded")
    return None if done is None else _unchanged(done)


def conclude(recipe: "Recipe", home: Home, snapshot: Snapshot, outcome: Outcome) -> None:
    """Remember that this recipe over this snapshot is done."""
    done = {"recipe": recipe_fingerprint(recipe), "snapshot": snapshot.fingerprint, "outcome": plain(outcome)}
    _note(recipe, home, done, snapshot)


def _note(recipe: "Recipe", home: Home, done: dict[str, Any], snapshot: Snapshot) -> None:
    # The sources as they were taken in, not as they are now: a file that came during the training is still fresh.
    with home.lock("state"):
        state = read_json(home.state) or {}
        state["concluded"] = {**done, "batch": snapshot.batch, "sources": state["sources"]}
        state["recipe"] = recipe_changes.kept(recipe)
        write_json(home.state, state)


@contextlib.contextmanager
def files_read(home: Home) -> Iterator[dict[str, Any]]:
    """Size, time and digest of source files, as `sources` takes for a cache; what is added while this lasts is kept.

    A history of a thousand files is not read again each night to find one that is new.
    """
    cache = dict((read_json(home.state) or {}).get("files", {}))
    known = dict(cache)
    yield cache
    if cache != known:
        with home.lock("state"):
            write_json(home.state, {**(read_json(home.state) or {}), "files": cache})


def void(home: Home) -> None:
    """The corpus has lost rows: the next run looks at it again, though the sources are as they were."""
    with home.lock("state"):
        state = read_json(home.state) or {}
        if "concluded" in state:
            state["concluded"]["sources"] = {}
            write_json(home.state, state)


def rows(snapshot: Snapshot) -> dict[str, Any]:
    """What came since the last concluded run, as an outcome tells it."""
    return {
        "new": snapshot.new,
        "accepted": snapshot.accepted,
        "refused": snapshot.refused,
        "reasons": snapshot.reasons,
    }


def _unchanged(done: dict[str, Any]) -> Outcome:
    last = Outcome(**done["outcome"])
    return replace(
        last, decision="unchanged", reason="no fresh rows and the same recipe as in the last run", evidence=(),
        rows={"new": 0, "accepted": 0, "refused": 0, "reasons": {}}, seconds={}, training={},
        waiting=False,
    )  # fmt: skip
