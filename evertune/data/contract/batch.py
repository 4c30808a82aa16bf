"""Every row of a batch under every expectation, part by part; what only the whole tells is looked at before."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.chunks import Rows, larger
from evertune.data.contract import great_expectations as gx_runner
from evertune.data.contract.chunk import UNREADABLE, Judge, Judged, Part, apart, judged_elsewhere, refuses
from evertune.data.contract.expectations import Check
from evertune.data.contract.frame import KnownInputs, Whole, frame, whole
from evertune.data.contract.great_expectations import Finding
from evertune.runtime.files import write_json
from evertune.runtime.threads import Spread, ahead

if TYPE_CHECKING:
    import pyarrow as pa

PART = 200_000  # rows that are checked at once: each check has a price of its own, whatever the number of rows
SENT = 25_000  # the same elsewhere: some megabytes, which have to travel


@dataclass(frozen=True)
class Verdicts:
    """What the contract says of a batch.

    Args:
        accepted: rows that may enter the corpus; none where they were taken part by part.
        refused: the others, with `reasons` (sentences) and `kinds` (their classes), lists of equal length.
        reasons: refused rows by class of reason; a row with two counts under both.
        warnings: what is odd and refuses nothing.
        suite_result: every expectation with its result, small and ready for JSON.
        problems: what speaks against the batch as a whole.
        rows: how many were accepted; labels: how often each label stands on them.
        numbers: how many of them have a bare number for their text.
        joining, unknown: labels that the corpus did not know, see `frame.Allowed`.
    """

    accepted: "pa.Table"
    refused: "pa.Table"
    reasons: dict[str, int]
    warnings: tuple[str, ...]
    suite_result: dict[str, Any]
    problems: tuple[str, ...] = ()
    rows: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    numbers: int = 0
    joining: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Elsewhere:
    """Other machines, which judge parts of a batch.

    Args:
        spread: see `parallel.Spread`.
        finish: what they make of the rows that they accept; can be pickled.
    """

    spread: Spread
    finish: "Callable[[pa.Table], pa.Table]"


def judge_parts(
    rows: Rows, names: Sequence[str], recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs,
    take: "Callable[[pa.Table], None]", docs_folder: Path | None = None, elsewhere: Elsewhere | None = None,
) -> Verdicts:  # fmt: skip
    """Check rows one by one; nothing stops (see `judge`). Of the rows only the refused ones are held in memory.

    Args:
        rows: reads rows from `rows.keyed`; names: of all columns.
        take: is given the accepted rows, part by part.
    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow as pa

    known = whole(_readable(rows), recipe, known_labels, known_inputs)
    judge = Judge(recipe, known.permitted, _columns(_readable(rows), names, recipe, known))
    at_large = _at_large(judge, _readable(rows), names, known)
    labels, refused, found = Counter[str](), list[Any](), list[tuple[int, list[Finding]]]()
    accepted = numbers = 0
    for one in _judged(judge, partial(_parts, rows, names, known, at_large), elsewhere):
        found.append((one.part.start, one.findings))
        accepted += len(one.accepted)
        numbers += one.numbers
        refused.append(one.refused)
        labels.update(one.labels)
        take(one.accepted)
    totals = [at_large.get(place) or gx_runner.joined([(at, findings[place]) for at, findings in found])
              for place in range(len(judge.checks))]  # fmt: skip
    verdicts = _verdicts(one.accepted.slice(0, 0), pa.concat_tables(refused), accepted, labels, judge.checks, totals)
    verdicts = replace(verdicts, numbers=numbers, joining=known.permitted.joining, unknown=known.permitted.unknown)
    if docs_folder is not None:
        gx_runner.data_docs(totals, [check.expectation for check in judge.checks], docs_folder)
        write_json(docs_folder / "result.json", verdicts.suite_result)
    return verdicts


