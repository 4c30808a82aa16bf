"""What a run shows on Prefect's page."""

import pytest

from evertune.gate.evidence import entry
from tasks.artifacts import show_decision


def test_every_test_of_a_decision_names_its_metric_and_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("tasks.artifacts.create_markdown_artifact", lambda text, **_: shown.append(text))
    evidence = [entry("minimum", "accuracy", 90, passed=True), entry("superior", "f1_macro", 300, groups=60, p=0.2)]
    show_decision("tickets", "held", "too little", 3, [*evidence, {"test": "parity", "passed": False}])
    lines = [line for line in shown[0].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(one["test"], one["metric"], one["rows"], one["groups"]) for one in found] == [
        ("minimum", "accuracy", "90", ""), ("superior", "f1_macro", "300", "60"), ("parity", "", "", ""),
    ]  # fmt: skip
