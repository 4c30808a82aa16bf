"""Columns that `evertune new` must find in plain files, and what it asks of a person where it cannot."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evertune.errors import DataError
from evertune.profiling.profile import inspect_data
from tests.helpers.cli import Done, ticket_rows
from tests.helpers.data import write_csv, write_jsonl

CHINESE = "我的包裹还没有到请帮我查一下谢谢你们的服务很好可以退款吗"


@pytest.mark.parametrize("text", [lambda at: CHINESE[at % 20 :] + str(at), lambda at: f"word{at}"])
def test_columns_called_text_and_label_are_these(tmp_path: Path, text: Callable[[int], str]) -> None:
    rows = [(text(at), "web form", "ab"[at % 2]) for at in range(60)]
    guess = inspect_data(write_csv(tmp_path / "a.csv", rows, ("text", "came_by", "label")))
    assert guess.columns == {"text": "text", "label": "label"}


def test_a_column_called_comment_that_is_a_category_is_not_the_text(tmp_path: Path) -> None:
    rows = [
        (f"all that was said about order {at}", "ab"[at % 2], ("very good", "very bad")[at % 2]) for at in range(60)
    ]
    guess = inspect_data(write_csv(tmp_path / "a.csv", rows, ("utterance", "label", "comment")))
    assert guess.columns["text"] == "utterance"


def test_one_missing_tag_is_a_refused_row_and_no_obstacle(tmp_path: Path) -> None:
    rows = [
        {"tokens": ["EU", "rejects", str(at)], "tags": ["B-ORG", "O", "O"][: 2 if at == 7 else 3]} for at in range(150)
    ]
    guess = inspect_data(write_jsonl(tmp_path / "a.jsonl", rows))
    assert guess.columns == {"tokens": "tokens", "tags": "tags"}
    assert guess.why["tags"].startswith("as long as tokens in nearly every row")
    assert any("more or fewer tags than tokens" in note for note in guess.notes)
    rows = [{"tokens": ["EU", "rejects"], "tags": ["O"]}] * 20
    with pytest.raises(DataError, match="no other list is as long as tokens in nearly every row") as caught:
        inspect_data(write_jsonl(tmp_path / "a.jsonl", rows))
    assert "tags: lists of words, 1.0 a row" in str(caught.value)


def test_words_and_tags_between_spaces_are_token_classification(tmp_path: Path) -> None:
    rows = [(f"EU rejects order {at}", "B-ORG O O O", "ab"[at % 2]) for at in range(60)]
    path = write_csv(tmp_path / "a.csv", rows, ("words", "tags", "topic"))
    guess = inspect_data(path)
    assert (guess.objective, guess.columns) == ("token-classification", {"tokens": "words", "tags": "tags"})
    assert inspect_data(path, label="topic").objective == "text-classification"


def test_a_single_label_is_found_by_its_name_and_told(tmp_path: Path) -> None:
    guess = inspect_data(write_csv(tmp_path / "a.csv", [(text, "spam") for text, _ in ticket_rows(40)]))
    assert guess.columns == {"text": "text", "label": "label"}
    assert any("'spam' is the only label" in note for note in guess.notes)


def test_one_column_cannot_be_both(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--text and --label are both text; name two columns"):
        inspect_data(write_csv(tmp_path / "a.csv", ticket_rows(40)), text="text", label="text")


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (
            12,
            "tolerance: 0.13  # a run stops if a larger share of rows is refused; expected: 10.0% (12 control char",
        ),
        (119, "characters: keep  # many rows have control characters"),
    ],
)
def test_what_new_writes_passes_check_unchanged(
    evertune: Callable[..., Done], tmp_path: Path, damaged: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(text + "\x07" * (at < damaged), label) for at, (text, label) in enumerate(ticket_rows(120))]
    write_csv(tmp_path / "a.csv", rows)
    made = evertune("new", "mine", "--data", tmp_path / "a.csv", "--output", tmp_path / "mine.yaml")
    assert made.status == 0 and words in (tmp_path / "mine.yaml").read_text()
    checked = evertune("check", tmp_path / "mine.yaml", "--json")
    assert (checked.status, checked.json["problems"]) == (0, [])
    assert checked.json["accepted"] == (108 if damaged == 12 else 120)


def test_new_says_what_no_setting_can_mend(evertune: Callable[..., Done], tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [(text, "spam") for text, _ in ticket_rows(40)])
    made = evertune("new", "mine", "--data", tmp_path / "a.csv", "--output", tmp_path / "mine.yaml")
    assert made.status == 0
    assert "a run would stop: label: every accepted row has the label 'spam'" in made.err
    assert evertune("check", tmp_path / "mine.yaml").status == 3
