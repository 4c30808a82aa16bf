"""What `evertune run` shows at its end."""

from dataclasses import replace
from pathlib import Path

import pytest

from evertune.cli.run import show_summary
from evertune.cli.terminal import make_console
from evertune.records import Outcome

OUTCOME = Outcome(
    decision="promoted",
    reason="better",
    model="tickets",
    version=2,
    champion_version=2,
    run_id="r",
    snapshot={"version": 3, "rows": {"train": 80, "validation": 9, "test": 100, "excluded": 11}, "fingerprint": "f"},
    rows={"new": 202, "accepted": 200, "refused": 2, "reasons": {"missing text": 2}},
    metrics={"test": {"f1_macro": 1.0}, "test_clean": {"f1_macro": 0.875}},
    seconds={},
    report=f"/home/somebody/{'a long way/' * 9}report.html",
    training={"epochs": 1.0, "steps": 5, "seconds": 2.0, "loss": 0.1},
    leaked=26,
)


def told(outcome: Outcome, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    show_summary(make_console(), outcome, "configs/tickets.yaml")
    return [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]


def test_what_was_left_out_and_what_leaks_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = told(OUTCOME, capsys, monkeypatch)
    assert "excluded 11 of 200 rows, linked to both train and test rows" in lines
    assert "test f1_macro 1.0000" in lines
    text = " ".join(lines)
    assert "26 test rows are copies or near-duplicates of train rows; without them: f1_macro 0.8750" in text
    assert "evertune quarantine configs/tickets.yaml" in lines


def test_nothing_left_out_needs_no_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {**OUTCOME.snapshot, "rows": {"train": 80, "validation": 9, "test": 100, "excluded": 0}}
    text = " ".join(told(replace(OUTCOME, snapshot=kept, leaked=0), capsys, monkeypatch))
    assert "excluded" not in text and "near-duplicates" not in text


def test_paths_can_be_copied(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"report {OUTCOME.report}" in told(OUTCOME, capsys, monkeypatch)


def test_the_model_card_is_named_where_there_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.html"
    card = tmp_path / "README.md"
    assert str(card) not in told(replace(OUTCOME, report=str(report)), capsys, monkeypatch)
    card.touch()
    assert str(card) in told(replace(OUTCOME, report=str(report)), capsys, monkeypatch)
