"""Every row of a batch under every expectation, part by part; what only the whole tells is looked at before."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Contract, Recipe
from evertune.contract import gx_runner
from evertune.contract.custom import custom_expectations
from evertune.contract.expectations import Check, built_in
from evertune.contract.frame import KnownInputs, Whole, frame, target, whole
from evertune.contract.gx_runner import Finding
from evertune.errors import ConfigError
from evertune.home import write_json
from evertune.parallel import ahead
from evertune.parts import Rows, larger

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

UNREADABLE = "unreadable row"  # the only reason of such a row: no other check looks at it
READING = ["problem", "problem_digest"]  # columns that end here: neither corpus nor quarantine has them
PART = 200_000  # rows that are checked at once: each check has a price of its own, whatever the number of rows
ROW_BY_ROW = {  # what they say of a row hangs on no other row
    f"expect_column_{name}"
    for name in (
        "values_to_be_null", "values_to_not_be_null", "values_to_be_in_set", "values_to_not_be_in_set",
        "values_to_match_regex", "values_to_not_match_regex", "values_to_be_between", "value_lengths_to_be_between",
        "value_lengths_to_equal", "pair_values_to_be_equal",
    )
}  # fmt: skip


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
    """

    accepted: "pa.Table"
    refused: "pa.Table"
    reasons: dict[str, int]
    warnings: tuple[str, ...]
    suite_result: dict[str, Any]
    problems: tuple[str, ...] = ()
    rows: int = 0
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """What every part of a batch is judged by.

    Args:
        known: what the whole batch tells.
        checks: in their order; at_large: what those found that look at the whole batch, by place.
        runner: for the others.
    """

    recipe: Recipe
    known: Whole
    checks: list[Check]
    at_large: dict[int, Finding]
    runner: gx_runner.Runner


def judge_parts(
    rows: Rows, names: Sequence[str], recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs,
    take: "Callable[[pa.Table], None]", docs_folder: Path | None = None,
) -> Verdicts:  # fmt: skip
    """Check rows one by one; nothing stops (see `judge`). Of the rows only the refused ones are held in memory.

    Args:
        rows: reads rows from `rows.keyed`; names: of all columns.
        take: is given the accepted rows, part by part.
    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow as pa

    judge = _judge(_readable(rows), names, recipe, whole(_readable(rows), recipe, known_labels, known_inputs))
    labels, refused, found, start = Counter[str](), list[Any](), list[tuple[int, list[Finding]]](), 0
    for part in ahead(larger(rows(names), PART)):
        unreadable, table = _apart(part)
        findings, bad, said = _judged(table, judge, start)
        found.append((start, findings))
        refused += [said, _unreadable(unreadable)] if len(unreadable) else [said]
        accepted = table.drop_columns(READING).filter(~bad)
        labels.update(_counted(accepted[target(recipe)]))
        take(accepted)
        start += len(table)
    every = pa.concat_tables(refused)
    totals = [judge.at_large.get(place) or gx_runner.joined([(at, one[place]) for at, one in found])
              for place in range(len(judge.checks))]  # fmt: skip
    verdicts = _verdicts(accepted.slice(0, 0), every, start, labels, judge.checks, totals)
    if docs_folder is not None:
        gx_runner.data_docs(totals, [check.expectation for check in judge.checks], docs_folder)
        write_json(docs_folder / "result.json", verdicts.suite_result)
    return verdicts


def _readable(rows: Rows) -> Rows:
    def read(names: Sequence[str]) -> "Iterator[pa.Table]":
        for part in rows(list(dict.fromkeys([*names, "problem"]))):
            yield _apart(part)[1].select(list(names))

    return read


def _apart(part: "pa.Table") -> "tuple[pa.Table, pa.Table]":
    """Rows that their reader could not read, and the others."""
    import pyarrow.compute as pc

    if part["problem"].null_count == len(part):
        return part.slice(0, 0), part
    return part.filter(pc.is_valid(part["problem"])), part.filter(pc.is_null(part["problem"]))


def _judge(rows: Rows, names: Sequence[str], recipe: Recipe, known: Whole) -> Judge:
    import pyarrow as pa

    columns = frame(next(rows(names)).slice(0, 0), recipe, known).column_names
    with gx_runner.quiet():
        checks = built_in(recipe, known.permitted, columns)
    checks += custom_expectations(recipe.contract, columns)
    large = [place for place, check in enumerate(checks) if not _row_by_row(check)]
    findings: list[Finding] = []
    if large:
        flat = frame(pa.concat_tables(rows(names)), recipe, known).to_pandas()
        findings = gx_runner.Runner([checks[place].expectation for place in large]).run(flat)
    runner = gx_runner.Runner([check.expectation for check in checks if _row_by_row(check)])
    return Judge(recipe, known, checks, dict(zip(large, findings, strict=True)), runner)


def _row_by_row(check: Check) -> bool:
    """Whether what it says of a row hangs on no other: no share of rows may fail it, and no condition chooses rows."""
    given = check.expectation.configuration
    return given.type in ROW_BY_ROW and given.kwargs.get("mostly", 1) == 1 and not given.kwargs.get("row_condition")


def _judged(table: "pa.Table", judge: Judge, start: int) -> "tuple[list[Finding], Any, pa.Table]":
    """What each check finds in a part, which rows are refused, and these with their reasons."""
    import numpy as np

    rows = frame(table, judge.recipe, judge.known, start).to_pandas()
    own = [place for place in range(len(judge.checks)) if place not in judge.at_large]
    found = dict(zip(own, judge.runner.run(rows), strict=True))
    found |= {place: one.within(start, len(table)) for place, one in judge.at_large.items()}
    findings = [found[place] for place in range(len(judge.checks))]
    _check_that_all_ran(judge.checks, findings, judge.recipe.contract)
    refusing = [(check, one) for check, one in zip(judge.checks, findings, strict=True) if _refuses(check, one)]
    bad = np.zeros(len(table), dtype=bool)
    for _check, one in refusing:
        bad[one.rows] = True
    return findings, bad, _with_reasons(table.drop_columns(READING), bad, rows, refusing)


def _refuses(check: Check, found: Finding) -> bool:
    """One on rows may fail without saying which: `expect_column_values_to_be_in_type_list` looks at a column's type."""
    return not found.success and not check.warn and check.say is not None and found.rows is not None


