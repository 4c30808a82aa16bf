"""A part of a batch under every expectation, in this process or on a machine elsewhere."""

import functools
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from evertune.config import Contract, Recipe
from evertune.data.contract.custom import custom_expectations
from evertune.data.contract.expectations import Check, build_contract_checks
from evertune.data.contract.frame import AllowedLabels, BatchFacts, build_frame, get_target_role
from evertune.data.contract.great_expectations import Finding, Runner, silence_output
from evertune.errors import ConfigError
from evertune.objectives import load_objective

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
        "values_to_be_null",
        "values_to_not_be_null",
        "values_to_be_in_set",
        "values_to_not_be_in_set",
        "values_to_match_regex",
        "values_to_not_match_regex",
        "values_to_be_between",
        "value_lengths_to_be_between",
        "value_lengths_to_equal",
        "pair_values_to_be_equal",
    )
}


@dataclass(frozen=True)
class Chunk:
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
    known: BatchFacts
    at_large: dict[int, Finding] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkResult:
    """What is said of a part.

    Args:
        findings: of each expectation, in their order.
        labels: how often each stands on the accepted rows.
        numbers: accepted rows whose text is a bare number.
    """

    part: Chunk
    findings: list[Finding]
    accepted: "pa.Table"
    refused: "pa.Table"
    labels: dict[str, int]
    numbers: int


class ChunkChecker:
    """All expectations of a contract; it travels as what it is made from.

    Args:
        permitted: see `frame.Whole`.
        columns: of a batch's frame.
    """

    def __init__(self, recipe: Recipe, permitted: AllowedLabels, columns: Sequence[str]) -> None:
        self._made_from = (recipe, permitted, tuple(columns))
        self.recipe = recipe
        with silence_output():
            self.checks = build_contract_checks(recipe, permitted, list(columns))
        self.checks += custom_expectations(recipe.contract, list(columns))
        self._own = [index for index, check in enumerate(self.checks) if _is_row_by_row(check)]
        self._runner = Runner([self.checks[index].expectation for index in self._own])

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkChecker, self._made_from

    @property
    def batch_check_indices(self) -> list[int]:
        """Places of the expectations that look at the whole batch at once."""
        return sorted(set(range(len(self.checks))) - set(self._own))

    def check_chunk(self, chunk: Chunk) -> ChunkResult:
        """Check the rows of a part one by one.

        Raises:
            ConfigError: an expectation of the recipe cannot be checked.
        """
        import numpy as np
        import pyarrow as pa

        rows = build_frame(chunk.rows, self.recipe, chunk.known).to_pandas()
        findings_by_index = dict(zip(self._own, self._runner.check_frame(rows), strict=True)) | chunk.at_large
        findings = [findings_by_index[index] for index in range(len(self.checks))]
        _check_that_all_ran(self.checks, findings, self.recipe.contract)
        refusals = [
            (check, finding)
            for check, finding in zip(self.checks, findings, strict=True)
            if refuses_rows(check, finding)
        ]
        refused_mask = np.zeros(len(rows), dtype=bool)
        for _check, finding in refusals:
            refused_mask[finding.rows] = True
        row_table = chunk.rows.drop_columns(READING)
        accepted = row_table.filter(~refused_mask)
        refused = _attach_reasons(row_table.filter(refused_mask), refused_mask, rows, refusals)
        if len(chunk.unreadable):
            refused = pa.concat_tables([refused, _refuse_unreadable(chunk.unreadable)])
        return ChunkResult(
            chunk,
            findings,
            accepted,
            refused,
            self._count_labels(accepted),
            _count_bare_numbers(accepted[load_objective(self.recipe.objective.type).INPUTS[0]]),
        )

    def _count_labels(self, accepted: "pa.Table") -> dict[str, int]:
        if not load_objective(self.recipe.objective.type).LABELED:
            return {}
        return _count_values(accepted[get_target_role(self.recipe)])


