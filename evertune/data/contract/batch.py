"""Check every row of a batch against every expectation, chunk by chunk, after collecting facts of the whole batch."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from evertune.config import Recipe
from evertune.data.columns.chunks import RowReader, rebatch
from evertune.data.contract import great_expectations as gx_runner
from evertune.data.contract.chunk import (
    UNREADABLE,
    Chunk,
    ChunkChecker,
    ChunkResult,
    check_chunk_remotely,
    refuses_rows,
    split_unreadable,
)
from evertune.data.contract.expectations import Check
from evertune.data.contract.frame import BatchFacts, KnownInputs, build_frame, collect_batch_facts
from evertune.data.contract.great_expectations import Finding
from evertune.runtime.files import write_json
from evertune.runtime.threads import Spread, iterate_ahead

if TYPE_CHECKING:
    import pyarrow as pa

PART = 200_000  # rows that are checked at once: each check has a fixed cost, whatever the number of rows
SENT = 25_000  # rows that are sent to another machine at once: some megabytes


class CheckOutcome(TypedDict):
    """An expectation of the contract with its result."""

    expectation: str
    column: str | None
    kind: str
    success: bool
    rows: int | None  # that fail it; None for an expectation on the batch as a whole


class SuiteResult(TypedDict):
    """All expectations of the contract with their results."""

    success: bool
    expectations: int
    passed: int
    results: list[CheckOutcome]


@dataclass(frozen=True)
class Verdicts:
    """The result of checking a batch against the contract.

    Args:
        accepted: rows for the corpus; empty if `on_accepted` took them chunk by chunk.
        refused: the other rows, with `reasons` (sentences) and `kinds` (their classes), lists of equal length.
        reasons: number of refused rows by class of reason; a row with two reasons counts under both.
        warnings: failed expectations that only warn.
        suite_result: every expectation with its result, small and JSON-ready.
        problems: why the batch as a whole fails the contract.
        rows: number of accepted rows.
        labels: number of accepted rows by label.
        numbers: number of accepted rows whose text is a bare number.
        joining: see `frame.AllowedLabels`.
        unknown: see `frame.AllowedLabels`.
    """

    accepted: "pa.Table"
    refused: "pa.Table"
    reasons: dict[str, int]
    warnings: tuple[str, ...]
    suite_result: SuiteResult
    problems: tuple[str, ...] = ()
    rows: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    numbers: int = 0
    joining: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RemoteWorkers:
    """Other machines that check chunks of a batch.

    Args:
        spread: runs the jobs, see `runtime.threads.Spread`.
        finish: is applied there to the accepted rows; can be pickled.
    """

    spread: Spread
    finish: "Callable[[pa.Table], pa.Table]"


def check_chunks(
    rows: RowReader,
    names: Sequence[str],
    recipe: Recipe,
    known_labels: tuple[str, ...],
    known_inputs: KnownInputs,
    on_accepted: "Callable[[pa.Table], None]",
    docs_folder: Path | None = None,
    workers: RemoteWorkers | None = None,
) -> Verdicts:
    """Check a batch row by row, without stopping it as a whole; only refused rows are held in memory.

    Args:
        rows: reads rows from `row_versions.add_keys`.
        names: all their columns.
        recipe: has the contract.
        known_labels: the corpus' labels in their order; empty before the first batch.
        known_inputs: see `corpus.read.known_inputs`.
        on_accepted: is called with the accepted rows, chunk by chunk.
        docs_folder: where Data Docs and `result.json` go. Default: none are written.
        workers: check the chunks elsewhere. Default: in this process.
    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow as pa

    readable_rows = _skip_unreadable(rows)
    batch_facts = collect_batch_facts(readable_rows, recipe, known_labels, known_inputs)
    frame_columns = _list_frame_columns(readable_rows, names, recipe, batch_facts)
    checker = ChunkChecker(recipe, batch_facts.permitted, frame_columns)
    batch_findings = _check_whole_batch(checker, readable_rows, names, batch_facts)

    labels = Counter[str]()
    refused = list[pa.Table]()
    chunk_findings = list[tuple[int, list[Finding]]]()
    accepted_count = 0
    number_count = 0
    make_chunks = partial(_split_chunks, rows, names, batch_facts, batch_findings)
    for result in _check_all_chunks(checker, make_chunks, workers):
        chunk_findings.append((result.chunk.start, result.findings))
        accepted_count += len(result.accepted)
        number_count += result.numbers
        refused.append(result.refused)
        labels.update(result.labels)
        on_accepted(result.accepted)

    totals = []
    for index in range(len(checker.checks)):
        if index in batch_findings:
            totals.append(batch_findings[index])
        else:
            own_findings = [(start, findings[index]) for start, findings in chunk_findings]
            totals.append(gx_runner.join_findings(own_findings))
    no_rows = result.accepted.slice(0, 0)
    verdicts = _make_verdicts(no_rows, pa.concat_tables(refused), accepted_count, labels, checker.checks, totals)
    permitted = batch_facts.permitted
    verdicts = replace(verdicts, numbers=number_count, joining=permitted.joining, unknown=permitted.unknown)
    if docs_folder is not None:
        gx_runner.write_data_docs(totals, [check.expectation for check in checker.checks], docs_folder)
        write_json(docs_folder / "result.json", verdicts.suite_result)
    return verdicts


