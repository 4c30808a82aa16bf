"""Labels that come, go, and are called otherwise: from the contract to the gate."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from evertune.config.data import LabelRules
from evertune.data import label_names as relabel
from evertune.data.contract import judge as contract
from evertune.data.corpus import transactions as corpus
from evertune.evaluation import evaluate as evaluation
from evertune.objectives import text_classification
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.serving import bundle
from tests.helpers.data import good, make_home, make_recipe, run, write_csv, write_jsonl
from tests.helpers.model import LABELS, TOKENS, split_rows, table, text_rows, train
from tests.helpers.model import recipe as model_recipe

NEW = [(f"the coin {number} fell", "crypto") for number in range(12)]


def nights(folder: Path, second: list[Any], **label: Any) -> Home:
    """A first night of 60 rows with two labels, then a second one."""
    home = make_home(folder)
    for rows in (good(60), second):
        write_csv(folder / "rows.csv", rows)
        run(make_recipe(folder, contract={"tolerance": 0.9, "label": label}), home)
    return home


def test_a_new_label_is_refused_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = nights(tmp_path, [*NEW, *good(80)])
    assert "crypto" not in corpus.known_labels(home)
    assert "label: refused rows with labels that are not in the corpus: 'crypto' (12 rows)" in caplog.text


def test_a_new_label_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        contract.BatchStoppedError, match=r"label: labels that are not in the corpus: 'crypto' \(12 rows\). Correct"
    ):
        nights(tmp_path, [*NEW, *good(80)], new="stop")


def test_a_slip_in_the_first_batch_is_no_new_label(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [*good(60), ("a slip of the pen", "crad")])
    recipe = make_recipe(tmp_path, contract={"tolerance": 0.5, "label": {"new": "stop"}})
    home = make_home(tmp_path)
    run(recipe, home)
    assert corpus.known_labels(home) == ("card", "refund")


def test_a_new_label_is_appended_if_enough_rows_have_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = nights(tmp_path, [*NEW, ("a slip of the pen", "crad")], new="grow")
    assert corpus.known_labels(home) == ("card", "refund", "crypto")
    assert "label: added new labels: 'crypto' (12 rows)" in caplog.text
    assert corpus.load_label_counts(home)["crypto"] == 12


def test_a_missing_label_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = [(f"about the card number {index}", "card") for index in range(40)]
    nights(tmp_path, [*others[:39], ("one of the others", "refund")])
    assert "no row has the label" not in caplog.text
    nights(tmp_path / "again", others)
    assert "label: no row has the label 'refund' (0 of 40; 50.0% in earlier batches)" in caplog.text


def test_counts_are_those_of_each_batch_once(tmp_path: Path) -> None:
    home = nights(tmp_path, NEW, new="grow")
    counts = corpus.load_label_counts(home)
    rows = corpus.read_rows(home, corpus.newest_version(home))["label"].to_pylist()
    assert counts == {label: rows.count(label) for label in set(rows)}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"rename": {"a": "b", "b": "c"}}, "a -> b -> c; write a: c"),
        ({"rename": {"a": "b", "b": "a"}}, "a -> b -> a; a label has one new name; remove a line"),
        ({"values": ["x"], "rename": {"a": "b"}}, "b is not in values"),
        ({"values": ["x"], "new": "grow"}, "needs `values: inferred`"),
    ],
)
def test_rules_that_contradict_each_other_are_config_errors(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LabelRules(**rules)


def test_a_renamed_label_is_one_with_the_old_one_in_snapshot_and_rows(tmp_path: Path) -> None:
    home = nights(
        tmp_path, [(f"give the money {n} back", "reimburse") for n in range(9)], rename={"refund": "reimburse"}
    )
    recipe = make_recipe(tmp_path, contract={"label": {"rename": {"refund": "reimburse"}}})
    plain = corpus.take_snapshot(home)
    named = relabel.rename_snapshot(plain, recipe)
    assert plain.labels == ("card", "refund", "reimburse")
    assert named.labels == ("card", "reimburse")
    assert named.fingerprint != plain.fingerprint
    stored_rows = corpus.read_rows(home, plain.version)
    labels = relabel.rename_rows(stored_rows, recipe)["label"].to_pylist()
    assert (labels.count("reimburse"), labels.count("card"), len(labels)) == (39, 30, 69)
    assert relabel.rename_rows(stored_rows, make_recipe(tmp_path)) is stored_rows


RENAMED = {"refund": "reimburse", "money": "reimburse"}


def under_new_names(rows: list[Any], new: dict[str, str] = RENAMED) -> list[Any]:
    return [(text, new.get(label, label)) for text, label in rows]


def test_rows_that_come_again_under_the_new_name_are_known(tmp_path: Path) -> None:
    """As the source does it: the label is renamed there, and the whole file written anew with what is new."""
    twice = ("one row that stands twice", "refund")
    write_csv(tmp_path / "rows.csv", [*good(60), ("the old money", "money"), twice, twice])
    home = make_home(tmp_path)
    run(make_recipe(tmp_path, contract={"label": {"min_rows": 1}}), home)
    again = under_new_names([*good(64), ("the old money", "money"), twice, twice, twice])
    write_csv(tmp_path / "rows.csv", again)
    recipe = make_recipe(tmp_path, contract={"tolerance": 0, "label": {"rename": RENAMED}})
    snapshot = run(recipe, home)
    assert (snapshot.new, snapshot.refused) == (5, 0)
    stored_rows = corpus.read_rows(home, corpus.newest_version(home))
    assert sorted(relabel.rename_rows(stored_rows, recipe)["text"].to_pylist()) == sorted(text for text, _ in again)
    write_csv(tmp_path / "rows.csv", [*good(64), twice])  # the names of before: another source may still have them
    assert run(recipe, home).version == snapshot.version


def test_a_row_that_comes_again_and_differs_in_more_than_its_name_is_another_row(tmp_path: Path) -> None:
    columns = {"columns": {"timestamp": "at"}, "sources": [{"path": "*.csv"}]}
    home = make_home(tmp_path)
    head = ("text", "label", "at")
    write_csv(tmp_path / "rows.csv", [(*row, "2026-01-01") for row in good(60)], head)
    run(make_recipe(tmp_path, data=columns), home)
    recipe = make_recipe(tmp_path, data=columns, contract={"label": {"rename": RENAMED}})
    write_csv(tmp_path / "rows.csv", [(*row, "2026-01-02") for row in under_new_names(good(60))], head)
    snapshot = run(recipe, home)
    assert (snapshot.new, snapshot.accepted, snapshot.refused) == (60, 60, 0)
    write_csv(tmp_path / "more.csv", [("both names", name, "2026-01-03") for name in ("refund", "reimburse")], head)
    assert run(recipe, home).refused == 0  # one label, in a batch too


def test_another_label_for_a_renamed_one_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (text, _) = good(1)[0]
    write_csv(tmp_path / "rows.csv", good(60))
    run(make_recipe(tmp_path), home)
    write_csv(tmp_path / "rows.csv", [*under_new_names(good(80)), (text, "card")])
    snapshot = run(make_recipe(tmp_path, contract={"label": {"rename": RENAMED}}), home)
    assert (snapshot.accepted, snapshot.reasons) == (20, {"two labels for one input": 1})


def test_a_row_that_was_refused_under_its_old_name_is_judged_under_the_new_one(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    write_csv(tmp_path / "rows.csv", [*good(60), ("a slip of the pen", "crad")])
    run(make_recipe(tmp_path, contract={"tolerance": 0.5}), home)
    write_csv(tmp_path / "rows.csv", [*good(60), ("a slip of the pen", "card")])
    snapshot = run(make_recipe(tmp_path, contract={"label": {"rename": {"crad": "card"}}}), home)
    assert (snapshot.accepted, snapshot.refused) == (1, 0)


def test_tags_that_come_again_under_new_names_are_known(tmp_path: Path) -> None:
    kind = {"type": "token-classification"}
    new = {"B-PER": "B-P", "B-LOC": "B-L", "B-GPE": "B-L"}
    rows = [
        {"tokens": [f"word{n}", "John", "Oslo"], "tags": ["O", "B-PER", ("B-LOC", "B-GPE")[n % 2]]} for n in range(40)
    ]
    sources = {"sources": [{"path": "*.jsonl"}]}
    home = make_home(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", rows)
    run(make_recipe(tmp_path, objective=kind, data=sources), home)
    write_jsonl(tmp_path / "rows.jsonl", [{**row, "tags": [new.get(tag, tag) for tag in row["tags"]]} for row in rows])
    mixed = {"tokens": ["from", "Oslo", "to", "Rome"], "tags": ["O", "B-L", "O", "B-L"]}
    write_jsonl(tmp_path / "more.jsonl", [mixed])
    snapshot = run(make_recipe(tmp_path, objective=kind, data=sources, contract={"label": {"rename": new}}), home)
    assert (snapshot.new, snapshot.accepted) == (1, 1)


def test_tags_are_renamed_inside_their_lists() -> None:
    column = pa.array([["O", "B-PER"], None, [], ["B-PER", None]], pa.list_(pa.string()))
    renamed = relabel.rename_values(column.slice(0), {"B-PER": "B-P"})
    assert renamed.to_pylist() == [["O", "B-P"], None, [], ["B-P", None]]
    assert relabel.rename_values(column.slice(3), {"B-PER": "B-P"}).to_pylist() == [["B-P", None]]
    recipe = model_recipe(Path("model"), TOKENS, contract={"label": {"rename": {"B-PER": "B-P"}}})
    assert relabel.rename_predictions([{"tags": ["O", "B-PER"], "scores": [1.0, 1.0]}], recipe)[0]["tags"] == [
        "O",
        "B-P",
    ]


def champion(tiny_model: Path, folder: Path, labels: tuple[str, ...]) -> Path:
    return Path(train(model_recipe(tiny_model), folder, split_rows(text_rows(40, labels)), labels).bundle)


def head_of(folder: Path) -> tuple[list[str], Any, Any]:
    model = text_classification.load_model(folder / "model")
    return bundle.read_labels(folder), model.classifier.weight.detach().numpy(), model.classifier.bias.detach().numpy()


def test_each_labels_output_keeps_its_weights_wherever_it_stands(tiny_model: Path, tmp_path: Path) -> None:
    """Trained on with a rate of nothing, so that the weights are those that the training began with."""
    before = LABELS[:2]
    others = (LABELS[1], "new one", LABELS[0])
    theirs = champion(tiny_model, tmp_path / "champion", before)
    fresh = {"sources": [{"path": "rows.csv"}], "fresh": {"start_from": "champion"}}
    recipe = model_recipe(tiny_model, data=fresh, training={"learning_rate": 1e-12, "epochs": 1})
    rows = [{**row, "label": "new one"} if number % 3 == 0 else row for number, row in enumerate(text_rows(60, before))]
    candidate = train(recipe, tmp_path / "next", split_rows(rows), others, champion=theirs)
    (_, was, bias) = head_of(theirs)
    (labels, now, shift) = head_of(Path(candidate.bundle))
    assert labels == list(others)
    np.testing.assert_allclose(now[[2, 0]], was, atol=1e-6)
    np.testing.assert_allclose(shift[[2, 0]], bias, atol=1e-6)
    assert not np.allclose(now[1], was[1], atol=1e-3)


def test_merged_labels_give_their_mean(tiny_model: Path, tmp_path: Path) -> None:
    theirs = champion(tiny_model, tmp_path / "champion", LABELS)
    renamed = {LABELS[0]: LABELS[1]}
    fresh = {"sources": [{"path": "rows.csv"}], "fresh": {"start_from": "champion"}}
    recipe = model_recipe(
        tiny_model, data=fresh, training={"learning_rate": 1e-12, "epochs": 1}, contract={"label": {"rename": renamed}}
    )
    candidate = train(recipe, tmp_path / "next", split_rows(text_rows(60, LABELS[1:])), LABELS[1:], champion=theirs)
    was = head_of(theirs)[1]
    now = head_of(Path(candidate.bundle))[1]
    np.testing.assert_allclose(now[0], was[:2].mean(0), atol=1e-6)
    np.testing.assert_allclose(now[1:], was[2:], atol=1e-6)


def test_rows_of_labels_that_the_champion_does_not_know_stand_apart(tiny_model: Path, tmp_path: Path) -> None:
    theirs = champion(tiny_model, tmp_path / "champion", LABELS[:2])
    recipe = model_recipe(tiny_model)
    candidate = train(recipe, tmp_path / "next", split_rows(text_rows(60)))
    test = [{**row, "split": "test", "batch": 1 + number % 2} for number, row in enumerate(text_rows(90, start=500))]
    report = evaluation.evaluate_models(recipe, candidate, table(test), set(), theirs, 1)
    rows = read_json(Path(report.details))["rows"]
    new = sum(row["label"] not in LABELS[:2] for row in test)
    assert (rows["new_labels"], rows["fresh"] + rows["history"]) == (new, 90 - new)
    assert report.champion_metrics["new_labels"]["accuracy"] == 0


def test_an_older_models_answers_are_read_under_the_names_of_today(tiny_model: Path, tmp_path: Path) -> None:
    theirs = champion(tiny_model, tmp_path / "champion", LABELS)
    renamed = {label: f"{label} now" for label in LABELS}
    recipe = model_recipe(tiny_model, contract={"label": {"rename": renamed}})
    rows = [{**row, "label": renamed[row["label"]]} for row in text_rows(60)]
    candidate = train(recipe, tmp_path / "next", split_rows(rows), tuple(renamed.values()))
    plain = evaluation.evaluate_models(
        model_recipe(tiny_model), candidate, table(text_rows(30), "test"), set(), theirs, 1
    )
    now = evaluation.evaluate_models(recipe, candidate, table(rows[:30], "test"), set(), theirs, 1)
    assert now.champion_metrics["test"] == plain.champion_metrics["test"]
    assert read_json(Path(now.details))["rows"]["new_labels"] == 0
