"""Labels that come and go: what a batch's labels say against those of the corpus."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.contract.frame import get_target_role

if TYPE_CHECKING:
    from evertune.data.contract.batch import Verdicts

EXPECTED = 10  # rows of a label that a batch should have: with none it has vanished, but by a chance of 1 in 20,000
SHOWN = 5


def explain_unknown_labels(verdicts: "Verdicts", recipe: Recipe) -> list[str]:
    """Why a batch with labels that the corpus does not know is not taken in; empty where the recipe lets it."""
    if recipe.contract.label.new != "stop" or not verdicts.unknown:
        return []
    return [
        f"{_label_column(recipe)}: {_format_counts(verdicts.unknown)} the corpus does not know; mend the rows, or set "
        "contract.label.rename, or contract.label.new to grow"
    ]


def describe_changes(verdicts: "Verdicts", recipe: Recipe, earlier_counts: Mapping[str, int]) -> list[str]:
    """What a person should know of labels that are new, refused or gone.

    Args:
        before: rows by label in the batches before.
    """
    messages = []
    rules = recipe.contract.label
    column = _label_column(recipe)
    if verdicts.joining:
        messages.append(f"{column}: {_format_counts(verdicts.joining)} are new and join the labels")
    frequent_labels = {label: count for label, count in verdicts.unknown.items() if count >= rules.min_rows}
    if frequent_labels and earlier_counts and rules.values == "inferred":
        messages.append(
            f"{column}: {_format_counts(frequent_labels)} the corpus does not know, the rows are refused; "
            "contract.label.new: grow takes such in, contract.label.rename says what a label is called now"
        )
    return messages + [
        f"{column}: {message}" for message in _find_vanished_labels(verdicts, rules.rename, earlier_counts)
    ]


def _find_vanished_labels(
    verdicts: "Verdicts", renamed: Mapping[str, str], earlier_counts: Mapping[str, int]
) -> list[str]:
    earlier = _rename_counts(earlier_counts, renamed)
    current = _rename_counts(verdicts.labels, renamed)
    earlier_total = sum(earlier.values())
    current_total = sum(current.values())
    return [
        f"{label!r} has vanished: none of {current_total:,}, but {count / earlier_total:.1%} of those before"
        for label, count in earlier.items()
        if not current.get(label) and count / earlier_total * current_total >= EXPECTED
    ]


def _rename_counts(counts: Mapping[str, int], renamed: Mapping[str, str]) -> dict[str, int]:
    renamed_counts: dict[str, int] = {}
    for label, count in counts.items():
        new_name = renamed.get(label, label)
        renamed_counts[new_name] = renamed_counts.get(new_name, 0) + count
    return renamed_counts


def _format_counts(labels: Mapping[str, int]) -> str:
    """`'crypto' (37 rows)` and so on, the most frequent first."""
    order = sorted(labels.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{label!r} ({count:,} row{'s' * (count != 1)})" for label, count in order[:SHOWN]]
    return ", ".join(parts) + (f" and {len(order) - SHOWN} values more" if len(order) > SHOWN else "")


def _label_column(recipe: Recipe) -> str:
    return recipe.column(get_target_role(recipe))
