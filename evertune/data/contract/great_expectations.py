"""Run expectations with Great Expectations, without output on the terminal."""

import contextlib
import copy
import html
import logging
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from great_expectations.core import ExpectationSuite, ExpectationValidationResult
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.data_context import AbstractDataContext
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation import Expectation


COMPLETE = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")  # entries for every failing row
SHOWN = 20  # failing values in the Data Docs


@dataclass(frozen=True)
class Finding:
    """The result of one expectation.

    Args:
        success: whether it holds.
        rows: indices of the rows that fail it; None for an expectation on the batch as a whole.
        observed: value that an expectation on the batch observed.
        problem: why it could not be checked.
        result: of Great Expectations, without the failing rows.
    """

    success: bool
    rows: "np.ndarray | None" = None
    observed: object = None
    problem: str | None = None
    result: "ExpectationValidationResult | None" = None

    def slice_rows(self, start: int, size: int) -> "Finding":
        """Return the finding on `size` rows from `start` on, numbered from there, without `result`."""
        if self.rows is None:
            return replace(self, result=None)
        rows = self.rows[(self.rows >= start) & (self.rows < start + size)]
        return replace(self, rows=rows - start, result=None)


class Runner:
    """Checks frames against the same expectations, one frame after the other."""

    def __init__(self, expectations: "Sequence[Expectation]") -> None:
        with silence_output():
            self._batches = _make_batch_definition(_make_ephemeral_context())
            self._expectations = expectations

    def check_frame(self, frame: "pd.DataFrame") -> list[Finding]:
        """Return one finding per expectation, in their order.

        Args:
            frame: rows numbered from 0.
        """
        findings: dict[int, Finding] = {}
        with silence_output():
            for columns, indices in self._group_by_columns(list(frame.columns)).items():
                batch = self._batches.get_batch({"dataframe": frame[list(columns)]})
                suite = _build_suite(self._expectations, indices)
                result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
                findings |= {
                    outcome.expectation_config.meta["place"]: _make_finding(outcome) for outcome in result.results
                }
        return [findings[index] for index in range(len(self._expectations))]

    def _group_by_columns(self, columns: list[str]) -> dict[tuple[str, ...], list[int]]:
        """Group the expectations by the columns that they name, because each one copies all columns that it is given.

        An expectation that names none, or has a condition on rows, gets all columns.
        """
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, expectation in enumerate(self._expectations):
            arguments = expectation.configuration.kwargs
            argument_values = {str(value) for value in arguments.values()}
            used_columns: list[str] = []
            if not arguments.get("row_condition"):
                used_columns = [name for name in columns if name in argument_values]
            groups.setdefault(tuple(used_columns or columns), []).append(index)
        return groups


def join_findings(chunk_findings: Sequence[tuple[int, Finding]]) -> Finding:
    """Join the findings of an expectation that checks rows one by one, over all chunks of a batch.

    Args:
        chunk_findings: index of each chunk's first row, with the finding on the chunk.
    """
    import numpy as np

    findings = [finding for _, finding in chunk_findings]
    first = findings[0]
    if len(chunk_findings) == 1 and chunk_findings[0][0] == 0:
        return first
    rows = None
    if first.rows is not None:
        rows = np.concatenate([start + cast("np.ndarray", finding.rows) for start, finding in chunk_findings])
    success = all(finding.success for finding in findings)
    problem = next((finding.problem for finding in findings if finding.problem), None)
    results: list[ExpectationValidationResult] = [finding.result for finding in findings]
    result = results[0].__class__(**{**vars(results[0]), "success": success})
    result.result = _sum_results([chunk_result.result for chunk_result in results])
    return Finding(success, rows, first.observed, problem, result)


