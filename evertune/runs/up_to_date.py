"""Whether there is anything to do: what the last concluded run saw against what is there now. Imports nothing heavy."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evertune.models import base as base_models
from evertune.models import teachers
from evertune.records import Outcome, Snapshot, compute_digest, dump_settings, to_plain
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
    sections = dump_settings(recipe, *OUTSIDE)
    sections["data"].pop("sources")
    for name in recipe.training.HOW:
        sections.get("training", {}).pop(name, None)
    renamed = [recipe.contract.label.rename] if recipe.contract.label.rename else []  # the one part of `contract`
    teacher_digest = teachers.fingerprint_teacher(recipe)
    return compute_digest(
        sections, base_models.fingerprint_base(recipe), *renamed, *([] if teacher_digest is None else [teacher_digest])
    )


def check_before_start(recipe: "Recipe", home: Home, fingerprints: Fingerprints) -> Outcome | None:
    """The last outcome, as `unchanged`, where recipe, sources and corpus are those that it came from; else None.

    Args:
        fingerprints: `sources.fingerprints`; None from it means that only reading tells.
    """
    state = read_json(home.state) or {}
    concluded = state.get("concluded")
    if concluded is None or concluded["recipe"] != recipe_fingerprint(recipe):
        return None
    if concluded.get("batch") != state.get("batch") or any(home.batches.glob("*.parquet")):
        return None  # rows were released, or a run did not end
    if (home.forgotten / INTENT).exists():
        return None  # rows are still to be forgotten
    with open_file_cache(home) as files:
        current = fingerprints(recipe, files, concluded["sources"])
    if current is None or any(concluded["sources"].get(uri) != fingerprint for uri, fingerprint in current.items()):
        return None
    return _as_unchanged(concluded)


def check_after_reading(recipe: "Recipe", home: Home, snapshot: Snapshot) -> Outcome | None:
    """As `before_start`, once the sources have been read: no row was accepted; it is remembered that they were read."""
    concluded = (read_json(home.state) or {}).get("concluded")
    if (
        concluded is None
        or concluded["recipe"] != recipe_fingerprint(recipe)
        or concluded["snapshot"] != snapshot.fingerprint
    ):
        return None
    _write_conclusion(recipe, home, concluded, snapshot)
    return replace(_as_unchanged(concluded), rows=count_rows(snapshot))


def read_last_outcome(home: Home) -> Outcome | None:
    """The last outcome, as `unchanged`; None before the first."""
    concluded = (read_json(home.state) or {}).get("concluded")
    return None if concluded is None else _as_unchanged(concluded)


def record_conclusion(recipe: "Recipe", home: Home, snapshot: Snapshot, outcome: Outcome) -> None:
    """Remember that this recipe over this snapshot is done."""
    concluded = {"recipe": recipe_fingerprint(recipe), "snapshot": snapshot.fingerprint, "outcome": to_plain(outcome)}
    _write_conclusion(recipe, home, concluded, snapshot)


def _write_conclusion(recipe: "Recipe", home: Home, concluded: dict[str, Any], snapshot: Snapshot) -> None:
    # The sources as they were taken in, not as they are now: a file that came during the training is still fresh.
    with home.lock("state"):
        state = read_json(home.state) or {}
        state["concluded"] = {**concluded, "batch": snapshot.batch, "sources": state["sources"]}
        state["recipe"] = recipe_changes.summarize_recipe(recipe)
        write_json(home.state, state)


@contextlib.contextmanager
def open_file_cache(home: Home) -> Iterator[dict[str, Any]]:
    """Size, time and digest of source files, as `sources` takes for a cache; what is added while this lasts is kept.

    A history of a thousand files is not read again each night to find one that is new.
    """
    cache = dict((read_json(home.state) or {}).get("files", {}))
    before = dict(cache)
    yield cache
    if cache != before:
        with home.lock("state"):
            write_json(home.state, {**(read_json(home.state) or {}), "files": cache})


def invalidate_conclusion(home: Home) -> None:
    """The corpus has lost rows: the next run looks at it again, though the sources are as they were."""
    with home.lock("state"):
        state = read_json(home.state) or {}
        if "concluded" in state:
            state["concluded"]["sources"] = {}
            write_json(home.state, state)


def count_rows(snapshot: Snapshot) -> dict[str, Any]:
    """What came since the last concluded run, as an outcome tells it."""
    return {
        "new": snapshot.new,
        "accepted": snapshot.accepted,
        "refused": snapshot.refused,
        "reasons": snapshot.reasons,
    }


def _as_unchanged(concluded: dict[str, Any]) -> Outcome:
    outcome = Outcome(**concluded["outcome"])
    return replace(
        outcome,
        decision="unchanged",
        reason="no fresh rows and the same recipe as in the last run",
        evidence=(),
        rows={"new": 0, "accepted": 0, "refused": 0, "reasons": {}},
        seconds={},
        training={},
        waiting=False,
    )
