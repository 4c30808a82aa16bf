"""Whether there is anything to do: what the last concluded run saw against what is there now. Imports nothing heavy."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evertune.data.corpus.state import Conclusion, CorpusState, load_state, update_state
from evertune.models import base as base_models
from evertune.models import teachers
from evertune.records import Outcome, Snapshot, compute_digest, dump_settings, to_plain
from evertune.runs import recipe_changes
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
    state = load_state(home)
    concluded = state.concluded
    if concluded is None or concluded.get("recipe") != recipe_fingerprint(recipe):
        return None
    if concluded.get("batch") != state.batch or any(home.batches.glob("*.parquet")):
        return None  # rows were released, or a run did not end
    if (home.forgotten / INTENT).exists():
        return None  # rows are still to be forgotten
    known = concluded.get("sources", {})
    with open_file_cache(home) as files:
        current = fingerprints(recipe, files, known)
    if current is None or any(known.get(uri) != fingerprint for uri, fingerprint in current.items()):
        return None
    return _as_unchanged(concluded)


def check_after_reading(recipe: "Recipe", home: Home, snapshot: Snapshot) -> Outcome | None:
    """As `before_start`, once the sources have been read: no row was accepted; it is remembered that they were read."""
    concluded = load_state(home).concluded
    if (
        concluded is None
        or concluded.get("recipe") != recipe_fingerprint(recipe)
        or concluded.get("snapshot") != snapshot.fingerprint
    ):
        return None
    _write_conclusion(recipe, home, concluded, snapshot)
    return replace(_as_unchanged(concluded), rows=count_rows(snapshot))


def read_last_outcome(home: Home) -> Outcome | None:
    """The last outcome, as `unchanged`; None before the first."""
    concluded = load_state(home).concluded
    return None if concluded is None else _as_unchanged(concluded)


def record_conclusion(recipe: "Recipe", home: Home, snapshot: Snapshot, outcome: Outcome) -> None:
    """Remember that this recipe over this snapshot is done."""
    concluded: Conclusion = {
        "recipe": recipe_fingerprint(recipe),
        "snapshot": snapshot.fingerprint,
        "outcome": to_plain(outcome),
    }
    _write_conclusion(recipe, home, concluded, snapshot)


def _write_conclusion(recipe: "Recipe", home: Home, concluded: Conclusion, snapshot: Snapshot) -> None:
    settings = recipe_changes.summarize_recipe(recipe)

    def conclude(state: CorpusState) -> CorpusState:
        # The sources as they were ingested, not as they are now: a file that came during the training is still fresh.
        conclusion: Conclusion = {**concluded, "batch": snapshot.batch, "sources": state.sources}
        return replace(state, concluded=conclusion, recipe=settings)

    update_state(home, conclude)


@contextlib.contextmanager
def open_file_cache(home: Home) -> Iterator[dict[str, Any]]:
    """Size, time and digest of source files, as `sources` takes for a cache; what is added while this lasts is kept.

    A history of a thousand files is not read again each night to find one that is new.
    """
    cache = dict(load_state(home).files)
    before = dict(cache)
    yield cache
    if cache != before:
        update_state(home, lambda state: replace(state, files=cache))


def invalidate_conclusion(home: Home) -> None:
    """The corpus has lost rows: the next run looks at it again, though the sources are as they were."""

    def drop_sources(state: CorpusState) -> CorpusState:
        if state.concluded is None:
            return state
        return replace(state, concluded={**state.concluded, "sources": {}})

    update_state(home, drop_sources)


def count_rows(snapshot: Snapshot) -> dict[str, Any]:
    """What came since the last concluded run, as an outcome tells it."""
    return {
        "new": snapshot.new,
        "accepted": snapshot.accepted,
        "refused": snapshot.refused,
        "reasons": snapshot.reasons,
    }


def _as_unchanged(concluded: Conclusion) -> Outcome:
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
