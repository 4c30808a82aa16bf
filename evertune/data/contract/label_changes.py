"""Labels that come and go: what a batch's labels say against those of the corpus."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.contract.frame import target

if TYPE_CHECKING:
    from evertune.data.contract.batch import Verdicts

EXPECTED = 10  # rows of a label that a batch should have: with none it has vanished, but by a chance of 1 in 20,000
SHOWN = 5


def stopping(verdicts: "Verdicts", recipe: Recipe) -> list[str]:
    """Why a batch with labels that the corpus does not know is not taken in; empty where the recipe lets it."""
    if recipe.contract.label.new != "stop" or not verdicts.unknown:
        return []
    return [
        f"{_column(recipe)}: {_counted(verdicts.unknown)} the corpus does not know; mend the rows, or set "
        "contract.label.rename, or contract.label.new to grow"
    ]


def notes(verdicts: "Verdicts", recipe: Recipe, before: Mapping[str, int]) -> list[str]:
    """What a person should know of labels that are new, refused or gone.

    Args:
        before: rows by label in the batches before.
    """
    found = []
    rules, column = recipe.contract.label, _column(recipe)
    if verdicts.joining:
        found.append(f"{column}: {_counted(verdicts.joining)} are new and join the labels")
    often = {label: count for label, count in verdicts.unknown.items() if count >= rules.min_rows}
    if often and before and rules.values == "inferred":
        found.append(
            f"{column}: {_counted(often)} the corpus does not know, the rows are refused; "
            "contract.label.new: grow takes such in, contract.label.rename says what a label is called now"
        )
    return found + [f"{column}: {words}" for words in _vanished(verdicts, rules.rename, before)]


def _vanished(verdicts: "Verdicts", renamed: Mapping[str, str], before: Mapping[str, int]) -> list[str]:
    known, now = _under_todays_names(before, renamed), _under_todays_names(verdicts.labels, renamed)
    every, rows = sum(known.values()), sum(now.values())
    return [
        f"{label!r} has vanished: none of {rows:,}, but {count / every:.1%} of those before"
        for label, count in known.items()
        if not now.get(label) and count / every * rows >= EXPECTED
    ]


def _under_todays_names(counts: Mapping[str, int], renamed: Mapping[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for label, count in counts.items():
        now = renamed.get(label, label)
        found[now] = found.get(now, 0) + count
    return found


def _counted(labels: Mapping[str, int]) -> str:
    """`'crypto' (37 rows)` and so on, the most frequent first."""
    order = sorted(labels.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{label!r} ({count:,} row{'s' * (count != 1)})" for label, count in order[:SHOWN]]
    return ", ".join(shown) + (f" and {len(order) - SHOWN} values more" if len(order) > SHOWN else "")


def _column(recipe: Recipe) -> str:
    return recipe.column(target(recipe))
