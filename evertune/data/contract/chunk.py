"""Check a chunk of a batch against every expectation, in this process or on another machine."""

import functools
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from evertune.config import Contract, Recipe
from evertune.data.contract.custom import custom_expectations
from evertune.data.contract.expectations import Check, build_contract_checks
from evertune.data.contract.frame import AllowedLabels, BatchFacts, build_frame, get_target_role
from evertune.data.contract.great_expectations import Finding, Runner, silence_output
from evertune.errors import ConfigError
from evertune.objectives import load_objective

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

NUMBER = r"^\s*[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?\s*$"
UNREADABLE = "unreadable row"  # the only reason of such a row: no other check sees it
RUNNER_LOCK = threading.Lock()  # a runner checks one frame at a time
READING = ["problem", "problem_digest"]  # columns that neither the corpus nor the quarantine has
ROW_BY_ROW = {  # expectations whose result for a row does not depend on other rows
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
    """Some rows of a batch, with what is known of them from the whole batch.

    Args:
        start: index of the first row, not counting unreadable rows.
        rows: those that could be read.
        unreadable: the others.
        facts: of these rows.
        batch_findings: findings on these rows of the expectations that need the whole batch, by their index.
    """

    start: int
    rows: "pa.Table"
    unreadable: "pa.Table"
    facts: BatchFacts
    batch_findings: dict[int, Finding] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkResult:
    """The result of checking a chunk.

    Args:
        chunk: what was checked.
        findings: one per expectation, in their order.
        accepted: rows that no expectation refuses.
        refused: the other rows, with `reasons` and `kinds`.
        labels: number of accepted rows by label.
        numbers: number of accepted rows whose text is a bare number.
    """

    chunk: Chunk
    findings: list[Finding]
    accepted: "pa.Table"
    refused: "pa.Table"
    labels: dict[str, int]
    numbers: int


class ChunkChecker:
    """All expectations of a contract; it is pickled as the arguments that it is made from.

    Args:
        recipe: has the contract.
        permitted: see `frame.BatchFacts`.
        columns: of a batch's frame, see `frame.build_frame`.
    """

    def __init__(self, recipe: Recipe, permitted: AllowedLabels, columns: Sequence[str]) -> None:
        self._arguments = (recipe, permitted, tuple(columns))
        self.recipe = recipe
        with silence_output():
            self.checks = build_contract_checks(recipe, permitted, list(columns))
        self.checks += custom_expectations(recipe.contract, list(columns))
        self._row_check_indices = [index for index, check in enumerate(self.checks) if _is_row_by_row(check)]
        self._runner = Runner([self.checks[index].expectation for index in self._row_check_indices])

    def __reduce__(self) -> "tuple[type[ChunkChecker], tuple[Recipe, AllowedLabels, tuple[str, ...]]]":
        return ChunkChecker, self._arguments

    @property
    def batch_check_indices(self) -> list[int]:
        """Indices of the expectations that need the whole batch."""
        return sorted(set(range(len(self.checks))) - set(self._row_check_indices))

    def check_chunk(self, chunk: Chunk) -> ChunkResult:
        """Check the rows of a chunk one by one.

        Raises:
            ConfigError: an expectation of the recipe cannot be checked.
        """
        import numpy as np
        import pyarrow as pa

        rows = build_frame(chunk.rows, self.recipe, chunk.facts).to_pandas()
        findings_by_index = dict(zip(self._row_check_indices, self._runner.check_frame(rows), strict=True))
        findings_by_index |= chunk.batch_findings
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
        input_role = load_objective(self.recipe.objective.type).INPUTS[0]
        return ChunkResult(
            chunk, findings, accepted, refused, self._count_labels(accepted), _count_bare_numbers(accepted[input_role])
        )

    def _count_labels(self, accepted: "pa.Table") -> dict[str, int]:
        if not load_objective(self.recipe.objective.type).LABELED:
            return {}
        return _count_values(accepted[get_target_role(self.recipe)])


def check_chunk_remotely(pickled_checker: bytes, chunk: Chunk, finish: "Callable[[pa.Table], pa.Table]") -> ChunkResult:
    """Check a chunk on another machine, which keeps the checker for its next chunk.

    Args:
        pickled_checker: a `ChunkChecker`.
        chunk: what to check.
        finish: is applied to the accepted rows.
    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    with RUNNER_LOCK:
        result = _unpickle_checker(pickled_checker).check_chunk(chunk)
    bare_chunk = replace(chunk, rows=chunk.rows.slice(0, 0), batch_findings={})  # the sender has them
    return replace(result, chunk=bare_chunk, accepted=finish(result.accepted))


@functools.lru_cache(maxsize=1)
def _unpickle_checker(pickled_checker: bytes) -> ChunkChecker:
    checker: ChunkChecker = pickle.loads(pickled_checker)
    return checker


def split_unreadable(rows: "pa.Table") -> "tuple[pa.Table, pa.Table]":
    """Return the rows that their reader could not read, and the others."""
    import pyarrow.compute as pc

    if rows["problem"].null_count == len(rows):
        return rows.slice(0, 0), rows
    return rows.filter(pc.is_valid(rows["problem"])), rows.filter(pc.is_null(rows["problem"]))


def refuses_rows(check: Check, finding: Finding) -> bool:
    """Return whether a check refuses rows.

    A failed one may not name any: `expect_column_values_to_be_in_type_list` checks the type of a column.
    """
    return not finding.success and not check.warn and check.explain is not None and finding.rows is not None


def _is_row_by_row(check: Check) -> bool:
    """Return whether the result for a row depends on no other row, as with a `mostly` share or a `row_condition`."""
    configuration = check.expectation.configuration
    return (
        configuration.type in ROW_BY_ROW
        and configuration.kwargs.get("mostly", 1) == 1
        and not configuration.kwargs.get("row_condition")
    )


def _check_that_all_ran(checks: list[Check], findings: list[Finding], contract: Contract) -> None:
    built_in_count = len(checks) - len(contract.expectations)
    problems = []
    for index, finding in enumerate(findings):
        if finding.problem:
            own_index = index - built_in_count
            location = f"contract.expectations.{own_index}" if own_index >= 0 else "the contract"
            problems.append(
                f"{location}: {checks[index].kind} cannot be checked on this batch: {finding.problem}; "
                "correct its arguments"
            )
    if problems:
        raise ConfigError(problems)


def _attach_reasons(
    refused: "pa.Table", refused_mask: "np.ndarray", rows: "pd.DataFrame", refusals: Sequence[tuple[Check, Finding]]
) -> "pa.Table":
    """Return the refused rows with their `reasons` and `kinds`.

    Args:
        refused_mask: of all rows of the chunk.
        rows: the chunk's frame.
        refusals: the checks that refuse rows, with their findings.
    """
    import numpy as np
    import pyarrow as pa

    row_indices = np.concatenate([np.empty(0, dtype=np.int64), *(finding.rows for _, finding in refusals)])
    order = np.argsort(row_indices, kind="stable")
    reason_counts = np.bincount(row_indices, minlength=len(refused_mask))[refused_mask]
    offsets = np.concatenate([[0], np.cumsum(reason_counts)]).astype(np.int32)
    reasons: list[str] = []
    kinds: list[str] = []
    for check, finding in refusals:
        refused_rows = cast("np.ndarray", finding.rows)  # a check that refuses rows names them
        if check.explain is not None:
            reasons += check.explain(rows.iloc[refused_rows])
        kinds += [check.kind] * len(refused_rows)
    for name, values in (("reasons", reasons), ("kinds", kinds)):
        lists = pa.ListArray.from_arrays(offsets, pa.array(values, pa.string()).take(order))
        refused = refused.append_column(name, lists)
    return refused


def _refuse_unreadable(rows: "pa.Table") -> "pa.Table":
    """Return unreadable rows as refused ones, with their reader's message as the reason."""
    import pyarrow as pa

    kinds = pa.array([[UNREADABLE]] * len(rows), pa.list_(pa.string()))
    reasons = pa.array([[problem] for problem in rows["problem"].to_pylist()], pa.list_(pa.string()))
    return rows.drop_columns(READING).append_column("reasons", reasons).append_column("kinds", kinds)


def _count_bare_numbers(inputs: "pa.ChunkedArray") -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(inputs.type):
        return 0
    return int(pc.sum(pc.match_substring_regex(inputs, NUMBER)).as_py() or 0)


def _count_values(labels: "pa.ChunkedArray") -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = pc.value_counts(pc.list_flatten(labels) if pa.types.is_list(labels.type) else labels)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
