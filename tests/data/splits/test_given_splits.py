"""Splits that the sources give: they are honoured, train lends to validation, leaks between them are found."""

import logging
from pathlib import Path
from typing import Any

import pytest

from evertune.config.data import SplitRules
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from tests.helpers.data import current, good, make_home, make_recipe, run, write_csv
from tests.helpers.split import RULES, assign_in_memory


def test_rows_with_a_split_of_their_own_are_not_linked_by_an_excluded_one(grouped: Any) -> None:
    train, test = (text for text, _ in good(2))
    rows = [{"text": train, "given_split": "train"}, {"text": test, "given_split": "test", "group": "g"}]
    result = assign_in_memory(grouped, [*rows, {"text": train, "group": "g"}], lend=False)
    assert result["split"].to_pylist() == ["train", "test", "excluded"]
    assert splits.find_leaked_rows(result).to_pylist() == []


def given_rows() -> list[dict[str, Any]]:
    rows = [{"text": text, "given_split": "train"} for text, _ in good(400)]
    rows += [{"text": text, "given_split": "test"} for text, _ in good(50, start=1000)]
    return [*rows, {"text": good(1)[0][0] + " ", "given_split": "test"}]


def test_given_splits_are_honoured_and_train_lends_to_validation(grouped: Any) -> None:
    lent = assign_in_memory(grouped, given_rows())["split"].to_pylist()
    assert lent[400:] == ["test"] * 51
    assert set(lent[:400]) == {"train", "validation"}
    assert 20 < lent[:400].count("validation") < 60
    assert set(assign_in_memory(grouped, given_rows(), lend=False)["split"].to_pylist()[:400]) == {"train"}


def test_a_leak_in_given_files_is_reported_or_left_out(grouped: Any) -> None:
    report = assign_in_memory(grouped, given_rows(), lend=False)
    assert splits.find_leaked_rows(report).to_pylist() == [report["row_version"][450].as_py()]
    rules = SplitRules(leak="exclude")
    exclude = assign_in_memory(grouped, given_rows(), lend=False, rules=rules)
    assert exclude["split"].to_pylist() == ["excluded", *["train"] * 399, *["test"] * 51]
    assert splits.find_leaked_rows(exclude).to_pylist() == []


def test_train_rows_that_a_later_test_file_leaks_are_left_out_of_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data: dict[str, Any] = {"sources": [{"path": "t.csv", "split": "train"}, {"path": "e*.csv", "split": "test"}]}
    recipe = make_recipe(tmp_path, data={**data, "split": {"leak": "exclude"}})
    home = make_home(tmp_path)
    write_csv(tmp_path / "t.csv", good(40))
    write_csv(tmp_path / "e1.csv", good(10, start=100))
    run(recipe, home)
    write_csv(tmp_path / "e2.csv", [(text.upper(), label) for text, label in good(10)])
    run(recipe, home)
    rows = corpus.read_rows(home, corpus.newest_version(home))
    with caplog.at_level(logging.INFO, logger="evertune"):
        learned = splits.exclude_leaked_rows(rows, recipe.data.split).to_pylist()
    before = {row["text"] for row in rows.to_pylist() if row["split"] == "train"}
    assert {row["text"] for row in learned if row["split"] == "train"} == before - {text for text, _ in good(10)}
    left_out = sum(row["split"] == "excluded" for row in learned)
    assert left_out > 5
    assert f"excluded {left_out} train rows that are linked with test rows" in caplog.text
    assert splits.exclude_leaked_rows(rows, RULES) is rows


def test_a_given_validation_source_keeps_train_whole(tmp_path: Path) -> None:
    sources = [{"path": "t.csv", "split": "train"}, {"path": "v.csv", "split": "validation"}]
    assert not splits.lends_validation(make_recipe(tmp_path, data={"sources": sources}))
    assert splits.lends_validation(make_recipe(tmp_path, data={"sources": sources[:1]}))


def test_a_changed_row_given_another_split_keeps_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = [
        {"path": "t.csv", "split": "train"},
        {"path": "e.csv", "split": "test"},
        {"path": "v.csv", "split": "validation"},
    ]
    recipe = make_recipe(tmp_path, data={"sources": sources, "columns": {"id": "id"}})
    home = make_home(tmp_path)
    header = ("id", "text", "label")
    rows = [(f"n{number}", *row) for number, row in enumerate(good(30))]
    for name, part in (("t", rows[:20]), ("e", rows[20:25]), ("v", rows[25:])):
        write_csv(tmp_path / f"{name}.csv", part, header)
    run(recipe, home)
    write_csv(tmp_path / "t.csv", [*rows[:20], ("n20", "moved over here", "card")], header)
    with caplog.at_level(logging.WARNING):
        run(recipe, home)
    assert [row["split"] for row in current(home) if row["id"] == "n20"] == ["test"]
    assert "1 changed rows now have another given split" in caplog.text


def test_leaks_are_found_across_batches_in_the_corpus(tmp_path: Path) -> None:
    sources = [{"path": "t.csv", "split": "train"}, {"path": "e.csv", "split": "test"}]
    recipe = make_recipe(tmp_path, data={"sources": sources})
    home = make_home(tmp_path)
    write_csv(tmp_path / "t.csv", good(40))
    write_csv(tmp_path / "e.csv", good(10, start=100))
    run(recipe, home)
    before = corpus.read_rows(home, corpus.newest_version(home))
    write_csv(tmp_path / "e.csv", [*good(10, start=100), *[(text.upper(), label) for text, label in good(40)]])
    run(recipe, home)
    after = corpus.read_rows(home, corpus.newest_version(home))
    assert len(splits.find_leaked_rows(before)) == 0
    leaked = set(splits.find_leaked_rows(after).to_pylist())
    train = {row["component"] for row in after.to_pylist() if row["split"] == "train"}
    assert leaked == {
        row["row_version"] for row in after.to_pylist() if row["split"] == "test" and row["component"] in train
    }
    assert len(leaked) > 20
    assert {row["split"] for row in after.to_pylist()[:50]} <= {"train", "validation", "test"}
