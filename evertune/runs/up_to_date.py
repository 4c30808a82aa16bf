"""Whether there is anything to do: compare the last concluded run with today's state. Imports nothing heavy."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from evertune.data.corpus.state import Conclusion, CorpusState, load_state, update_state
from evertune.models import base as base_models
from evertune.models import teachers
from evertune.records import Outcome, RowCounts, Snapshot, compute_digest, dump_settings, to_plain
from evertune.runs import recipe_changes
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.runtime.context import RunContext

FileCache = dict[str, list[int | str]]  # `[size, mtime_ns, digest]` by name, see `CorpusState.files`
Fingerprints = Callable[["Recipe", FileCache, dict[str, str]], dict[str, str] | None]
INTENT = "intent.json"  # in `home.forgotten`: rows that are still to be forgotten
# Sections that change neither a model nor its comparison.
OUTSIDE = ("folder", "file", "schedule", "registry", "contract", "monitor", "notify", "retention", "triggers")


def recipe_fingerprint(recipe: "Recipe") -> str:
    """Return a digest of all parts of the recipe that decide a run's result.

    Sources do not count, since their contents are compared. Nor do settings of how the training is executed.
    """
    sections = dump_settings(recipe, *OUTSIDE)
    sections["data"].pop("sources")
    for name in recipe.training.HOW:
        sections.get("training", {}).pop(name, None)
    parts: list[object] = [sections, base_models.fingerprint_base(recipe)]
    if recipe.contract.label.rename:  # the only part of `contract` that changes a model
        parts.append(recipe.contract.label.rename)
    teacher_digest = teachers.fingerprint_teacher(recipe)
    if teacher_digest is not None:
        parts.append(teacher_digest)
    return compute_digest(*parts)


def check_before_start(context: "RunContext", fingerprints: Fingerprints) -> Outcome | None:
    """Return the last outcome, as `unchanged`, if recipe, sources and corpus are the same as then; else None.

    Args:
        fingerprints: `sources.fingerprints`; it returns None if the sources have to be read to tell.
    """
    state = load_state(context.home)
    concluded = state.concluded
    if concluded is None or concluded.get("recipe") != recipe_fingerprint(context.recipe):
        return None
    if concluded.get("batch") != state.batch or any(context.home.batches.glob("*.parquet")):
        return None  # rows were released, or a run did not end
    if (context.home.forgotten / INTENT).exists():
        return None  # rows are still to be forgotten
    known = concluded.get("sources", {})
    with open_file_cache(context.home) as files:
        current = fingerprints(context.recipe, files, known)
    if current is None or any(known.get(uri) != fingerprint for uri, fingerprint in current.items()):
        return None
    return _as_unchanged(concluded)


def check_after_reading(context: "RunContext", snapshot: Snapshot) -> Outcome | None:
    """Return the last outcome, as `unchanged`, if the recipe is the same and no row was accepted; else None.

    Then the sources are recorded as read, so that the next check can skip them.
    """
    concluded = load_state(context.home).concluded
    if (
        concluded is None
        or concluded.get("recipe") != recipe_fingerprint(context.recipe)
        or concluded.get("snapshot") != snapshot.fingerprint
    ):
        return None
    _write_conclusion(context, concluded, snapshot)
    return replace(_as_unchanged(concluded), rows=count_rows(snapshot))


def read_last_outcome(home: Home) -> Outcome | None:
    """Return the last outcome, as `unchanged`; None before the first."""
    concluded = load_state(home).concluded
    return None if concluded is None else _as_unchanged(concluded)


def record_conclusion(context: "RunContext", snapshot: Snapshot, outcome: Outcome) -> None:
    """Record that this recipe over this snapshot is done."""
    concluded: Conclusion = {
        "recipe": recipe_fingerprint(context.recipe),
        "snapshot": snapshot.fingerprint,
        "outcome": to_plain(outcome),
    }
    _write_conclusion(context, concluded, snapshot)


def _write_conclusion(context: "RunContext", concluded: Conclusion, snapshot: Snapshot) -> None:
    settings = recipe_changes.summarize_recipe(context.recipe)

    def conclude(state: CorpusState) -> CorpusState:
        # The sources as they were ingested, not as they are now: a file that came during the training is still fresh.
        conclusion: Conclusion = {**concluded, "batch": snapshot.batch, "sources": state.sources}
        return replace(state, concluded=conclusion, recipe=settings)

    update_state(context.home, conclude)


@contextlib.contextmanager
def open_file_cache(home: Home) -> Iterator[FileCache]:
    """Yield the cache of source files: size, time and digest of each; save what is added to it.

    With it, a thousand old files need not be read each night to find one that is new.
    """
    cache = dict(load_state(home).files)
    before = dict(cache)
    yield cache
    if cache != before:
        update_state(home, lambda state: replace(state, files=cache))


def invalidate_conclusion(home: Home) -> None:
    """Make the next run check the corpus again, though the sources are unchanged: rows were removed from it."""

    def drop_sources(state: CorpusState) -> CorpusState:
        if state.concluded is None:
            return state
        return replace(state, concluded={**state.concluded, "sources": {}})

    update_state(home, drop_sources)


def count_rows(snapshot: Snapshot) -> RowCounts:
    """Return the numbers of rows since the last concluded run, as an outcome holds them."""
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
