"""Find labels that a person would read as one: `refund`, `refund ` and `Refund`; `1` and `1.0`."""

import json
import re
import unicodedata
from collections.abc import Mapping

WHOLE = re.compile(r"([+-]?\d+)\.0+")  # a whole number from a column that became one of floats
SHOWN = 10  # variants that a message shows


def fold_label(label: str) -> str:
    """Return what is left of a label without case, outer and repeated spaces, Unicode form and the `.0` of floats."""
    folded = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    whole = WHOLE.fullmatch(folded)
    return whole[1] if whole else folded


def find_variants(counts: Mapping[str, int]) -> dict[str, str]:
    """Return each label that looks like a more frequent one, and that one.

    Args:
        counts: label -> rows with it.
    """
    ranked = sorted(counts, key=lambda label: (-counts[label], label != label.strip(), label))
    first: dict[str, str] = {}
    for label in ranked:
        first.setdefault(fold_label(label), label)
    return {label: first[fold_label(label)] for label in ranked if first[fold_label(label)] != label}


def explain_variants(counts: Mapping[str, int]) -> str | None:
    """Return a sentence with a ready `rename:` for labels that look alike; None if there are none."""
    variants = find_variants(counts)
    if not variants:
        return None
    shown = dict(list(variants.items())[:SHOWN])
    lines = ", ".join(f"{_quote(old)}: {_quote(new)}" for old, new in shown.items())
    more = f" (and {len(variants) - SHOWN} more)" if len(variants) > SHOWN else ""
    return (
        f"{len(variants)} labels look like others (spaces, case, Unicode form or .0); if they are the same, write "
        f"contract.label.rename: {{{lines}}}{more}"
    )


def _quote(label: str) -> str:
    return json.dumps(label, ensure_ascii=False)
