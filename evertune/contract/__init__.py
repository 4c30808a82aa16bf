"""The data contract: rows in, accepted rows and refused rows with every reason out."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Contract, Recipe
from evertune.contract import gx_runner
from evertune.contract.custom import custom_expectations
from evertune.contract.expectations import Check, built_in
from evertune.contract.frame import allowed, frame, target
from evertune.contract.gx_runner import Finding
from evertune.errors import ConfigError, DataError
from evertune.home import write_json
from evertune.objectives import module

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["UNREADABLE", "BatchStoppedError", "Verdicts", "custom_expectations", "judge", "judge_rows", "stops"]

UNREADABLE = "unreadable row"  # the only reason of such a row: no other check looks at it
READING = ["problem", "problem_digest"]  # columns that end here: neither corpus nor quarantine has them
SHOWN = 3  # rows and reasons that a message shows
CUT = 80  # characters of a value in a message


@dataclass(frozen=True)
class Verdicts:
    """What the contract says of a batch.

    Args:
        accepted: rows that may enter the corpus.
        refused: the others, with `reasons` (sentences) and `kinds` (their classes), lists of equal length.
        reasons: refused rows by class of reason; a row with two counts under both.
        warnings: what is odd and refuses nothing.
        suite_result: every expectation with its result, small and ready for JSON.
        problems: what speaks against the batch as a whole.
    """

    accepted: "pa.Table"
    refused: "pa.Table"
    reasons: dict[str, int]
    warnings: tuple[str, ...]
    suite_result: dict[str, Any]
    problems: tuple[str, ...] = ()


class BatchStoppedError(DataError):
    """A batch that is unacceptable as a whole; `verdicts` holds its refused rows, which must not be lost."""

    def __init__(self, message: str, verdicts: Verdicts) -> None:
        self.verdicts = verdicts
        super().__init__(message, verdicts)  # both, or it could not be unpickled

    def __str__(self) -> str:
        return str(self.args[0])


def judge(
    table: "pa.Table",
    recipe: Recipe,
    known_labels: tuple[str, ...],
    known_inputs: "Callable[[pa.Array], pa.Table]",
    docs_folder: Path | None = None,
) -> Verdicts:
    """Check a batch, row by row and as a whole.

    Args:
        table: rows from `rows.keyed`.
        known_labels: the corpus' labels in their order, none before the first batch.
        known_inputs: see `corpus.known_inputs`.
        docs_folder: where Data Docs and `result.json` go. Default: none are written.
    Raises:
        BatchStoppedError: too many rows are refused, or the batch fails as a whole.
        ConfigError: an expectation of the recipe cannot be checked.
    """
    verdicts = judge_rows(table, recipe, known_labels, known_inputs, docs_folder)
    if problems := stops(verdicts, recipe, known_labels):
        raise BatchStoppedError(_message(problems, verdicts, recipe), verdicts)
    return verdicts


def stops(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """Why a batch with these verdicts is unacceptable as a whole; empty where it is not."""
    return [*_share_refused(verdicts, recipe), *_labels(verdicts, recipe, known_labels), *verdicts.problems]


def judge_rows(
    table: "pa.Table",
    recipe: Recipe,
    known_labels: tuple[str, ...],
    known_inputs: "Callable[[pa.Array], pa.Table]",
    docs_folder: Path | None = None,
) -> Verdicts:
    """Check rows one by one; nothing stops (see `judge`).

    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow.compute as pc

    unreadable, table = table.filter(pc.is_valid(table["problem"])), table.filter(pc.is_null(table["problem"]))
    permitted = allowed(table, recipe, known_labels)
    flat = frame(table, recipe, permitted, known_inputs)
    with gx_runner.quiet():
        checks = built_in(recipe, permitted, flat.column_names)
    checks += custom_expectations(recipe.contract, flat.column_names)
    rows = flat.to_pandas()
    expectations = [check.expectation for check in checks]
    findings = gx_runner.run(rows, expectations)
    _check_that_all_ran(checks, findings, recipe.contract)
    verdicts = _with_unreadable(_verdicts(table.drop_columns(READING), rows, checks, findings), unreadable)
    if docs_folder is not None:
        gx_runner.data_docs(rows, expectations, docs_folder)
        write_json(docs_folder / "result.json", verdicts.suite_result)
    return verdicts


def _verdicts(table: "pa.Table", rows: "pd.DataFrame", checks: list[Check], findings: list[Finding]) -> Verdicts:
    import numpy as np

    failed = [pair for pair in zip(checks, findings, strict=True) if not pair[1].success]
    counting = [(check, found) for check, found in failed if not check.warn]
    # one on rows may fail without saying which: `expect_column_values_to_be_in_type_list` looks at the column's type
    refusing = [(check, found) for check, found in counting if check.say is not None and found.rows is not None]
    bad = np.zeros(len(table), dtype=bool)
    for _check, found in refusing:
        bad[found.rows] = True
    refused = _with_reasons(table, bad, rows, refusing)
    kinds = Counter(kind for row in refused["kinds"].to_pylist() for kind in dict.fromkeys(row))
    return Verdicts(
        accepted=table.filter(~bad),
        refused=refused,
        reasons=dict(kinds.most_common()),
        warnings=tuple(_told(check, found) for check, found in failed if check.warn),
        suite_result=_suite_result(checks, findings),
        problems=tuple(_told(check, found) for check, found in counting if check.say is None or found.rows is None),
    )


