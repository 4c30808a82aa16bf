"""A model's whole history: gathered from ledger and MLflow, and told on a page that stays small."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evertune.records import Decision, Monitoring
from evertune.registry.decisions import promotion
from evertune.registry.decisions.history import build_history
from evertune.registry.tracking import queries
from evertune.report.pages import history
from evertune.runtime.context import RunContext
from tests.helpers.cli import Done
from tests.helpers.registry import HELD, PROMOTED, Shop, settle
from tests.helpers.report import Json, Read

SCORED = {
    "test": "minimum",
    "metric": "f1_macro",
    "rows": 40,
    "challenger": 0.91,
    "low": 0.88,
    "high": 0.94,
    "passed": True,
}


@pytest.mark.usefixtures("no_parity")
def test_the_chronicle_tells_decisions_moves_by_hand_and_trainings(shop: Shop) -> None:
    settle(shop, *shop.registered(), decision=Decision("promoted", "first", (SCORED,)))
    settle(shop, *shop.registered(), decision=PROMOTED)
    settle(shop, *shop.registered(), decision=HELD)
    promotion.roll_back_champion(shop.home, shop.name, "broken for Ann")
    told = build_history(RunContext(shop.recipe, shop.home))
    said = [(one["what"], one["version"]) for one in told["decisions"] if one["what"] != "moved"]
    assert said == [("promoted", 1), ("promoted", 2), ("held", 3), ("rollback", 1)]
    assert (told["champion"], told["aliases"]["challenger"]) == (1, 3)
    first = told["decisions"][0]
    assert (first["challenger"], first["low"], first["high"]) == (0.91, 0.88, 0.94)
    assert [one["run_id"] for one in told["trainings"]][:1] == [first["run_id"]]
    assert len(told["trainings"]) == 3 and told["monitors"] == told["backtests"] == []


def long_history(count: int) -> Json:
    day = "2026-{:02}-{:02}T03:00:00+00:00"
    times = [day.format(1 + place // 28 % 12, 1 + place % 28) for place in range(count)]
    decisions = [
        {
            "time": time,
            "event": "decision",
            "what": "held",
            "who": "night",
            "from": None,
            "version": place + 1,
            "reason": f"reason {place} " + "too few rows " * 60,
            "run_id": f"r{place}",
            "report": None,
            "challenger": 0.9,
            "low": 0.8,
            "high": 0.95,
            "rows": 50,
        }
        for place, time in enumerate(times)
    ]
    trainings = [
        {
            "run_id": f"r{place}",
            "time": time,
            "status": "FINISHED",
            "rows_corpus": 100.0 + place,
            "rows_accepted": 1.0,
            "rows_refused": 2.0,
            "training_seconds": 3.0,
        }
        for place, time in enumerate(times)
    ]
    monitors = [
        {
            "run_id": "m",
            "time": times[0],
            "status": "FINISHED",
            "found": "drift",
            "version": "1",
            "p": 0.001,
            "reason": "<b>length</b>",
            "source": "x",
        }
    ]
    return {
        "model": "m",
        "metric": "f1_macro",
        "champion": 1,
        "aliases": {"champion": 1},
        "decisions": decisions,
        "unchanged": 7,
        "trainings": trainings,
        "monitors": monitors,
        "backtests": [],
    }


def test_the_page_of_many_decisions_is_small_newest_first_older_ones_folded(tmp_path: Path) -> None:
    path = history.write_history_page(tmp_path / "report.html", long_history(1_500))
    read = Read(path)
    source = path.read_text()
    assert path.stat().st_size < 2_000_000
    assert read.headings == ["Over time", "Decisions", "Trainings", "Drift checks"]
    assert read.text.index("reason 1499 ") < read.text.index("reason 1450 ") < read.text.index("1,000 older")
    assert "reason 450 " in read.text and "reason 449 " not in read.text
    assert "The 450 oldest are not shown" in read.text
    assert "Below: rows of the corpus" in read.text
    assert "decisions 1,500 0 promoted" in " ".join(read.text.split()) and read.text.count("...") == 1_050
    unknown = [{**one, "rows_corpus": None} for one in long_history(3)["trainings"]]
    assert "Below" not in Read(history.write_history_page(path, {**long_history(3), "trainings": unknown})).text
    assert "<b>length</b>" not in source and "://" not in source and "<script" not in source


def test_a_look_and_a_backtest_without_an_answer_are_told_as_such(shop: Shop, tmp_path: Path) -> None:
    few = Monitoring("m", 1, False, "3 rows beside 9 test rows", None, 0.05, {"reference": 9, "current": 3}, "x")
    queries.record_monitoring(RunContext(shop.recipe, shop.home), few, tmp_path)
    [look] = build_history(RunContext(shop.recipe, shop.home))["monitors"]
    assert (look["found"], look["reason"]) == ("too few rows", few.reason)
    failed = {"run_id": "b", "time": look["time"], "status": "FAILED", "reason": None}
    read = Read(
        history.write_history_page(
            tmp_path / "report.html", {**long_history(1), "backtests": [failed], "monitors": [look]}
        )
    )
    assert "failed" in read.text.split() and "too few rows" in read.text


def test_a_page_before_the_first_decision_has_no_picture(tmp_path: Path) -> None:
    told = {**long_history(1), "decisions": [], "champion": None, "aliases": {}, "monitors": []}
    read = Read(history.write_history_page(tmp_path / "report.html", told))
    assert read.headings == ["Trainings"] and "no champion" in read.text


@pytest.mark.usefixtures("no_parity")
def test_report_writes_the_page_and_prints_the_same_facts(
    shop: Shop, tmp_path: Path, evertune: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    made, version = shop.registered()
    settle(shop, made, version, Decision("promoted", "first", (SCORED,)))
    own = Path(made.run_folder) / "report" / "report.html"
    own.parent.mkdir()
    own.write_text("own")
    output = tmp_path / "pages" / "history.html"
    done = evertune("report", tmp_path / "recipe.yaml", "--output", output, "--json")
    told = json.loads(done.out)
    assert (done.status, told["report"], told["champion"]) == (0, str(output), 1)
    links = [attributes.get("href") for tag, attributes in Read(output).tags if tag == "a"]
    linked = [str(link) for link in links if link and not link.startswith("#")]
    assert [(output.parent / link).resolve() for link in linked] == [own.resolve()]


def test_a_model_without_a_history_is_told_how_to_begin_one(
    shop: Shop, tmp_path: Path, evertune: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    done = evertune("report", tmp_path / "recipe.yaml")
    assert done.status == 5 and "has no history yet" in done.err