def _check_all_chunks(
    checker: ChunkChecker, make_chunks: Callable[[int], Iterator[Chunk]], workers: RemoteWorkers | None
) -> Iterator[ChunkResult]:
    if workers is None:
        yield from (checker.check_chunk(chunk) for chunk in make_chunks(PART))
        return
    pickled_checker = pickle.dumps(checker)
    jobs = (
        {"pickled_checker": pickled_checker, "chunk": chunk, "finish": workers.finish} for chunk in make_chunks(SENT)
    )
    yield from workers.spread(check_chunk_remotely, jobs)


def _split_chunks(
    rows: RowReader, names: Sequence[str], batch_facts: BatchFacts, batch_findings: dict[int, Finding], size: int
) -> Iterator[Chunk]:
    """Yield the batch in chunks of at most `size` rows."""
    start = 0
    for block in iterate_ahead(rebatch(rows(names), size)):
        for offset in range(0, max(1, len(block)), size):
            unreadable, table = split_unreadable(block.slice(offset, size))
            chunk_findings = {index: finding.slice_rows(start, len(table)) for index, finding in batch_findings.items()}
            yield Chunk(start, table, unreadable, batch_facts.slice_rows(start, len(table)), chunk_findings)
            start += len(table)


def _skip_unreadable(rows: RowReader) -> RowReader:
    """Return a reader of the rows that could be read."""

    def read_readable(names: Sequence[str]) -> "Iterator[pa.Table]":
        for chunk in rows(list(dict.fromkeys([*names, "problem"]))):
            yield split_unreadable(chunk)[1].select(list(names))

    return read_readable


def _list_frame_columns(rows: RowReader, names: Sequence[str], recipe: Recipe, batch_facts: BatchFacts) -> list[str]:
    """Return the columns of the frame that expectations check."""
    column_names: list[str] = build_frame(
        next(rows(names)).slice(0, 0), recipe, batch_facts.slice_rows(0, 0)
    ).column_names
    return column_names


def _check_whole_batch(
    checker: ChunkChecker, rows: RowReader, names: Sequence[str], batch_facts: BatchFacts
) -> dict[int, Finding]:
    """Return the findings of the expectations that need the whole batch, by their index."""
    import pyarrow as pa

    if not checker.batch_check_indices:
        return {}
    batch_frame = build_frame(pa.concat_tables(rows(names)), checker.recipe, batch_facts).to_pandas()
    expectations = [checker.checks[index].expectation for index in checker.batch_check_indices]
    findings = gx_runner.Runner(expectations).check_frame(batch_frame)
    return dict(zip(checker.batch_check_indices, findings, strict=True))


def _make_verdicts(
    no_rows: "pa.Table",
    refused: "pa.Table",
    accepted_count: int,
    labels: Counter[str],
    checks: list[Check],
    findings: list[Finding],
) -> Verdicts:
    kind_counts = Counter(kind for row_kinds in refused["kinds"].to_pylist() for kind in dict.fromkeys(row_kinds))
    failed = [(check, finding) for check, finding in zip(checks, findings, strict=True) if not finding.success]
    batch_failures = [
        (check, finding) for check, finding in failed if not check.warn and not refuses_rows(check, finding)
    ]
    return Verdicts(
        accepted=no_rows,
        refused=refused,
        reasons=dict(kind_counts.most_common()),
        warnings=tuple(_describe_failure(check, finding) for check, finding in failed if check.warn),
        suite_result=_build_suite_result(checks, findings, kind_counts[UNREADABLE]),
        problems=tuple(_describe_failure(check, finding) for check, finding in batch_failures),
        rows=accepted_count,
        labels=dict(labels),
    )


def _describe_failure(check: Check, finding: Finding) -> str:
    """Describe a failed expectation of the recipe."""
    arguments = check.expectation.configuration.kwargs
    argument_text = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key != "severity")
    expectation = f"contract.expectations: {check.kind}({argument_text})"
    if finding.rows is None:
        return f"{expectation} failed: the batch has {finding.observed!r}"
    return f"{expectation} failed on {len(finding.rows):,} row{'s' * (len(finding.rows) != 1)}"


def _build_suite_result(checks: list[Check], findings: list[Finding], unreadable: int) -> SuiteResult:
    """Return every check with its outcome, JSON-ready; the first is whether each row could be read."""
    results: list[CheckOutcome] = [
        {
            "expectation": "row_is_readable",
            "column": None,
            "kind": UNREADABLE,
            "success": not unreadable,
            "rows": unreadable,
        }
    ]
    for check, finding in zip(checks, findings, strict=True):
        configuration = check.expectation.configuration
        column = configuration.kwargs.get("column")
        failing_count = None if finding.rows is None else len(finding.rows)
        results.append(
            {
                "expectation": configuration.type,
                "column": column,
                "kind": check.kind,
                "success": finding.success,
                "rows": failing_count,
            }
        )
    passed = sum(result["success"] for result in results)
    return {"success": passed == len(results), "expectations": len(results), "passed": passed, "results": results}
