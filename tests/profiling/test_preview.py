"""What `evertune check` looks at: every part of the sources, and what a run would do with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evertune.config import Recipe, load_recipe
from evertune.data import minimum_rows as shortage
from evertune.errors import DataError
from evertune.profiling import preview
from evertune.profiling.preview_rows import FLOOR, PIECES, sample_rows, spread_rows
from tests.helpers.cli import Done, ticket_rows, write_rows

Made = Callable[..., Path]


def small(tiny_recipe: Made, *sources: dict[str, str], **sections: object) -> Recipe:
    return load_recipe(tiny_recipe(data={"sources": list(sources)}, **sections))


def test_every_source_has_its_share_of_the_sample(tiny_recipe: Made, tmp_path: Path) -> None:
    write_rows(tmp_path / "big.csv", ticket_rows(3000))
    write_rows(tmp_path / "test.csv", [(text, "") for text, _ in ticket_rows(150, start=5000)])
    one = small(tiny_recipe, {"path": "big.csv", "split": "train"}, {"path": "test.csv", "split": "test"})
    found = preview.preview_recipe(one, 500)
    assert (found.found, found.reasons) == (3150, {"missing label": FLOOR})
    assert found.rows == 500 * 3000 // 3150 + FLOOR
    assert any("tolerance" in problem for problem in found.problems)
    assert any("is a test row" in problem for problem in found.problems)


def test_the_sample_is_spread_over_all_rows_and_a_label_rare_in_it_is_none_in_all(
    tiny_recipe: Made, tmp_path: Path
) -> None:
    rows = [(text, "late" if at % 500 == 499 else label) for at, (text, label) in enumerate(ticket_rows(3000))]
    write_rows(tmp_path / "mine.csv", rows)
    looked = sample_rows(small(tiny_recipe, {"path": "mine.csv"}), 200)
    places = looked.table["source_row"].to_pylist()
    assert (len(places), places[0], places[-1]) == (200, 0, 2999)
    assert "late" in looked.labels
    write_rows(tmp_path / "mine.csv", rows[:150])
    assert sample_rows(small(tiny_recipe, {"path": "mine.csv"}), 200).labels == ()


def test_the_first_and_the_last_of_many_pieces_are_opened(tiny_recipe: Made, tmp_path: Path) -> None:
    for number in range(40):
        write_rows(tmp_path / f"days/{number:02}.csv", ticket_rows(3, start=3 * number))
    looked = sample_rows(small(tiny_recipe, {"path": "days"}), 1000)
    names = sorted(set(looked.table["source"].to_pylist()))
    assert (len(names), names[0], names[-1]) == (PIECES, "days/00.csv", "days/39.csv")
    assert looked.notes == ["data.sources.0: 16 of 40 pieces were opened, evenly spaced"]


def test_few_rows_are_all_taken() -> None:
    assert spread_rows([1, 2, 3], 3) == [1, 2, 3]


def test_splits_and_leaks_are_shown_before_anything_is_kept(
    evertune: Callable[..., Done], tiny_recipe: Made, tmp_path: Path
) -> None:
    write_rows(tmp_path / "a.csv", ticket_rows(90))
    write_rows(tmp_path / "b.csv", [*ticket_rows(26), *ticket_rows(34, start=200)])
    sources = [{"path": "a.csv", "split": "train"}, {"path": "b.csv", "split": "test"}]
    recipe = tiny_recipe(data={"sources": sources, "split": {"validation": 0}}, training={"early_stopping": {}})
    done = evertune("check", recipe)
    assert done.status == 0
    assert (
        "splits of a first run: 90 train, 60 test; 26 or more test rows are copies or near-duplicates of train rows"
        in done.out
    )
    assert "note: no validation rows: training.early_stopping cannot be applied" in done.out


def test_without_test_rows_a_run_would_stop(evertune: Callable[..., Done], tiny_recipe: Made) -> None:
    done = evertune("check", tiny_recipe(data={"sources": [{"path": "rows.csv"}], "split": {"test": 0}}))
    assert done.status == 3
    assert "none of the 60 accepted rows is a test row, so there is no evidence to promote on" in done.err


def test_what_is_missing_is_said_with_what_helps(tiny_recipe: Made, caplog: pytest.LogCaptureFixture) -> None:
    one = load_recipe(tiny_recipe(training={"early_stopping": {}}))
    rows = {"train": 80, "validation": 0, "test": 12, "excluded": 0}
    shortage.check_row_counts(rows, one)
    assert "training.early_stopping cannot be applied" in caplog.text
    assert "12 test rows are fewer than evaluation.gate.min_rows (30)" in caplog.text
    for split in ("train", "test"):
        with pytest.raises(DataError, match=f"is a {split} row.*splits are stored.*add rows, or change the recipe"):
            shortage.check_row_counts({**rows, split: 0}, one)
