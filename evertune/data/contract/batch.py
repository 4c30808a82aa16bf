"""Every row of a batch under every expectation, part by part; what only the whole tells is looked at before."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
class RemoteWorkers:
    """Other machines, which judge parts of a batch.

    Args:
        spread: see `parallel.Spread`.
        finish: what they make of the rows that they accept; can be pickled.
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
    """Check rows one by one; nothing stops (see `judge`). Of the rows only the refused ones are held in memory.

    Args:
        rows: reads rows from `rows.keyed`; names: of all columns.
        take: is given the accepted rows, part by part.
    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow as pa

    batch_facts = collect_batch_facts(_skip_unreadable(rows), recipe, known_labels, known_inputs)
    checker = ChunkChecker(
        recipe, batch_facts.permitted, _list_frame_columns(_skip_unreadable(rows), names, recipe, batch_facts)
    )
    batch_findings = _check_whole_batch(checker, _skip_unreadable(rows), names, batch_facts)
    labels = Counter[str]()
    refused = list[Any]()
    chunk_findings = list[tuple[int, list[Finding]]]()
    accepted_count = number_count = 0
    for result in _check_all_chunks(checker, partial(_split_chunks, rows, names, batch_facts, batch_findings), workers):
        chunk_findings.append((result.part.start, result.findings))
        accepted_count += len(result.accepted)
        number_count += result.numbers
        refused.append(result.refused)
        labels.update(result.labels)
        on_accepted(result.accepted)
    totals = [
        batch_findings.get(index)
        or gx_runner.join_findings([(start, findings[index]) for start, findings in chunk_findings])
        for index in range(len(checker.checks))
    ]
    verdicts = _make_verdicts(
        result.accepted.slice(0, 0), pa.concat_tables(refused), accepted_count, labels, checker.checks, totals
    )
    verdicts = replace(
        verdicts, numbers=number_count, joining=batch_facts.permitted.joining, unknown=batch_facts.permitted.unknown
    )
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
    jobs = ({"judge": pickled_checker, "part": chunk, "finish": workers.finish} for chunk in make_chunks(SENT))
    yield from workers.spread(check_chunk_remotely, jobs)


def _split_chunks(
    rows: RowReader, names: Sequence[str], batch_facts: BatchFacts, batch_findings: dict[int, Finding], size: int
) -> Iterator[Chunk]:
    """The batch in parts of about this many rows."""
    start = 0
    for block in iterate_ahead(rebatch(rows(names), size)):
        for offset in range(0, max(1, len(block)), size):
            unreadable, table = split_unreadable(block.slice(offset, size))
            chunk_findings = {index: finding.slice_rows(start, len(table)) for index, finding in batch_findings.items()}
            yield Chunk(start, table, unreadable, batch_facts.slice_rows(start, len(table)), chunk_findings)
            start += len(table)


def _skip_unreadable(rows: RowReader) -> RowReader:
    def read_readable(names: Sequence[str]) -> "Iterator[pa.Table]":
        for chunk in rows(list(dict.fromkeys([*names, "problem"]))):
            yield split_unreadable(chunk)[1].select(list(names))

    return read_readable


def _list_frame_columns(rows: RowReader, names: Sequence[str], recipe: Recipe, batch_facts: BatchFacts) -> list[str]:
    """Of the frame that expectations look at."""
    column_names: list[str] = build_frame(
        next(rows(names)).slice(0, 0), recipe, batch_facts.slice_rows(0, 0)
    ).column_names
    return column_names


def _check_whole_batch(
    checker: ChunkChecker, rows: RowReader, names: Sequence[str], batch_facts: BatchFacts
) -> dict[int, Finding]:
    """What the expectations find that look at the whole batch, by their place."""
    import pyarrow as pa

    if not checker.batch_check_indices:
        return {}
    batch_frame = build_frame(pa.concat_tables(rows(names)), checker.recipe, batch_facts).to_pandas()
    findings = gx_runner.Runner(
        [checker.checks[index].expectation for index in checker.batch_check_indices]
    ).check_frame(batch_frame)
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
    failed = [pair for pair in zip(checks, findings, strict=True) if not pair[1].success]
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
    """One failed expectation of the recipe, in words."""
    arguments = check.expectation.configuration.kwargs
    argument_text = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key != "severity")
    outcome = (
        f"{len(finding.rows)} rows fail"
        if finding.rows is not None
        else f"the batch has {finding.observed!r}, which fails"
    )
    return f"contract.expectations: {outcome} {check.kind}({argument_text})"


def _build_suite_result(checks: list[Check], findings: list[Finding], unreadable: int) -> dict[str, Any]:
    first = {"expectation": "row_is_readable", "column": None, "kind": UNREADABLE}
    results: list[dict[str, Any]] = [{**first, "success": not unreadable, "rows": unreadable}]
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
