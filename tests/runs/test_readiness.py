"""The 28 tests of the ML Test Score: what makes each automated one fail, and what the home knows."""

import math
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evertune.data.corpus import tombstones
from evertune.data.text_matching import fold_text
from evertune.registry.tracking import runs
from evertune.report.sections.readiness import build_readiness
from evertune.runs import readiness_facts
from evertune.runs.outcome import build_outcome
from evertune.runs.readiness import RUBRIC, STEPS, Check, Facts, judge_readiness, to_rows
from evertune.runtime.context import RunContext
from evertune.runtime.files import write_json
from tests.helpers.data import good, make_home, make_recipe, run, write_csv
from tests.helpers.registry import PROMOTED, Shop, evaluation, make_champion

READY = Facts(
    expectations=12,
    inputs={"text": "message"},
    identifiers={"id": "ticket_id"},
    forgotten=0,
    recipe_state="committed",
    searches=1,
    backtests=1,
    metric="accuracy",
    score=0.9,
    baseline=0.8,
    evidence=(
        {"test": "expected", "passed": True},
        {"test": "harm", "on": "all", "passed": True},
        {"test": "slice", "on": "label=refund", "passed": True},
        {"test": "parity", "passed": True},
    ),
    slices=3,
    verdict="promoted",
    reproduced="identical",
    losses=(2.0, 1.0),
    steps=STEPS,
    has_champion=True,
    previous_is_whole=True,
    notified=True,
    refused=0.01,
    tolerance=0.05,
    is_scheduled=True,
    champion_days=7.0,
    latency=1.0,
)
FAILURES: dict[tuple[str, int], dict[str, Any]] = {
    ("Data", 1): {"expectations": None},
    ("Data", 4): {"identifiers": {"group": "message"}},
    ("Data", 5): {"forgotten": 2},
    ("Model", 1): {"recipe_state": "changed"},
    ("Model", 3): {"searches": 0},
    ("Model", 4): {"backtests": 0},
    ("Model", 5): {"baseline": 0.9},
    ("Model", 6): {"evidence": ({"test": "slice", "on": "label=refund", "passed": False},)},
    ("Infrastructure", 1): {"reproduced": "different"},
    ("Infrastructure", 2): {"losses": (1.0, 1.5)},
    ("Infrastructure", 3): {"steps": STEPS[:-1]},
    ("Infrastructure", 4): {"by_hand": True},
    ("Infrastructure", 7): {"previous_is_whole": False},
    ("Monitoring", 1): {"libraries": ("torch 2.12.0 -> 2.13.0",), "notified": False},
    ("Monitoring", 2): {"refused": 0.06},
    ("Monitoring", 3): {"evidence": ({"test": "parity", "passed": False},)},
    ("Monitoring", 4): {"champion_days": 91.0},
    ("Monitoring", 5): {"losses": (1.0, math.nan)},
    ("Monitoring", 6): {"latency": 1.21},
    ("Monitoring", 7): {"evidence": ({"test": "harm", "on": "history", "passed": False},)},
}


def find_check(facts: Facts, section: str, number: int) -> Check:
    return next(check for check in judge_readiness(facts) if (check.section, check.number) == (section, number))


def test_there_are_28_tests_and_20_are_automated() -> None:
    checks = judge_readiness(READY)
    assert [len(RUBRIC[section]) for section in RUBRIC] == [7, 7, 7, 7]
    assert Counter(check.result for check in checks) == {"passed": 20, "not automated": 8}
    automated = {(check.section, check.number) for check in checks if check.result != "not automated"}
    assert automated == set(FAILURES)
    assert all(check.reason.endswith(".") for check in checks)


@pytest.mark.parametrize(("section", "number"), FAILURES, ids=lambda value: str(value))
def test_each_automated_test_can_fail(section: str, number: int) -> None:
    check = find_check(replace(READY, **FAILURES[section, number]), section, number)
    assert check.result == "failed", check
    assert check.reason != find_check(READY, section, number).reason or number in (1, 2)


def test_without_a_champion_nothing_is_compared() -> None:
    first = replace(READY, has_champion=False, latency=None, champion_days=None, previous_is_whole=None, evidence=())
    results = {(check.section, check.number): check.result for check in judge_readiness(first)}
    for key in (("Model", 6), ("Infrastructure", 7), ("Monitoring", 4), ("Monitoring", 6), ("Monitoring", 7)):
        assert results[key] == "not applicable"
    assert results["Infrastructure", 4] == "failed"


def test_a_falling_metric_is_better_when_lower() -> None:
    falling = replace(READY, metric="mse", falls=True, score=0.2, baseline=0.3)
    assert find_check(falling, "Model", 5).result == "passed"
    assert find_check(replace(falling, score=0.4), "Model", 5).result == "failed"


def test_the_page_shows_every_section_and_counts_the_results() -> None:
    section = build_readiness(to_rows(judge_readiness(READY)))
    assert section is not None
    assert section.summary == "20 passed, 8 not automated"
    assert [name for name, _ in section.tables] == list(RUBRIC)
    assert sum(len(table.rows) for _, table in section.tables) == 28
    assert build_readiness(None) is None


def test_a_recipe_is_committed_changed_or_untracked(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: a\n")
    assert readiness_facts.find_recipe_state(recipe) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert readiness_facts.find_recipe_state(recipe) == "untracked"
    subprocess.run([*git, "add", "recipe.yaml"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "a"], check=True)
    assert readiness_facts.find_recipe_state(recipe) == "committed"
    recipe.write_text("name: b\n")
    assert readiness_facts.find_recipe_state(recipe) == "changed"
    (tmp_path / ".gitignore").write_text("other.yaml\n")
    (tmp_path / "other.yaml").write_text("name: c\n")
    assert readiness_facts.find_recipe_state(tmp_path / "other.yaml") == "untracked"


def test_what_the_home_knows(shop: Shop, tmp_path: Path) -> None:
    version = shop.checked()
    make_champion(shop, version)
    made, _ = shop.registered()
    context = RunContext(shop.recipe, shop.home)
    details = tmp_path / "details.json"
    write_json(details, {"slices": {"a": {"rows": 60}, "b": {"rows": 3}}})
    report = evaluation(version, details=str(details))
    write_json(shop.home.data_docs / "000001" / "result.json", {"expectations": 9, "passed": 8})
    readiness_facts.record_reproduction(shop.home, version, "same")
    tracked = runs.Run(shop.home, made.run_id, Path(made.run_folder))
    outcome = build_outcome(made, report, PROMOTED, context, {"ingest": 1.0})
    origin = {"resources": {"ratios": {"latency": 1.1}}, "word_baseline": {"metrics": {"accuracy": 0.5}}}
    facts = readiness_facts.collect_facts(context, tracked, outcome, report, origin)
    assert (facts.expectations, facts.slices, facts.reproduced) == (9, 1, "same")
    assert facts.has_champion and facts.previous_is_whole
    assert facts.champion_days is not None and facts.champion_days < 1
    assert (facts.latency, facts.forgotten, facts.by_hand) == (1.1, None, False)
    rows = readiness_facts.describe_readiness(context, tracked, outcome, report, origin)
    assert rows is not None and len(rows) == 28


def test_a_forgotten_row_that_is_back_is_counted(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    context = RunContext(recipe, home)
    write_csv(tmp_path / "a.csv", good(6))
    run(recipe, home)
    assert readiness_facts._count_forgotten(context) is None
    stones = tombstones.load_with_key(home)
    text = good(6)[2][0]
    tombstones.add_digests(home, {"text": [stones.compute_digest("text", fold_text(text))]})
    assert readiness_facts._count_forgotten(context) == 1
