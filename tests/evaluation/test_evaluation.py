"""Challenger and champion on the same rows: evidence and details that agree with scikit-learn and with each other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evertune.errors import DataError, TrainingError
from evertune.evaluation import evaluate as evaluation
from evertune.gate import challenge
from evertune.records import Candidate, Evaluation
from evertune.serving import bundle
from tests.helpers.model import LABELS, TAGS, TOKENS, recipe, split_rows, table, tag_rows, text_rows, train

OLD = LABELS[:2]  # the champion has not met the third label
NEW = LABELS
TEST = [{**row, "batch": 1 + number // 8, "split": "test"} for number, row in enumerate(text_rows(24, start=500))]


@pytest.fixture(scope="module")
def champion(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = recipe(tiny_model, training={"epochs": 4})
    return Path(train(one, tmp_path_factory.mktemp("champion"), split_rows(text_rows(40, OLD)), OLD).bundle)


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    one = recipe(tiny_model, training={"epochs": 4, "learning_rate": 1e-2})
    return train(one, tmp_path_factory.mktemp("challenger"), split_rows(text_rows(60)))


@pytest.fixture
def candidate(trained: Candidate, tmp_path: Path) -> Candidate:
    return replace(trained, run_folder=str(tmp_path))


def evidence(report: Evaluation) -> dict[str, Any]:
    with np.load(report.evidence) as file:
        return {name: file[name] for name in file.files}


def details(report: Evaluation) -> dict[str, Any]:
    return dict(json.loads(Path(report.details).read_text()))


def evaluate(
    model: Path,
    candidate: Candidate,
    champion: Path | None = None,
    *,
    rows: pa.Table | None = None,
    leaked: set[str] | None = None,
    problem: str | None = None,
    **sections: Any,
) -> Evaluation:
    one = recipe(model, evaluation=sections)
    test = table(TEST) if rows is None else rows
    version = None if champion is None else 7
    return evaluation.evaluate_models(one, candidate, test, leaked or set(), champion, version, problem=problem)


def test_metrics_are_scikit_learns_over_the_same_rows(tiny_model: Path, candidate: Candidate, champion: Path) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

    report = evaluate(tiny_model, candidate, champion)
    true = [row["label"] for row in TEST]
    found = details(report)
    for model, folder, metrics in (
        ("challenger", Path(candidate.bundle), report.metrics),
        ("champion", champion, report.champion_metrics),
    ):
        guess = [one["label"] for one in bundle.load_predictor(folder).predict([row["text"] for row in TEST])]
        assert metrics["test"]["accuracy"] == pytest.approx(accuracy_score(true, guess))
        assert metrics["test"]["f1_macro"] == pytest.approx(f1_score(true, guess, average="macro", zero_division=0))
        old = [number for number, row in enumerate(TEST) if row["batch"] == 1 and row["label"] in OLD]
        part = f1_score([true[n] for n in old], [guess[n] for n in old], average="macro", zero_division=0)
        assert metrics["history"]["f1_macro"] == pytest.approx(part)
        names = found[model]["confusion"]["names"]
        assert found[model]["confusion"]["counts"] == confusion_matrix(true, guess, labels=names).tolist()
        expected = precision_recall_fscore_support(true, guess, labels=found["names"], zero_division=0)
        table_of = found[model]["per_class"]
        for name, *figures in zip(found["names"], *expected, strict=True):
            assert list(table_of[name].values()) == pytest.approx([float(figure) for figure in figures])
        low, high = found[model]["intervals"]["accuracy"][1:]
        assert low <= metrics["test"]["accuracy"] <= high


def test_evidence_and_details_tell_the_same(tiny_model: Path, candidate: Candidate, champion: Path) -> None:
    report = evaluate(tiny_model, candidate, champion, leaked={table(TEST)["row_version"][0].as_py()})
    stats = evidence(report)
    found = details(report)
    classes = len(stats["names"])
    assert stats["names"].tolist() == found["names"] == list(NEW)
    for model in ("challenger", "champion"):
        rows = stats[f"stats_{model}"]
        hits = rows[:, 2 * classes : 3 * classes].sum()
        assert found[model]["metrics"]["test"]["accuracy"] == pytest.approx(hits / len(TEST))
        assert rows[:, :classes].sum(1).tolist() == [1.0] * len(TEST)
    for name, count in found["rows"].items():
        assert count == stats[f"mask_{name}"].sum()
    for name, mask in zip(stats["slice_names"].tolist(), stats["slices"], strict=True):
        assert found["slices"][name]["rows"] == mask.sum()
        for model, (estimate, low, high) in found["slices"][name]["intervals"].items():
            assert estimate == found["slices"][name][model] and low <= estimate <= high
    theirs = found["champion"]
    assert theirs["class_intervals"].keys() == {*NEW}
    for name, (low, high) in theirs["class_intervals"].items():
        assert low <= theirs["per_class"][name]["f1"] <= high
    assert any(low < high for low, high in theirs["class_intervals"].values())


def test_rows_are_fresh_if_they_came_after_the_champion_and_none_counts_that_leaks(
    tiny_model: Path, candidate: Candidate, champion: Path
) -> None:
    rows = table(TEST)
    leaked = {rows["row_version"][number].as_py() for number in (0, 1, 5)} | {"a row of an older snapshot"}
    report = evaluate(tiny_model, candidate, champion, leaked=leaked)
    masks = {name.removeprefix("mask_"): mask for name, mask in evidence(report).items() if name.startswith("mask")}
    clean = [number not in (0, 1, 5) for number in range(len(TEST))]
    assert masks["test"].all() and masks["test_clean"].tolist() == clean
    rows_of = list(zip(clean, TEST, strict=True))
    known = [one and row["label"] in OLD for one, row in rows_of]
    assert masks["new_labels"].tolist() == [one and row["label"] not in OLD for one, row in rows_of]
    assert masks["fresh"].tolist() == [one and row["batch"] > 1 for one, row in zip(known, TEST, strict=True)]
    assert masks["history"].tolist() == [one and row["batch"] == 1 for one, row in zip(known, TEST, strict=True)]
    assert report.leaked == details(report)["leaked"] == 3


def test_rows_of_one_component_reach_the_gate_as_one_group(
    tiny_model: Path, candidate: Candidate, champion: Path
) -> None:
    rows = [{**row, "component": -9 * (number // 4)} for number, row in enumerate(TEST)]
    leaked = {table(rows)["row_version"][23].as_py()}
    report = evaluate(tiny_model, candidate, champion, rows=table(rows), leaked=leaked)
    assert evidence(report)["groups"].tolist() == [5 - number // 4 for number in range(len(TEST))]
    gate = {"superior_on": "test", "noninferior_on": {}, "min_rows": 7}
    decision = challenge.decide_challenge(recipe(tiny_model, evaluation={"gate": gate}), report, 1)
    assert decision.verdict == "held" and "15 test rows in 6 groups; at least 7 groups are needed" in decision.reason
    together = details(report)["champion"]["intervals"]["accuracy"]
    alone = details(evaluate(tiny_model, candidate, champion))["champion"]["intervals"]["accuracy"]
    assert together[0] == alone[0] and together[1:] != alone[1:]


def test_without_a_champion_every_row_is_fresh(tiny_model: Path, candidate: Candidate) -> None:
    report = evaluate(tiny_model, candidate)
    assert evidence(report)["mask_fresh"].all() and "history" not in report.metrics
    assert report.champion_version is None and report.champion_metrics == {} and report.problem is None
    assert "stats_champion" not in evidence(report) and details(report)["champion"] is None


def test_labels_that_one_side_alone_knows_are_scored(tiny_model: Path, candidate: Candidate, champion: Path) -> None:
    strange = [{**row, "label": "new-one"} for row in text_rows(3, start=900)]
    report = evaluate(tiny_model, candidate, champion, rows=table([*TEST, *strange], "test"))
    found = details(report)
    assert found["names"] == [*NEW, "new-one"]
    assert found["champion"]["per_class"]["card"]["recall"] == 0.0  # a label that came after it
    assert found["challenger"]["per_class"]["new-one"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 3.0}
    lost = replace(candidate.tokens, snapshot=replace(candidate.tokens.snapshot, labels=("refund",)))
    names = details(evaluate(tiny_model, replace(candidate, tokens=lost), champion))["names"]
    assert names[0] == "refund" and sorted(names) == sorted(NEW)


def test_a_champion_that_cannot_be_read_is_a_problem_not_an_error(
    tiny_model: Path, candidate: Candidate, champion: Path, tmp_path: Path
) -> None:
    import shutil

    def weights(folder: Path) -> None:
        (folder / "model" / "model.safetensors").write_bytes(b"cut")

    def card(folder: Path) -> None:
        (folder / "evertune.json").write_text("{")

    def old_card(folder: Path) -> None:
        (folder / "evertune.json").write_text('{"name": "from before snapshots were noted"}')

    def code(folder: Path) -> None:
        file = folder / "code" / "objective.py"
        file.write_text(file.read_text() + "\n\ndef decode(*_):\n    raise AttributeError('an older library')\n")

    for number, damage in enumerate((weights, card, old_card, code, shutil.rmtree)):
        broken = Path(shutil.copytree(champion, tmp_path / f"broken{number}"))
        damage(broken)
        report = evaluate(tiny_model, candidate, broken)
        assert report.problem is not None and report.problem.startswith("the champion, version 7, cannot be read:")
        assert report.champion_metrics == {} and "stats_champion" not in evidence(report)
        decision = challenge.decide_challenge(recipe(tiny_model), report, 1)
        assert decision.verdict == "held" and "cannot be read" in decision.reason


def test_a_problem_found_before_is_kept(tiny_model: Path, candidate: Candidate, champion: Path) -> None:
    assert evaluate(tiny_model, candidate, problem="its artifacts are gone").problem == "its artifacts are gone"
    assert evaluate(tiny_model, candidate, champion).problem is None


def test_a_challenger_that_cannot_be_read_is_an_error(tiny_model: Path, candidate: Candidate, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be loaded"):
        evaluate(tiny_model, replace(candidate, bundle=str(tmp_path / "nothing")))


def test_without_test_rows_there_is_no_evidence(tiny_model: Path, candidate: Candidate) -> None:
    with pytest.raises(DataError, match=r"no test rows.*add rows"):
        evaluate(tiny_model, candidate, rows=table(TEST).slice(0, 0))


@pytest.mark.parametrize("kinds", [["label"], ["length"], ["source"], [], ["label", "length", "source"]])
def test_slices_are_those_that_are_asked_for(
    tiny_model: Path, candidate: Candidate, champion: Path, kinds: list[str]
) -> None:
    rows = table([{**row, "source": f"{number % 2}.csv"} for number, row in enumerate(TEST)])
    report = evaluate(tiny_model, candidate, champion, rows=rows, slices=kinds)
    found = evidence(report)
    names = found["slice_names"].tolist()
    assert {name.partition("=")[0] for name in names} == set(kinds)
    assert found["slices"].shape == (len(names), len(TEST))
    of = dict(zip(names, found["slices"], strict=True))
    if "label" in kinds:
        assert of["label=card"].tolist() == [row["label"] == "card" for row in TEST]
    if "source" in kinds:
        assert of["source=1.csv"].tolist() == [number % 2 == 1 for number in range(len(TEST))]
    if "length" in kinds:
        assert sum(of[f"length={name}"] for name in ("short", "medium", "long")).tolist() == [1] * len(TEST)
    assert challenge.decide_challenge(recipe(tiny_model), report, 1).verdict in ("held", "promoted", "rejected")


def test_changed_rows_are_shown_with_both_answers(tiny_model: Path, candidate: Candidate, champion: Path) -> None:
    report = evaluate(tiny_model, candidate, champion)
    changed = details(report)["changed"]
    assert changed and {row["kind"] for row in changed} <= {"fixed", "broken"}
    for row in changed:
        right = "challenger" if row["kind"] == "fixed" else "champion"
        wrong = "champion" if right == "challenger" else "challenger"
        assert row[right] == row["target"] != row[wrong]


def test_a_sample_of_predictions_is_kept_for_the_parity_check(tiny_model: Path, candidate: Candidate) -> None:
    rows = table([{**row, "split": "test"} for row in text_rows(450, start=2000)])
    evaluate(tiny_model, candidate, rows=rows)
    sample = json.loads((Path(candidate.run_folder) / "parity.json").read_text())
    assert sample["role"] == "text" and len(sample["inputs"]) == len(sample["predictions"]) == evaluation.SAMPLE
    again = bundle.load_predictor(Path(candidate.bundle)).predict(sample["inputs"])
    assert [one["label"] for one in again] == [one["label"] for one in sample["predictions"]]


def test_tags_are_judged_by_entities_and_words(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model, TOKENS, training={"epochs": 2})
    made = train(one, tmp_path / "home", split_rows(tag_rows(30)), TAGS)
    rows = table([{**row, "split": "test"} for row in tag_rows(20)])
    report = evaluation.evaluate_models(one, made, rows, set(), Path(made.bundle), 1)
    found = details(report)
    assert found["metric"] == "entity_f1" and set(found["challenger"]["per_class"]) == {"LOC", "PER"}
    assert found["challenger"]["metrics"] == found["champion"]["metrics"] and found["changed"] == []
    assert {name.partition("=")[0] for name in found["slices"]} == {"length"}  # every sentence has every tag


@pytest.mark.parametrize(
    ("window", "since", "expected"),
    [
        (None, 3, [1, 2, 3, 4, 5]),
        (2, 3, [2, 3, 4, 5]),
        (2, None, [4, 5]),
        (9, 3, [1, 2, 3, 4, 5]),
        (1, 5, [5]),
    ],
)
def test_a_window_leaves_out_old_test_rows_that_the_champion_knew(
    window: int | None, since: int | None, expected: list[int]
) -> None:
    rows = pa.table({"batch": [1, 1, 2, 3, 4, 5, 5], "split": ["test", "train", *["test"] * 4, "validation"]})
    found = rows.filter(pa.array(evaluation.select_scored_rows(rows, window, since)))
    assert found["batch"].to_pylist() == expected
