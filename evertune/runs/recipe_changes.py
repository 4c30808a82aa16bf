"""Edits of a recipe between two runs, and which metrics of its history they leave comparable."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evertune.data.corpus.state import load_state
from evertune.records import dump_settings

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.runtime.context import RunContext

MAX_SHOWN = 60  # characters of a value
# Sections that affect neither rows nor models nor decisions.
IGNORED = ("folder", "file", "name", "schedule", "registry", "monitor", "notify", "retention", "triggers")
ENTRIES = ("contract.label.rename.", "evaluation.gate.minimum.")  # entries of mappings that are empty by default
METRICS_COMPARE = "test metrics remain comparable with those of earlier versions"
# The effect of a change, by the start of its key; the first match counts.
EFFECTS = (
    ("objective", "inputs or predictions change, so versions differ by more than their rows"),
    ("base_model", f"models start from other weights; {METRICS_COMPARE}"),
    ("training", f"models are trained differently; {METRICS_COMPARE}"),
    ("data.fresh", f"models are trained on other rows; {METRICS_COMPARE}"),
    ("data.split", f"earlier rows keep their split, new rows are split the new way; {METRICS_COMPARE}"),
    ("data.columns", "earlier rows were read from other columns and stay as they are"),
    ("contract.label.noise", "doubtful labels of earlier batches stay as they are"),
    (
        "contract.label",
        "the labels change: metrics by label and their means are not comparable with those of earlier versions; "
        "champion and challenger are compared on the labels that both know",
    ),
    ("contract", "earlier rows passed the earlier contract and stay"),
    (
        "evaluation.metric",
        "earlier decisions used another metric; MLflow has all metrics of all versions, and they remain comparable",
    ),
    ("evaluation.gate", f"earlier decisions used another rule; {METRICS_COMPARE}"),
    ("evaluation.slices", f"slices are cut differently; {METRICS_COMPARE}"),
    ("evaluation", f"intervals and metrics are computed differently; apart from that, {METRICS_COMPARE}"),
)


def summarize_recipe(recipe: "Recipe") -> dict[str, object]:
    """Return the settings of a recipe that differ from their defaults, JSON-ready, to compare later recipes with."""
    settings = dump_settings(recipe, *IGNORED)
    settings["data"].pop("sources")  # a change of sources shows in the rows
    return settings


def find_changes(context: "RunContext") -> list[str]:
    """Return what changed since the last concluded run, with the effect on its history; empty before the first run."""
    before = load_state(context.home).recipe
    return [] if before is None else describe_changes(before, summarize_recipe(context.recipe))


def describe_changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return the changes between two recipes in words, one sentence for all with the same effect.

    Args:
        before, now: as `summarize_recipe` returns them.
    """
    old = dict(_flatten_keys(before))
    new = dict(_flatten_keys(now))
    changes_by_effect: dict[str, list[str]] = {}
    for key in sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
        change = f"{key} {_format_value(key, old)} -> {_format_value(key, new)}"
        changes_by_effect.setdefault(_find_effect(key), []).append(change)
    return [f"{', '.join(changes)}: {effect}" for effect, changes in changes_by_effect.items()]


def _find_effect(key: str) -> str:
    return next(effect for prefix, effect in EFFECTS if key == prefix or key.startswith(f"{prefix}."))


def _flatten_keys(value: object, key: str = "") -> Sequence[tuple[str, object]]:
    if not isinstance(value, Mapping):
        return [(key, value)]
    pairs: list[tuple[str, object]] = []
    for name, inner in value.items():
        pairs += _flatten_keys(inner, f"{key}.{name}" if key else str(name))
    return pairs


def _format_value(key: str, recipe: Mapping[str, object]) -> str:
    value = recipe.get(key)
    unset = "none" if key.startswith(ENTRIES) else "default"
    text = unset if value is None else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
