"""What all pages promise: one file, nothing fetched or run, and no text that becomes markup."""

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evertune.report.pages.backtest import write_backtest_page
from evertune.report.pages.drift import _histogram_bounds, write_drift_page
from evertune.report.pages.history import write_history_page
from evertune.report.pages.search import write_search_page
from evertune.report.templating import load_environment
from evertune.statistics.two_sample import Sample
from tests.helpers.paths import ROOT
from tests.helpers.report import BACKTEST, DRIFT, SEARCH, Json, Read, write_report

HOSTILE = "</style></td><script>alert('1 & 2')</script>\" onload='"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NAMED = {  # keys whose values the code compares with; what a person or the data may have written is replaced
    "state",
    "day",
    "time",
    "event",
    "test",
    "policy",
    "recommended",
    "metric",
    "every",
    "status",
}
MOVE = {
    "time": "2026-01-06T03:00:00+00:00",
    "event": "moved",
    "what": "rollback",
    "who": "ann",
    "from": 2,
    "version": 1,
    "reason": "broken for Ann",
    "report": "/home/runs/r1/report/report.html",
    "challenger": None,
    "low": None,
    "high": None,
}
HISTORY = {
    "model": "support",
    "metric": "f1_macro",
    "champion": 1,
    "aliases": {"champion": 1},
    "decisions": [{**MOVE, "event": "decision", "what": "promoted", "challenger": 0.9, "low": 0.88}, MOVE],
    "unchanged": 7,
    "trainings": [],
    "monitors": [{"time": MOVE["time"], "found": "drift", "version": "1", "p": 0.001, "reason": "length"}],
    "backtests": [{"time": MOVE["time"], "status": "FINISHED", "reason": "never"}],
}


def write_history(folder: Path, history: Json) -> Path:
    return write_history_page(folder / "history.html", history)


def write_drift(folder: Path, result: Json) -> Path:
    labels = np.array(["refund", "delivery"] * 20)
    sample = Sample(lengths=np.arange(40), predicted=labels, scores=np.linspace(0.5, 1, 40))
    return write_drift_page(folder, result, sample, sample)


PAGES: dict[str, tuple[Callable[[Path, Json], Path], Json]] = {
    "search": (partial(write_search_page, model="support"), SEARCH),
    "backtest": (partial(write_backtest_page, model="support"), BACKTEST),
    "drift": (write_drift, DRIFT),
    "history": (write_history, HISTORY),
}


def replace_texts(value: Any, replacement: str) -> Any:
    if isinstance(value, dict):
        return {key: item if key in NAMED else replace_texts(item, replacement) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_texts(item, replacement) for item in value]
    return replacement if isinstance(value, str) else value


def read_policy(read: Read) -> str | None:
    return next(attributes["content"] for _, attributes in read.tags if "http-equiv" in attributes)


@pytest.mark.parametrize("name", PAGES)
def test_no_text_changes_the_structure_of_a_page(tmp_path: Path, name: str) -> None:
    write, data = PAGES[name]
    harmless = Read(write(tmp_path, replace_texts(data, "a")))
    hostile = Read(write(tmp_path, replace_texts(data, HOSTILE)))
    assert hostile.structure() == harmless.structure()
    assert any(HOSTILE in text for text in hostile.texts)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_and_runs_nothing(tmp_path: Path, name: str) -> None:
    write, data = PAGES[name]
    path = write(tmp_path, data)
    read = Read(path)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert read_policy(read) == POLICY
    assert all(str(attributes["src"]).startswith("data:") for tag, attributes in read.tags if tag == "img")
    assert "url(" not in path.read_text() and "@import" not in path.read_text()
    assert ("style", {}) in read.tags


def test_the_report_of_a_run_has_the_same_policy(tmp_path: Path) -> None:
    assert read_policy(Read(write_report(tmp_path))) == POLICY


def test_a_drift_page_names_the_tests_and_draws_both_sides(tmp_path: Path) -> None:
    read = Read(write_drift(tmp_path, DRIFT))
    assert read.headings == ["Tests", "Distributions"] and "Drift" in read.texts
    few = {**DRIFT, "drifted": False, "p": None, "findings": []}
    read = Read(write_drift_page(tmp_path, few, None, None))
    assert read.headings == [] and "Too few rows" in read.texts


@pytest.mark.parametrize("longest", [1, 12, 24, 25, 60, 512])
def test_bins_of_token_counts_hold_equally_many_counts(longest: int) -> None:
    bounds = _histogram_bounds(np.array([1, longest]))
    counts, _ = np.histogram(np.arange(1, longest + 1), bounds)
    assert len(counts) <= 24 and counts.sum() == longest
    assert set(counts[:-1]) <= {counts[0]}


def test_every_template_compiles_escapes_and_is_part_of_the_package() -> None:
    environment = load_environment()
    names = environment.list_templates()
    assert environment.autoescape is True
    assert {"base.html.j2", "run.html.j2", "macros.html.j2", "style.css"} <= set(names)
    for name in names:
        if name.endswith(".html.j2"):
            environment.get_template(name)
        source = files("evertune.report").joinpath(f"templates/{name}").read_text("utf-8")
        assert "| safe" not in source and "|safe" not in source and "autoescape" not in source, name
    assert '"report/templates/*"' in (ROOT / "pyproject.toml").read_text()
