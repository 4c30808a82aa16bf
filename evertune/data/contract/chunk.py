"""A part of a batch under every expectation, in this process or on a machine elsewhere."""

import functools
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from evertune.config import Contract, Recipe
from evertune.data.contract.custom import custom_expectations
from evertune.data.contract.expectations import Check, built_in
from evertune.data.contract.frame import Allowed, Whole, frame, target
from evertune.data.contract.great_expectations import Finding, Runner, quiet
from evertune.errors import ConfigError
from evertune.objectives import module

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NUMBER = r"^\s*[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?\s*$"
UNREADABLE = "unreadable row"  # the only reason of such a row: no other check looks at it
AT_WORK = threading.Lock()  # a runner checks one frame at a time
READING = ["problem", "problem_digest"]  # columns that end here: neither corpus nor quarantine has them
ROW_BY_ROW = {  # what they say of a row hangs on no other row
    f"expect_column_{name}"
    for name in (
        "values_to_be_null", "values_to_not_be_null", "values_to_be_in_set", "values_to_not_be_in_set",
        "values_to_match_regex", "values_to_not_match_regex", "values_to_be_between", "value_lengths_to_be_between",
        "value_lengths_to_equal", "pair_values_to_be_equal",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Some rows of a batch, and what the whole of it tells of them.

    Args:
        start: number of the first row; unreadable rows are not counted.
        rows: those that could be read; unreadable: the others among them.
        known: for these rows.
        at_large: what the expectations found here that look at the whole batch, by their place.
    """

    start: int
    rows: "pa.Table"
    unreadable: "pa.Table"
    known: Whole
    at_large: dict[int, Finding] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """What is said of a part.

    Args:
        findings: of each expectation, in their order.
        labels: how often each stands on the accepted rows.
        numbers: accepted rows whose text is a bare number.
    """

    part: Part
    findings: list[Finding]
    accepted: "pa.Table"
    refused: "pa.Table"
    labels: dict[str, int]
    numbers: int


class Judge:
    """All expectations of a contract; it travels as what it is made from.

    Args:
        permitted: see `frame.Whole`.
        columns: of a batch's frame.
    """

    def __init__(self, recipe: Recipe, permitted: Allowed, columns: Sequence[str]) -> None:
        self._made_from, self.recipe = (recipe, permitted, tuple(columns)), recipe
        with quiet():
            self.checks = built_in(recipe, permitted, list(columns))
        self.checks += custom_expectations(recipe.contract, list(columns))
        self._own = [place for place, check in enumerate(self.checks) if _row_by_row(check)]
        self._runner = Runner([self.checks[place].expectation for place in self._own])

    def __reduce__(self) -> tuple[Any, ...]:
        return Judge, self._made_from

    @property
    def large(self) -> list[int]:
        """Places of the expectations that look at the whole batch at once."""
        return sorted(set(range(len(self.checks))) - set(self._own))

    def judged(self, part: Part) -> Judged:
        """Check the rows of a part one by one.

        Raises:
            ConfigError: an expectation of the recipe cannot be checked.
        """
        import numpy as np
        import pyarrow as pa

        rows = frame(part.rows, self.recipe, part.known).to_pandas()
        found = dict(zip(self._own, self._runner.run(rows), strict=True)) | part.at_large
        findings = [found[place] for place in range(len(self.checks))]
        _check_that_all_ran(self.checks, findings, self.recipe.contract)
        refusing = [(check, one) for check, one in zip(self.checks, findings, strict=True) if refuses(check, one)]
        bad = np.zeros(len(rows), dtype=bool)
        for _check, one in refusing:
            bad[one.rows] = True
        kept = part.rows.drop_columns(READING)
        accepted, refused = kept.filter(~bad), _with_reasons(kept.filter(bad), bad, rows, refusing)
        if len(part.unreadable):
            refused = pa.concat_tables([refused, _unreadable(part.unreadable)])
        return Judged(part, findings, accepted, refused, self._labels(accepted),
                      _bare_numbers(accepted[module(self.recipe.objective.type).INPUTS[0]]))  # fmt: skip

    def _labels(self, accepted: "pa.Table") -> dict[str, int]:
        if not module(self.recipe.objective.type).LABELED:
            return {}
        return _counted(accepted[target(self.recipe)])


def judged_elsewhere(judge: bytes, part: Part, finish: "Callable[[pa.Table], pa.Table]") -> Judged:
    """The same on another machine, which keeps the judge for its next part.

    Args:
        judge: pickled.
        finish: what is made of the accepted rows there.
    """
    with AT_WORK:
        said = _unpacked(judge).judged(part)
    sent = replace(part, rows=part.rows.slice(0, 0), at_large={})  # the one who asks has them
    return replace(said, part=sent, accepted=finish(said.accepted))


@functools.lru_cache(maxsize=1)
def _unpacked(judge: bytes) -> Judge:
    made: Judge = pickle.loads(judge)
    return made


def apart(rows: "pa.Table") -> "tuple[pa.Table, pa.Table]":
    """Rows that their reader could not read, and the others."""
    import pyarrow.compute as pc

    if rows["problem"].null_count == len(rows):
        return rows.slice(0, 0), rows
    return rows.filter(pc.is_valid(rows["problem"])), rows.filter(pc.is_null(rows["problem"]))


def refuses(check: Check, found: Finding) -> bool:
    """One on rows may fail without saying which: `expect_column_values_to_be_in_type_list` looks at a column's type."""
    return not found.success and not check.warn and check.say is not None and found.rows is not None


def _row_by_row(check: Check) -> bool:
    """Whether what it says of a row hangs on no other: no share of rows may fail it, and no condition chooses rows."""
    given = check.expectation.configuration
    return given.type in ROW_BY_ROW and given.kwargs.get("mostly", 1) == 1 and not given.kwargs.get("row_condition")


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


def _with_reasons(
    refused: "pa.Table", bad: Any, rows: "pd.DataFrame", refusing: Sequence[tuple[Check, Finding]]
) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    places = np.concatenate([np.empty(0, dtype=np.int64), *(found.rows for _, found in refusing)])
    order = np.argsort(places, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(bad))[bad])]).astype(np.int32)
    said = {
        "reasons": [text for check, found in refusing if check.say for text in check.say(rows.iloc[found.rows])],
        "kinds": [check.kind for check, found in refusing for _ in found.rows],
    }
    for name, values in said.items():
        lists = pa.ListArray.from_arrays(offsets, pa.array(values, pa.string()).take(order))
        refused = refused.append_column(name, lists)
    return refused


def _unreadable(rows: "pa.Table") -> "pa.Table":
    """Rows that their reader could not read are refused too, with what it said."""
    import pyarrow as pa

    kinds = pa.array([[UNREADABLE]] * len(rows), pa.list_(pa.string()))
    reasons = pa.array([[one] for one in rows["problem"].to_pylist()], pa.list_(pa.string()))
    return rows.drop_columns(READING).append_column("reasons", reasons).append_column("kinds", kinds)


def _bare_numbers(inputs: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(inputs.type):
        return 0
    return int(pc.sum(pc.match_substring_regex(inputs, NUMBER)).as_py() or 0)


def _counted(labels: Any) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = pc.value_counts(pc.list_flatten(labels) if pa.types.is_list(labels.type) else labels)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
