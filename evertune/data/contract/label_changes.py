"""Compare a batch's labels with those of the corpus: labels that are new, refused or missing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.contract.frame import get_target_role

if TYPE_CHECKING:
    from evertune.data.contract.batch import Verdicts

EXPECTED = 10  # rows of a label that a batch should have; having none is then no accident (1 in 20,000)
SHOWN = 5  # labels that a message lists


def explain_unknown_labels(verdicts: "Verdicts", recipe: Recipe) -> list[str]:
    """Return why labels that are not in the corpus stop a batch; empty unless `contract.label.new` is `stop`."""
    if recipe.contract.label.new != "stop" or not verdicts.unknown:
        return []
    return [
        f"{_label_column(recipe)}: labels that are not in the corpus: {_format_counts(verdicts.unknown)}. Correct the "
        "rows, set contract.label.rename, or set contract.label.new: grow"
    ]


def describe_changes(verdicts: "Verdicts", recipe: Recipe, earlier_counts: Mapping[str, int]) -> list[str]:
    """Return messages about labels that are new, refused or missing.

    Args:
        verdicts: of the batch.
        recipe: has the contract.
        earlier_counts: rows by label in the batches before.
    """
    messages = []
    rules = recipe.contract.label
    column = _label_column(recipe)
    if verdicts.joining:
        messages.append(f"{column}: added new labels: {_format_counts(verdicts.joining)}")
    frequent_labels = {label: count for label, count in verdicts.unknown.items() if count >= rules.min_rows}
    if frequent_labels and earlier_counts and rules.values == "inferred":
        messages.append(
            f"{column}: refused rows with labels that are not in the corpus: {_format_counts(frequent_labels)}. "
            "To accept new labels, set contract.label.new: grow; if a label was renamed, set contract.label.rename"
        )
    missing = _find_missing_labels(verdicts, rules.rename, earlier_counts)
    return messages + [f"{column}: {message}" for message in missing]


def _find_missing_labels(
    verdicts: "Verdicts", renamed: Mapping[str, str], earlier_counts: Mapping[str, int]
) -> list[str]:
    earlier = _rename_counts(earlier_counts, renamed)
    current = _rename_counts(verdicts.labels, renamed)
    earlier_total = sum(earlier.values())
    current_total = sum(current.values())
    return [
        f"no row has the label {label!r} (0 of {current_total:,}; {count / earlier_total:.1%} in earlier batches)"
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
    """Return such as `'crypto' (37 rows), 'loan' (1 row)`, the most frequent first."""
    order = sorted(labels.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{label!r} ({count:,} row{'s' * (count != 1)})" for label, count in order[:SHOWN]]
    text = ", ".join(parts)
    return f"{text} and {len(order) - SHOWN} more" if len(order) > SHOWN else text


def _label_column(recipe: Recipe) -> str:
    return recipe.column(get_target_role(recipe))
