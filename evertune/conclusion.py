"""Whether there is anything to do: what the last concluded run saw, against what is there now. Imports nothing heavy."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evertune import base_models
from evertune.home import Home, read_json, write_json
from evertune.records import Outcome, Snapshot, digest, plain

if TYPE_CHECKING:
    from evertune.config import Recipe

Fingerprints = Callable[["Recipe", dict[str, Any]], dict[str, str] | None]
OUTSIDE = {"folder", "schedule", "registry", "contract"}  # sections that change neither a model nor its comparison


def recipe_fingerprint(recipe: "Recipe") -> str:
    """What of the recipe decides a run's result; its sources are told apart by what they hold."""
    sections = recipe.model_dump(mode="json", exclude=OUTSIDE)
    sections["data"].pop("sources")
    return digest(sections, base_models.fingerprint(recipe))


def before_start(recipe: "Recipe", home: Home, fingerprints: Fingerprints) -> Outcome | None:
    """The last outcome, as `unchanged`, where sources and recipe are those that it came from; else None.

    Args:
        fingerprints: `sources.fingerprints`; None from it means that only reading tells.
    """
    state = read_json(home.state) or {}
    done = state.get("concluded")
    if done is None or done["recipe"] != recipe_fingerprint(recipe):
        return None
    now = fingerprints(recipe, state.setdefault("files", {}))
    if now is None or now != done["sources"] or any(home.batches.glob("*.parquet")):
        return None
    return _unchanged(done)


def after_reading(recipe: "Recipe", home: Home, snapshot: Snapshot) -> Outcome | None:
    """As `before_start`, once the sources have been read: nothing new was accepted."""
    done = (read_json(home.state) or {}).get("concluded")
    if done is None or done["recipe"] != recipe_fingerprint(recipe) or done["snapshot"] != snapshot.fingerprint:
        return None
    return _unchanged(done)


def conclude(
    recipe: "Recipe", home: Home, snapshot: Snapshot, outcome: Outcome, sources: dict[str, str] | None
) -> None:
    """Remember that this recipe over these sources is done."""
    with home.lock("state"):
        state = read_json(home.state) or {}
        state["concluded"] = {
            "recipe": recipe_fingerprint(recipe), "snapshot": snapshot.fingerprint, "sources": sources,
            "outcome": plain(outcome),
        }  # fmt: skip
        write_json(home.state, state)


def _unchanged(done: dict[str, Any]) -> Outcome:
    last = Outcome(**done["outcome"])
    return replace(
        last, decision="unchanged", reason="no fresh rows and the same recipe as in the last run", evidence=(),
        rows={"new": 0, "accepted": 0, "refused": 0}, seconds={}, training={},
    )  # fmt: skip