def check_chunk_remotely(judge: bytes, part: Chunk, finish: "Callable[[pa.Table], pa.Table]") -> ChunkResult:
    """The same on another machine, which keeps the judge for its next part.

    Args:
        judge: pickled.
        finish: what is made of the accepted rows there.
    """
    with AT_WORK:
        result = _unpickle_checker(judge).check_chunk(part)
    bare_chunk = replace(part, rows=part.rows.slice(0, 0), at_large={})  # the one who asks has them
    return replace(result, part=bare_chunk, accepted=finish(result.accepted))


@functools.lru_cache(maxsize=1)
def _unpickle_checker(pickled_checker: bytes) -> ChunkChecker:
    checker: ChunkChecker = pickle.loads(pickled_checker)
    return checker


def split_unreadable(rows: "pa.Table") -> "tuple[pa.Table, pa.Table]":
    """Rows that their reader could not read, and the others."""
    import pyarrow.compute as pc

    if rows["problem"].null_count == len(rows):
        return rows.slice(0, 0), rows
    return rows.filter(pc.is_valid(rows["problem"])), rows.filter(pc.is_null(rows["problem"]))


def refuses_rows(check: Check, finding: Finding) -> bool:
    """One on rows may fail without saying which: `expect_column_values_to_be_in_type_list` looks at a column's type."""
    return not finding.success and not check.warn and check.say is not None and finding.rows is not None


def _is_row_by_row(check: Check) -> bool:
    """Whether what it says of a row hangs on no other: no share of rows may fail it, and no condition chooses rows."""
    configuration = check.expectation.configuration
    return (
        configuration.type in ROW_BY_ROW
        and configuration.kwargs.get("mostly", 1) == 1
        and not configuration.kwargs.get("row_condition")
    )


def _check_that_all_ran(checks: list[Check], findings: list[Finding], contract: Contract) -> None:
    built_in_count = len(checks) - len(contract.expectations)
    broken = [(index, finding.problem) for index, finding in enumerate(findings) if finding.problem]
    if broken:
        locations = [
            f"contract.expectations.{index - built_in_count}" if index >= built_in_count else "the contract"
            for index, _ in broken
        ]
        raise ConfigError(
            [
                f"{location}: {checks[index].kind} cannot be checked on this batch: {problem}; mend its arguments"
                for location, (index, problem) in zip(locations, broken, strict=True)
            ]
        )


def _attach_reasons(
    refused: "pa.Table", refused_mask: Any, rows: "pd.DataFrame", refusals: Sequence[tuple[Check, Finding]]
) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    row_indices = np.concatenate([np.empty(0, dtype=np.int64), *(finding.rows for _, finding in refusals)])
    order = np.argsort(row_indices, kind="stable")
    offsets = np.concatenate(
        [[0], np.cumsum(np.bincount(row_indices, minlength=len(refused_mask))[refused_mask])]
    ).astype(np.int32)
    details = {
        "reasons": [text for check, finding in refusals if check.say for text in check.say(rows.iloc[finding.rows])],
        "kinds": [check.kind for check, finding in refusals for _ in finding.rows],
    }
    for name, values in details.items():
        lists = pa.ListArray.from_arrays(offsets, pa.array(values, pa.string()).take(order))
        refused = refused.append_column(name, lists)
    return refused


def _refuse_unreadable(rows: "pa.Table") -> "pa.Table":
    """Rows that their reader could not read are refused too, with what it said."""
    import pyarrow as pa

    kinds = pa.array([[UNREADABLE]] * len(rows), pa.list_(pa.string()))
    reasons = pa.array([[problem] for problem in rows["problem"].to_pylist()], pa.list_(pa.string()))
    return rows.drop_columns(READING).append_column("reasons", reasons).append_column("kinds", kinds)


def _count_bare_numbers(inputs: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(inputs.type):
        return 0
    return int(pc.sum(pc.match_substring_regex(inputs, NUMBER)).as_py() or 0)


def _count_values(labels: Any) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = pc.value_counts(pc.list_flatten(labels) if pa.types.is_list(labels.type) else labels)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
