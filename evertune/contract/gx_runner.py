"""Runs expectations with Great Expectations, without a trace on the terminal."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Finding:
    """What one expectation found.

    Args:
        rows: positions of the rows that fail it; None where it looks at the batch as a whole.
        observed: what a batch expectation saw.
        problem: why it could not be checked at all.
    """

    success: bool
    rows: Any = None
    observed: Any = None
    problem: str | None = None


def run(frame: "pd.DataFrame", expectations: Sequence[Any]) -> list[Finding]:
    """Check a frame; one finding an expectation, in their order.

    Args:
        frame: rows numbered from 0.
    """
    with quiet():
        context = _ephemeral_context()
        suite = _suite(expectations)
        result = (
            _batch_definition(context)
            .get_batch({"dataframe": frame})
            .validate(suite, result_format={"result_format": "COMPLETE"})
        )
    found = {one.expectation_config.meta["place"]: _finding(one) for one in result.results}
    return [found[place] for place in range(len(expectations))]


def data_docs(frame: "pd.DataFrame", expectations: Sequence[Any], folder: Path) -> None:
    """Write the Data Docs of a check into `folder`; its first page is `index.html`."""
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        import great_expectations as gx

        context = gx.get_context(mode="file", project_root_dir=scratch)
        context.enable_analytics(False)
        context.variables.progress_bars = _no_progress_bars()
        for name in list(context.list_data_docs_sites()):
            context.delete_data_docs_site(name)
        context.add_data_docs_site("contract", _site(folder))
        data = _batch_definition(context)
        suite = context.suites.add(_suite(expectations))
        check = context.validation_definitions.add(gx.ValidationDefinition(name="contract", data=data, suite=suite))
        check.run(batch_parameters={"dataframe": frame}, result_format="SUMMARY")
        context.build_data_docs(site_names=["contract"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Great Expectations' warnings and logs go nowhere; errors are raised as ever."""
    log = logging.getLogger("great_expectations")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _ephemeral_context() -> Any:
    """A context in memory; the default one leaves a temporary folder behind."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        analytics_enabled=False,
        progress_bars=_no_progress_bars(),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _no_progress_bars() -> Any:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    return ProgressBarsConfig(globally=False)


def _batch_definition(context: Any) -> Any:
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("batch")


def _suite(expectations: Sequence[Any]) -> Any:
    """A suite of copies that know their place: results come back in another order."""
    import great_expectations as gx

    placed = [one.copy(update={"meta": {**(one.meta or {}), "place": at}}) for at, one in enumerate(expectations)]
    return gx.ExpectationSuite(name="contract", expectations=placed)  # `add_expectation` drops one that it has already


def _site(folder: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }


def _finding(result: Any) -> Finding:
    import numpy as np

    if problem := _exception(result.exception_info):
        return Finding(success=False, problem=problem)
    rows = result.result.get("unexpected_index_list")
    return Finding(
        success=bool(result.success),
        rows=None if rows is None else np.array(rows, dtype=np.int64),
        observed=result.result.get("observed_value"),
    )


def _exception(info: Any) -> str | None:
    """The message, where an expectation raised: the information stands alone or by metric."""
    parts = [info] if "raised_exception" in (info or {}) else list((info or {}).values())
    messages = [str(part["exception_message"]) for part in parts if part["raised_exception"]]
    return messages[0] if messages else None