def _judged(judge: Judge, parts: Callable[[int], Iterator[Part]], elsewhere: Elsewhere | None) -> Iterator[Judged]:
    if elsewhere is None:
        yield from (judge.judged(part) for part in parts(PART))
        return
    packed = pickle.dumps(judge)
    jobs = ({"judge": packed, "part": part, "finish": elsewhere.finish} for part in parts(SENT))
    yield from elsewhere.spread(judged_elsewhere, jobs)


def _parts(rows: Rows, names: Sequence[str], known: Whole, at_large: dict[int, Finding], size: int) -> Iterator[Part]:
    """The batch in parts of about this many rows."""
    start = 0
    for read in ahead(larger(rows(names), size)):
        for at in range(0, max(1, len(read)), size):
            unreadable, table = apart(read.slice(at, size))
            here = {place: one.within(start, len(table)) for place, one in at_large.items()}
            yield Part(start, table, unreadable, known.within(start, len(table)), here)
            start += len(table)


def _readable(rows: Rows) -> Rows:
    def read(names: Sequence[str]) -> "Iterator[pa.Table]":
        for part in rows(list(dict.fromkeys([*names, "problem"]))):
            yield apart(part)[1].select(list(names))

    return read


def _columns(rows: Rows, names: Sequence[str], recipe: Recipe, known: Whole) -> list[str]:
    """Of the frame that expectations look at."""
    none: list[str] = frame(next(rows(names)).slice(0, 0), recipe, known.within(0, 0)).column_names
    return none


def _at_large(judge: Judge, rows: Rows, names: Sequence[str], known: Whole) -> dict[int, Finding]:
    """What the expectations find that look at the whole batch, by their place."""
    import pyarrow as pa

    if not judge.large:
        return {}
    flat = frame(pa.concat_tables(rows(names)), judge.recipe, known).to_pandas()
    findings = gx_runner.Runner([judge.checks[place].expectation for place in judge.large]).run(flat)
    return dict(zip(judge.large, findings, strict=True))


def _verdicts(
    none: "pa.Table", refused: "pa.Table", accepted: int, labels: Counter[str], checks: list[Check],
    findings: list[Finding],
) -> Verdicts:  # fmt: skip
    kinds = Counter(kind for row in refused["kinds"].to_pylist() for kind in dict.fromkeys(row))
    failed = [pair for pair in zip(checks, findings, strict=True) if not pair[1].success]
    counting = [(check, found) for check, found in failed if not check.warn and not refuses(check, found)]
    return Verdicts(
        accepted=none,
        refused=refused,
        reasons=dict(kinds.most_common()),
        warnings=tuple(_told(check, found) for check, found in failed if check.warn),
        suite_result=_suite_result(checks, findings, kinds[UNREADABLE]),
        problems=tuple(_told(check, found) for check, found in counting),
        rows=accepted,
        labels=dict(labels),
    )


def _told(check: Check, found: Finding) -> str:
    """One failed expectation of the recipe, in words."""
    given = check.expectation.configuration.kwargs
    shown = ", ".join(f"{key}={value!r}" for key, value in given.items() if key != "severity")
    seen = (
        f"{len(found.rows)} rows fail" if found.rows is not None else f"the batch has {found.observed!r}, which fails"
    )
    return f"contract.expectations: {seen} {check.kind}({shown})"


def _suite_result(checks: list[Check], findings: list[Finding], unreadable: int) -> dict[str, Any]:
    first = {"expectation": "row_is_readable", "column": None, "kind": UNREADABLE}
    results: list[dict[str, Any]] = [{**first, "success": not unreadable, "rows": unreadable}]
    for check, found in zip(checks, findings, strict=True):
        name = check.expectation.configuration
        column = name.kwargs.get("column")
        failing = None if found.rows is None else len(found.rows)
        results.append(
            {"expectation": name.type, "column": column, "kind": check.kind, "success": found.success, "rows": failing}
        )
    passed = sum(one["success"] for one in results)
    return {"success": passed == len(results), "expectations": len(results), "passed": passed, "results": results}
