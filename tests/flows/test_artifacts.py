"""What a run shows on Prefect's page."""

import pytest

from evertune.gate.hypothesis_tests import build_evidence
from tasks.artifacts import show_decision, show_report


def test_every_test_of_a_decision_names_its_metric_and_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("tasks.artifacts.create_markdown_artifact", lambda text, **_: shown.append(text))
    evidence = [
        build_evidence("minimum", "accuracy", 90, passed=True),
        build_evidence("superior", "f1_macro", 300, groups=60, p=0.2),
    ]
    show_decision("tickets", "held", "too little", 3, [*evidence, {"test": "parity", "passed": False}])
    lines = [line for line in shown[0].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(one["test"], one["metric"], one["rows"], one["groups"]) for one in found] == [
        ("minimum", "accuracy", "90", ""),
        ("superior", "f1_macro", "300", "60"),
        ("parity", "", "", ""),
    ]


@pytest.mark.parametrize("link", ["http://mlflow:5000/#/experiments/1/runs/r", "mlflow ui --backend-store-uri x.db"])
def test_the_run_leads_to_its_report_with_and_without_a_server(monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    shown: list[str] = []
    links: list[str] = []
    monkeypatch.setattr("tasks.artifacts.create_markdown_artifact", lambda text, **_: shown.append(text))
    monkeypatch.setattr("tasks.artifacts.create_link_artifact", lambda to, **_: links.append(to))
    show_report("tickets", "runs/a/report/report.html", link)
    assert all(said in shown[0] for said in ("`runs/a/report/report.html`", "`runs/a/report/README.md`", link))
    assert links == ([link] if link.startswith("http") else [])