def _verdicts(
    none: "pa.Table", refused: "pa.Table", readable: int, labels: Counter[str], checks: list[Check],
    findings: list[Finding],
) -> Verdicts:  # fmt: skip
    kinds = Counter(kind for row in refused["kinds"].to_pylist() for kind in dict.fromkeys(row))
    failed = [pair for pair in zip(checks, findings, strict=True) if not pair[1].success]
    counting = [(check, found) for check, found in failed if not check.warn and not _refuses(check, found)]
    unreadable = kinds[UNREADABLE]
    return Verdicts(
        accepted=none,
        refused=refused,
        reasons=dict(kinds.most_common()),
        warnings=tuple(_told(check, found) for check, found in failed if check.warn),
        suite_result=_suite_result(checks, findings, unreadable),
        problems=tuple(_told(check, found) for check, found in counting),
        rows=readable - (len(refused) - unreadable),
        labels=dict(labels),
    )


def _counted(labels: Any) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = pc.value_counts(pc.list_flatten(labels) if pa.types.is_list(labels.type) else labels)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def _unreadable(rows: "pa.Table") -> "pa.Table":
    """Rows that their reader could not read are refused too, with what it said."""
    import pyarrow as pa

    kinds = pa.array([[UNREADABLE]] * len(rows), pa.list_(pa.string()))
    reasons = pa.array([[one] for one in rows["problem"].to_pylist()], pa.list_(pa.string()))
    return rows.drop_columns(READING).append_column("reasons", reasons).append_column("kinds", kinds)


def _with_reasons(
    table: "pa.Table", bad: Any, rows: "pd.DataFrame", refusing: Sequence[tuple[Check, Finding]]
) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    places = np.concatenate([np.empty(0, dtype=np.int64), *(found.rows for _, found in refusing)])
    order = np.argsort(places, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(table))[bad])]).astype(np.int32)
    said = {
        "reasons": [text for check, found in refusing if check.say for text in check.say(rows.iloc[found.rows])],
        "kinds": [check.kind for check, found in refusing for _ in found.rows],
    }
    refused = table.filter(bad)
    for name, values in said.items():
        lists = pa.ListArray.from_arrays(offsets, pa.array(values, pa.string()).take(order))
        refused = refused.append_column(name, lists)
    return refused


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


def _check_that_all_ran(checks: list[Check], findings: list[Finding], contract: Contract) -> None:
    own = len(checks) - len(contract.expectations)
    broken = [(place, one.problem) for place, one in enumerate(findings) if one.problem]
    if broken:
        where = [f"contract.expectations.{place - own}" if place >= own else "the contract" for place, _ in broken]
        raise ConfigError(
            [
                f"{name}: {checks[place].kind} cannot be checked on this batch: {problem}; mend its arguments"
                for name, (place, problem) in zip(where, broken, strict=True)
            ]
        )
