"""Whether the model is ready for production: the tests of the ML Test Score."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evertune.report.view import Cell, Table, Toned, prose, text

Json = dict[str, Any]
MARKS = {
    "passed": Toned("✓ passed", "good", strong=True),
    "failed": Toned("✗ failed", "bad", strong=True),
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """The tests by section, and how many came out how."""

    summary: str
    tables: Sequence[tuple[str, Table]]


def build_readiness(checks: Sequence[Json] | None) -> Readiness | None:
    """Return a table of each section of the rubric; None where the tests were not judged."""
    if not checks:
        return None
    counts = Counter(check["result"] for check in checks)
    parts = [
        f"{counts[result]} {result}"
        for result in ("passed", "failed", "not applicable", "not automated")
        if counts[result]
    ]
    columns = (prose("Test"), text("Result"), prose("Why"))
    sections = dict.fromkeys(check["section"] for check in checks)
    tables = [
        (section, Table(columns, [_check_row(check) for check in checks if check["section"] == section]))
        for section in sections
    ]
    return Readiness(", ".join(parts), tables)


def _check_row(check: Json) -> list[Cell]:
    return [check["question"], MARKS.get(check["result"], check["result"]), check["reason"].replace("`", "")]
