"""Bad candidates, planted: none of them takes the champion's place."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evertune.config import Recipe
from evertune.evaluation import evaluate as evaluation
from evertune.gate import challenge
from evertune.records import Candidate, Decision
from tests.helpers.model import recipe, split_rows, table, text_rows, train

ROWS = text_rows(120)
TEST = table([{**row, "row_version": f"t{n}", "batch": 1 + n % 2} for n, row in enumerate(text_rows(90, start=500))])


@pytest.fixture(scope="module")
def one(tiny_model: Path) -> Recipe:
    gate = {"minimum": {"accuracy": 0.3}, "superior_on": "test", "noninferior_on": {"test": 0.02}, "min_rows": 10}
    return recipe(tiny_model, training={"epochs": 6}, evaluation={"gate": gate})


@pytest.fixture(scope="module")
def good(one: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    return train(one, tmp_path_factory.mktemp("good"), split_rows(ROWS))


def decide(one: Recipe, made: Candidate, champion: Path | None, folder: Path, **how: Any) -> Decision:
    folder.mkdir(exist_ok=True)
    made = replace(made, run_folder=str(folder))
    report = evaluation.evaluate_models(one, made, TEST, set(), champion, None if champion is None else 1, **how)
    return challenge.decide_challenge(one, report, challenge_number=1)


def test_the_good_model_is_good(one: Recipe, good: Candidate, tmp_path: Path) -> None:
    assert decide(one, good, None, tmp_path / "a").verdict == "promoted"


def test_a_model_that_small_changes_lead_astray_is_rejected(one: Recipe, good: Candidate, tmp_path: Path) -> None:
    asked = {"robustness": {"tests": ["case"]}, "gate": {"robustness": {"case": 0.0}, "min_rows": 2}}
    strict = recipe(Path(one.base_model), evaluation=asked)
    decision = decide(strict, good, Path(good.bundle), tmp_path / "a")
    assert decision.verdict == "held"  # against itself: no difference comes first
    decision = decide(strict, good, None, tmp_path / "b")
    assert decision.verdict == "rejected"
    assert "Robustness test 'case'" in decision.reason
    assert [item["on"] for item in decision.evidence if item["test"] == "robustness"] == ["case"]


def test_shuffled_labels_do_not_pass(one: Recipe, good: Candidate, tmp_path: Path) -> None:
    labels = [row["label"] for row in ROWS]
    random.Random(5).shuffle(labels)
    rows = [{**row, "label": label} for row, label in zip(ROWS, labels, strict=True)]
    bad = train(one, tmp_path / "bad", split_rows(rows))
    decision = decide(one, bad, Path(good.bundle), tmp_path / "a")
    assert decision.verdict == "rejected"
    assert decide(one, good, Path(bad.bundle), tmp_path / "b").verdict == "promoted"


def test_the_champion_against_itself_is_held(one: Recipe, good: Candidate, tmp_path: Path) -> None:
    decision = decide(one, good, Path(good.bundle), tmp_path / "a")
    assert (decision.verdict, decision.reason[:13]) == ("held", "No difference")


def test_a_model_that_gives_no_numbers_is_held(one: Recipe, good: Candidate, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(good.bundle, tmp_path / "bundle")
    weights = load_file(folder / "model" / "model.safetensors")
    weights["classifier.weight"][:] = float("nan")
    save_file(weights, folder / "model" / "model.safetensors", {"format": "pt"})
    for champion in (None, Path(good.bundle)):
        decision = decide(one, replace(good, bundle=str(folder)), champion, tmp_path / "a")
        assert decision.verdict == "held"
        assert "The challenger's scores contain NaN" in decision.reason
    decision = decide(one, good, folder, tmp_path / "b")
    assert decision.verdict == "held"
    assert "The champion's scores contain NaN" in decision.reason


@pytest.mark.parametrize("file", ["evertune.json", "model/model.safetensors", "code/inference.py", "model/config.json"])
def test_an_unreadable_champion_holds(one: Recipe, good: Candidate, tmp_path: Path, file: str) -> None:
    import shutil

    folder = shutil.copytree(good.bundle, tmp_path / "bundle")
    (folder / file).unlink()
    decision = decide(one, good, folder, tmp_path / "a")
    assert decision.verdict == "held"
    assert "the champion, version 1, cannot be read" in decision.reason


def test_a_problem_found_before_holds(one: Recipe, good: Candidate, tmp_path: Path) -> None:
    decision = decide(one, good, None, tmp_path / "a", problem="its files are not there")
    assert (decision.verdict, decision.reason) == ("held", "its files are not there")


def test_leaked_rows_are_no_evidence(one: Recipe, good: Candidate, tmp_path: Path) -> None:
    made = replace(good, run_folder=str(tmp_path))
    leaked = set(TEST["row_version"].to_pylist()[:85])
    report = evaluation.evaluate_models(one, made, TEST, leaked, None, None)
    assert report.leaked == 85
    decision = challenge.decide_challenge(one, report, challenge_number=1)
    assert decision.verdict == "held"


def test_nights_are_counted_for_a_champion_and_only_those_with_a_test() -> None:
    def decision(version: int, champion: int, p: float | None) -> dict[str, Any]:
        evidence = [{"test": "superior", "p": p}]
        return {"event": "decision", "version": version, "champion": champion, "evidence": evidence}

    entries = [decision(2, 1, 0.4), decision(3, 1, None), decision(4, 1, 0.2), decision(5, 2, 0.1), {"event": "moved"}]
    assert challenge.count_challenges([], 1, 2) == 1
    assert challenge.count_challenges(entries, 1, 9) == 3
    assert challenge.count_challenges(entries, 1, 4) == 2
    assert challenge.count_challenges(entries, 2, 9) == 2
    assert challenge.count_challenges(entries, 7, 9) == 1


def test_a_champion_that_the_ledger_ever_knew_is_missed() -> None:
    moved = {"event": "moved", "from": None, "to": 1}
    taken = {"event": "external", "from": 1, "to": None}
    assert challenge.explain_lost_champion([]) is None
    assert (
        challenge.explain_lost_champion(
            [{"event": "decision", "version": 1}, {"event": "intent", "from": None, "to": 1}]
        )
        is None
    )
    for entries in ([moved], [moved, taken], [taken, {**moved, "to": 3}, taken]):
        found = challenge.explain_lost_champion(entries)
        assert found is not None and "evertune promote RECIPE --version N" in found
        assert f"records champion {3 if len(entries) == 3 else 1}, " in found