def _sum_results(results: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the sums of all counts, with the shares that follow from them."""
    counts = {name: sum(result[name] for result in results) for name in results[0] if name.endswith("_count")}
    rows, unexpected, missing = (counts.get(f"{name}_count", 0) for name in ("element", "unexpected", "missing"))
    shares = {
        "unexpected_percent": (unexpected, rows - missing),
        "unexpected_percent_nonmissing": (unexpected, rows - missing),
        "unexpected_percent_total": (unexpected, rows),
        "missing_percent": (missing, rows),
    }
    summary = {**results[0], **counts}
    summary |= {name: 100 * count / max(1, total) for name, (count, total) in shares.items() if name in summary}
    shown = [value for result in results for value in result.get("partial_unexpected_list", [])][:SHOWN]
    value_counts = Counter(map(str, shown)).most_common()
    return summary | {
        "partial_unexpected_list": shown,
        "partial_unexpected_counts": [{"value": value, "count": count} for value, count in value_counts],
    }


def write_data_docs(findings: Sequence[Finding], expectations: "Sequence[Expectation]", folder: Path) -> None:
    """Write the Data Docs of a check into `folder`; its first page is `index.html`."""
    with silence_output(), tempfile.TemporaryDirectory() as scratch:
        import great_expectations as gx

        context = gx.get_context(mode="file", project_root_dir=scratch)
        context.enable_analytics(False)
        context.variables.progress_bars = _no_progress_bars()
        for name in list(context.list_data_docs_sites()):
            context.delete_data_docs_site(name)
        context.add_data_docs_site("contract", _make_site_config(folder))
        context.suites.add(_build_suite([_escape_description(expectation) for expectation in expectations]))
        _store_results(context, [_escape_result(finding.result) for finding in findings])
        context.build_data_docs(site_names=["contract"])
    shutil.rmtree(folder / "static")  # fonts and videos that no page shows: 4 MB per batch, and again in MLflow


def _escape_description(expectation: "Expectation") -> "Expectation":
    return expectation.copy(update={"description": _escape(expectation.description)})


def _escape_result(result: "ExpectationValidationResult") -> "ExpectationValidationResult":
    """Return the result with escaped values of rows and recipe: the Data Docs would render them as HTML."""
    config = copy.copy(result.expectation_config)
    config.description = _escape(config.description)
    escaped = {"expectation_config": config, "exception_info": _escape(result.exception_info)}
    changed = result.__class__(**{**vars(result), **escaped})
    changed.result = _escape(result.result)
    return changed


def _escape(value: object) -> object:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    return [_escape(item) for item in value] if isinstance(value, (list, tuple)) else value


def _store_results(context: "AbstractDataContext", results: "list[ExpectationValidationResult]") -> None:
    """Store results as if the context had run the suite itself."""
    from great_expectations.core import ExpectationSuiteValidationResult, RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    run = RunIdentifier(run_time=datetime.now(UTC))
    suite = ExpectationSuiteIdentifier("contract")
    passed = sum(bool(result.success) for result in results)
    statistics = {
        "evaluated_expectations": len(results),
        "successful_expectations": passed,
        "unsuccessful_expectations": len(results) - passed,
        "success_percent": 100 * passed / max(1, len(results)),
    }
    meta = {"run_id": run, "validation_time": run.run_time, "batch_parameters": {"dataframe": "<DATAFRAME>"}}
    suite_result = ExpectationSuiteValidationResult(
        passed == len(results), results, "contract", statistics=statistics, meta=meta
    )
    context.validation_results_store.store_validation_results(
        suite_validation_result=suite_result,
        suite_validation_result_identifier=ValidationResultIdentifier(suite, run, "rows"),
        expectation_suite_identifier=suite,
    )


@contextlib.contextmanager
def silence_output() -> Iterator[None]:
    """Suppress the warnings and logs of Great Expectations; errors are still raised."""
    from great_expectations.execution_engine import pandas_execution_engine

    logger = logging.getLogger("great_expectations")
    level = logger.level
    hash_threshold = pandas_execution_engine.HASH_THRESHOLD
    logger.setLevel(logging.CRITICAL)
    pandas_execution_engine.HASH_THRESHOLD = 0  # skip the hash of the whole frame: it takes a quarter of the time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        pandas_execution_engine.HASH_THRESHOLD = hash_threshold


def _make_ephemeral_context() -> "AbstractDataContext":
    """Return a context in memory; the default one leaves a temporary folder behind."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        analytics_enabled=False,
        progress_bars=_no_progress_bars(),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _no_progress_bars() -> "ProgressBarsConfig":
    from great_expectations.data_context.types.base import ProgressBarsConfig

    return ProgressBarsConfig(globally=False)


def _make_batch_definition(context: "AbstractDataContext") -> "BatchDefinition":
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("batch")


def _build_suite(expectations: "Sequence[Expectation]", indices: Sequence[int] | None = None) -> "ExpectationSuite":
    """Return a suite of copies that know their index, because results come back in another order.

    Args:
        expectations: of the contract.
        indices: of those to include. Default: all.
    """
    import great_expectations as gx

    selected = range(len(expectations)) if indices is None else indices
    copies = []
    for index in selected:
        meta = {**(expectations[index].meta or {}), "place": index}
        copies.append(expectations[index].copy(update={"meta": meta}))
    return gx.ExpectationSuite(name="contract", expectations=copies)  # `add_expectation` would drop duplicates


def _make_site_config(folder: Path) -> dict[str, object]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }


def _make_finding(result: "ExpectationValidationResult") -> Finding:
    import numpy as np

    problem = _find_exception(result.exception_info)
    if problem:
        return Finding(success=False, problem=problem, result=result)
    rows = result.result.get("unexpected_index_list")
    for name in COMPLETE:
        result.result.pop(name, None)
    return Finding(
        success=bool(result.success),
        rows=None if rows is None else np.array(rows, dtype=np.int64),
        observed=result.result.get("observed_value"),
        result=result,
    )


def _find_exception(info: Any) -> str | None:
    """Return the message of an exception that an expectation raised; the information is flat or by metric."""
    parts = [info] if "raised_exception" in (info or {}) else list((info or {}).values())
    messages = [str(part["exception_message"]) for part in parts if part["raised_exception"]]
    return messages[0] if messages else None