def _with_unreadable(verdicts: Verdicts, unreadable: "pa.Table") -> Verdicts:
    """Rows that their reader could not read are refused too, with what it said."""
    import pyarrow as pa

    count, kinds = len(unreadable), pa.array([[UNREADABLE]] * len(unreadable), pa.list_(pa.string()))
    reasons = pa.array([[one] for one in unreadable["problem"].to_pylist()], pa.list_(pa.string()))
    rows = unreadable.drop_columns(READING).append_column("reasons", reasons).append_column("kinds", kinds)
    counted = Counter({**verdicts.reasons, **({UNREADABLE: count} if count else {})})
    result = {"expectation": "row_is_readable", "column": None, "kind": UNREADABLE, "success": not count, "rows": count}
    suite = verdicts.suite_result
    return replace(
        verdicts,
        refused=pa.concat_tables([verdicts.refused, rows]),
        reasons=dict(counted.most_common()),
        suite_result={
            "success": suite["success"] and not count,
            "expectations": suite["expectations"] + 1,
            "passed": suite["passed"] + (not count),
            "results": [result, *suite["results"]],
        },
    )


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


def _suite_result(checks: list[Check], findings: list[Finding]) -> dict[str, Any]:
    results = []
    for check, found in zip(checks, findings, strict=True):
        name = check.expectation.configuration
        column = name.kwargs.get("column")
        failing = None if found.rows is None else len(found.rows)
        results.append(
            {"expectation": name.type, "column": column, "kind": check.kind, "success": found.success, "rows": failing}
        )
    passed = sum(found.success for found in findings)
    return {"success": passed == len(findings), "expectations": len(findings), "passed": passed, "results": results}


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


def _share_refused(verdicts: Verdicts, recipe: Recipe) -> list[str]:
    count, total = len(verdicts.refused), len(verdicts.refused) + len(verdicts.accepted)
    if count <= recipe.contract.tolerance * total:
        return []
    allows = f"contract.tolerance allows {recipe.contract.tolerance:.1%}"
    return [f"the contract refused {count:,} of {total:,} rows ({count / total:.1%}); {allows}"]


def _labels(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """A batch that no model can learn from: no rows, one label only, or nearly so."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = verdicts.accepted[target(recipe)]
    counts = pc.value_counts(pc.list_flatten(column) if pa.types.is_list(column.type) else column).to_pylist()
    name, total = recipe.column(target(recipe)), sum(one["counts"] for one in counts)
    if not known_labels and not counts:
        return ["no row was accepted; a first batch needs rows of two labels"]
    if len({one["values"] for one in counts} | set(known_labels)) < 2:
        return [f"{name}: every accepted row has the label {counts[0]['values']!r}; a model needs two labels at least"]
    top, most = max(counts, key=lambda one: one["counts"], default=None), recipe.contract.label.max_share
    # in a smaller batch one row of another label could not meet the share either
    if top is None or most == 1 or total < 1 / (1 - most) or top["counts"] <= most * total:
        return []
    share = top["counts"] / total
    return [f"{name}: {share:.1%} of the labels are {top['values']!r}; contract.label.max_share allows {most:.1%}"]


def _message(problems: Sequence[str], verdicts: Verdicts, recipe: Recipe) -> str:
    lines = [f"the batch of {len(verdicts.refused) + len(verdicts.accepted):,} rows was stopped, nothing was taken in:"]
    lines += [f"  {problem}" for problem in problems]
    if verdicts.reasons:
        lines.append("refused rows by reason:")
        lines += [f"  {count:6,}  {kind}" for kind, count in list(verdicts.reasons.items())[:10]]
        lines.append("such as:")
        lines += [f"  {_shown(row, recipe)}" for row in _samples(verdicts)]
    lines.append(
        "`evertune quarantine RECIPE` lists every refused row; mend the source, or change the contract's "
        "settings that are named here, and run again: all rows are read and judged anew"
    )
    return "\n".join(lines)


def _samples(verdicts: Verdicts) -> list[dict[str, Any]]:
    """Rows to show, of the worst reasons first, each reason once if there are enough."""
    rows = verdicts.refused.slice(0, 10_000).to_pylist()
    first = {kind: row for row in reversed(rows) for kind in row["kinds"]}
    chosen = [first[kind] for kind in verdicts.reasons if kind in first]
    distinct = {row["row_version"]: row for row in [*chosen, *rows]}
    return list(distinct.values())[:SHOWN]


def _shown(row: dict[str, Any], recipe: Recipe) -> str:
    given = next(iter(module(recipe.objective.type).COLUMNS))
    value = repr(row[given])
    cut = value if len(value) <= CUT else f"{value[:CUT]}..."
    seen = "" if row[given] is None else f" | {cut}"
    return f"{row['source']}, row {row['source_row']}: {'; '.join(row['reasons'])}{seen}"
