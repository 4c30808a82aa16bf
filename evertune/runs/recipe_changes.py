"""A recipe that was edited between two runs: what of its history still compares."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evertune.data.corpus.state import load_state
from evertune.records import dump_settings
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

SHOWN = 60  # characters of a value
# Sections that shape neither rows nor models nor decisions.
UNCOUNTED = ("folder", "file", "name", "schedule", "registry", "monitor", "notify", "retention", "triggers")
ENTRIES = ("contract.label.rename.", "evaluation.gate.minimum.")  # lines of mappings that are empty by default
METRICS_COMPARE = "metrics on the test rows still compare with those of earlier versions"
# Where a key begins so, what its change means; the first that fits counts.
MEANS = (
    ("objective", "the model reads or answers otherwise: earlier versions differ by that too, not by their rows alone"),
    ("base_model", f"models start from other weights; {METRICS_COMPARE}"),
    ("training", f"models are trained otherwise; {METRICS_COMPARE}"),
    ("data.fresh", f"models learn from another choice of rows; {METRICS_COMPARE}"),
    ("data.split", "rows that came before keep their split, new ones are split so; test metrics still compare"),
    ("data.columns", "rows that came before were read from other columns, and stay as they are"),
    (
        "contract.label",
        "labels are other ones: metrics by label, and means over labels, do not compare with earlier "
        "versions; champion and challenger are compared on the labels that both know",
    ),
    ("contract", "rows that came before were judged by the earlier contract, and stay"),
    (
        "evaluation.metric",
        "earlier decisions went by another metric and do not compare; all metrics of all versions are in MLflow and do",
    ),
    ("evaluation.gate", f"earlier decisions went by another rule and do not compare; {METRICS_COMPARE}"),
    ("evaluation.slices", f"slices are cut otherwise; {METRICS_COMPARE}"),
    ("evaluation", f"intervals and metrics are computed otherwise; {METRICS_COMPARE} up to that"),
)


def summarize_recipe(recipe: "Recipe") -> dict[str, Any]:
    """What is remembered of a recipe, JSON-ready: what it sets other than by default."""
    settings = dump_settings(recipe, *UNCOUNTED)
    settings["data"].pop("sources")  # what else is read shows in the rows
    return settings


def find_changes(recipe: "Recipe", home: Home) -> list[str]:
    """What changed since the last concluded run, each with what it means for the history; empty before the first."""
    before = load_state(home).recipe
    return [] if before is None else describe_changes(before, summarize_recipe(recipe))


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The changes between two recipes in words: one sentence for all that mean the same."""
    old = dict(_flatten_keys(before))
    new = dict(_flatten_keys(now))
    changes_by_meaning: dict[str, list[str]] = {}
    for key in sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
        words = f"{key} {_format_value(key, old)} -> {_format_value(key, new)}"
        changes_by_meaning.setdefault(_find_meaning(key), []).append(words)
    return [f"{', '.join(changes)}: {meaning}" for meaning, changes in changes_by_meaning.items()]


def _find_meaning(key: str) -> str:
    return next(words for prefix, words in MEANS if key == prefix or key.startswith(f"{prefix}."))


def _flatten_keys(value: Any, key: str = "") -> Sequence[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(key, value)]
    return [
        pair for name, inner in value.items() for pair in _flatten_keys(inner, f"{key}.{name}" if key else str(name))
    ]


def _format_value(key: str, recipe: Mapping[str, Any]) -> str:
    value = recipe.get(key)
    unset = "none" if key.startswith(ENTRIES) else "default"
    text = unset if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
