"""Rows as token ids: encoded once, found again in their order, and anew where a file is damaged."""

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.errors import ConfigError, DataError
from evertune.objectives import text_classification
from evertune.runtime.context import RunContext
from evertune.runtime.files import STALE_SECONDS
from evertune.runtime.home import Home
from evertune.tokenization import token_files
from evertune.tokenization import tokenize as tokenization
from tests.helpers.model import (
    LABELS,
    TEXT,
    TOKENS,
    recipe,
    snapshot,
    table,
    tag_rows,
    text_rows,
    tokenizer,
    tokens_of,
    write_tiny_model,
)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", "tiny")


def batches(*counts: int) -> pa.Table:
    """Rows of several batches, numbered from 1."""
    rows = text_rows(sum(counts))
    numbers = [number for number, count in enumerate(counts, 1) for _ in range(count)]
    return table([{**row, "batch": number} for row, number in zip(rows, numbers, strict=True)])


def written(place: Home) -> dict[str, tuple[int, int]]:
    """Each token file with its inode and time: a file that was written again has another."""
    files = (file for file in place.tokens.rglob("*") if file.is_file())
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def test_only_fresh_batches_are_encoded(tiny_model: Path, place: Home) -> None:
    one = recipe(tiny_model)
    tokens_of(one, place, batches(20, 5))
    before = written(place)
    assert before.keys() == {"000001-000.arrow", "000002-000.arrow"}
    again = tokens_of(one, place, batches(20, 5, 7))
    after = written(place)
    assert after.keys() - before.keys() == {"000003-000.arrow"}
    assert {name: after[name] for name in before} == before
    assert [Path(file).name for file in again.files] == sorted(after)


def test_old_batches_have_one_file_together_made_of_theirs(
    tiny_model: Path, place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "GROUP", 3)
    one = recipe(tiny_model)
    rows = batches(4, 2, 3, 2, 1, 2, 3)
    for newest in range(1, 7):
        tokens_of(one, place, rows.filter(pa.array([batch <= newest for batch in rows["batch"].to_pylist()])))
    before = written(place)
    monkeypatch.setattr(
        tokenization, "_encode_missing", lambda _recipe, _rows, lacking, _spread: _only(lacking, "000007-000")
    )
    with pytest.raises(DataError, match="run again"):  # what was to be encoded is not there
        tokens_of(one, place, rows)
    assert written(place).keys() - before.keys() == {"group-000001.arrow"}
    monkeypatch.undo()
    monkeypatch.setattr(token_files, "GROUP", 3)
    tokens = tokens_of(one, place, rows)
    assert [Path(file).stem for file in tokens.files] == ["group-000000", "group-000001", "000007-000"]
    encoded = tokenization.load_tokens(tokens, rows)[:]
    assert encoded["row_version"] == rows["row_version"].to_pylist()
    older = rows.filter(pa.array([batch <= 2 for batch in rows["batch"].to_pylist()]))
    assert tokenization.load_tokens(tokens, older)[:]["row_version"] == older["row_version"].to_pylist()
    (place.tokens / Path(tokens.files[0]).parent.name / "group-000000.arrow").write_bytes(b"torn")
    assert tokenization.load_tokens(tokens_of(one, place, rows), rows)[:] == encoded


def _only(lacking: dict[Path, Any], name: str) -> None:
    assert [path.stem for path in lacking] == [name]


def test_what_is_encoded_already_needs_no_tokenizer(
    tiny_model: Path, place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe(tiny_model)
    rows = batches(10)
    first = tokens_of(one, place, rows)
    monkeypatch.delattr(tokenization, "load_tokenizer")
    assert tokens_of(one, place, rows) == first


def test_what_a_killed_process_had_written_goes_with_time(tiny_model: Path, place: Home) -> None:
    tokens_of(recipe(tiny_model), place, batches(10))
    [folder] = place.tokens.iterdir()
    old = folder / "000002-000.0a1b2c3d.part"
    young = folder / "000002-000.4e5f6a7b.part"
    for path, age in ((old, 2 * STALE_SECONDS), (young, 0)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age, time.time() - age))
    tokens_of(recipe(tiny_model), place, batches(10))
    assert (old.exists(), young.exists()) == (False, True)  # another process may be writing the young one


def test_a_superseded_row_is_left_out_and_costs_nothing(tiny_model: Path, place: Home) -> None:
    one = recipe(tiny_model)
    rows = batches(10, 3)
    tokens_of(one, place, rows)
    before = written(place)
    current = rows.filter([number not in (2, 5) for number in range(len(rows))])
    tokens = tokens_of(one, place, current)
    assert written(place) == before
    assert len(tokenization.load_tokens(tokens, current)) == 11


@given(st.permutations(range(12)), st.integers(1, 12))
@settings(deadline=None, max_examples=15)
def test_loaded_rows_come_in_the_order_of_the_rows(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, order: list[int], kept: int
) -> None:
    home = Home(tmp_path_factory.mktemp("order"), "tiny")
    rows = batches(5, 7)
    tokens = tokens_of(recipe(tiny_model), home, rows)
    wanted = rows.take(order[:kept])
    expected = text_classification.encode(wanted["text"].to_pylist(), tokenizer(), recipe(tiny_model).objective)
    found = tokenization.load_tokens(tokens, wanted)
    assert found["row_version"] == wanted["row_version"].to_pylist()
    assert found["input_ids"] == expected["input_ids"]


def test_rows_are_read_from_the_files_not_held(tiny_model: Path, place: Home) -> None:
    rows = batches(30)
    tokens = tokens_of(recipe(tiny_model), place, rows)
    assert [one["filename"] for one in tokenization.load_tokens(tokens, rows).cache_files] == list(tokens.files)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.98])
def test_a_cut_file_is_encoded_anew(tiny_model: Path, place: Home, kept: float) -> None:
    one = recipe(tiny_model)
    rows = batches(40)
    tokens = tokens_of(one, place, rows)
    whole = tokenization.load_tokens(tokens, rows)["input_ids"][:]
    file = Path(tokens.files[0])
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[: int(kept * size) if kept < 1 else int(kept)])
    assert tokens_of(one, place, rows) == tokens
    assert file.stat().st_size == size
    assert tokenization.load_tokens(tokens, rows)["input_ids"][:] == whole


def test_a_file_that_is_gone_or_lacks_a_row_is_said(tiny_model: Path, place: Home) -> None:
    one = recipe(tiny_model)
    rows = batches(10)
    tokens = tokens_of(one, place, rows)
    more = table(text_rows(11))
    with pytest.raises(DataError, match=f"{10:032x}.*run again"):
        tokenization.load_tokens(tokens, more)
    Path(tokens.files[0]).unlink()
    with pytest.raises(DataError, match="run again"):
        tokenization.load_tokens(tokens, rows)


def test_tokens_and_cut_rows_are_counted(tiny_model: Path, place: Home, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"text": "the " * count, "label": "card", "split": split}
        for count, split in ((6, "train"), (7, "train"), (50, "validation"), (1, "test"), (8, "test"))
    ]
    tokens = tokens_of(recipe(tiny_model, {**TEXT, "max_length": 9}), place, table(rows))
    assert tokens.tokens == {"train": 8 + 9, "validation": 9, "test": 3 + 9}  # [CLS] and [SEP] are tokens too
    assert tokens.truncated == 2
    assert "2 rows are longer than objective.max_length 9" in caplog.text


def test_sentences_are_encoded_with_the_places_of_their_words(tiny_model: Path, place: Home) -> None:
    rows = table(tag_rows(12))
    tokens = tokens_of(recipe(tiny_model, TOKENS), place, rows, ("O", "B-LOC", "B-PER"))
    loaded = tokenization.load_tokens(tokens, rows)
    assert [len(starts) for starts in loaded["word_starts"]] == [len(words) for words in rows["tokens"].to_pylist()]


def test_large_parts_are_encoded_in_pieces(tiny_model: Path, place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = batches(25)
    whole = tokenization.load_tokens(tokens_of(recipe(tiny_model), place, rows), rows)["input_ids"][:]
    monkeypatch.setattr(tokenization, "CHUNK", 4)
    other = Home(place.root, "other")
    assert tokenization.load_tokens(tokens_of(recipe(tiny_model), other, rows), rows)["input_ids"][:] == whole


def test_the_fingerprint_is_that_of_what_shapes_the_tokens(tiny_model: Path, place: Home, tmp_path: Path) -> None:
    one = recipe(tiny_model)
    same = recipe(tiny_model, training={"seed": 3, "epochs": 9})
    other_model = write_tiny_model(tmp_path / "other", num_hidden_layers=1)
    others = [recipe(tiny_model, {**TEXT, "max_length": 31}), recipe(tiny_model, TOKENS), recipe(other_model)]
    prints = [tokenization.fingerprint_tokens(each) for each in (one, *others)]
    assert tokenization.fingerprint_tokens(same) == prints[0]
    assert len(set(prints)) == 4
    rows = batches(4)
    assert tokens_of(one, place, rows).fingerprint != tokens_of(one, place, batches(5)).fingerprint


def test_a_full_disk_is_said(tiny_model: Path, place: Home) -> None:
    place.tokens.parent.mkdir(parents=True)
    place.tokens.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be written"):
        tokens_of(recipe(tiny_model), place, batches(3))


def broken_model(folder: Path, **change: Any) -> Path:
    return write_tiny_model(folder / "model", **change)


@pytest.mark.parametrize(
    ("change", "objective", "message"),
    [
        ({"max_position_embeddings": 20}, {**TEXT, "max_length": 21}, "max_length: 21 is more than the 20 tokens"),
        ({"special": {"cls_token": "[CLS]", "sep_token": "[SEP]"}}, TEXT, "no padding token"),
    ],
)
def test_a_base_model_that_does_not_fit_is_a_config_error(
    tmp_path: Path, place: Home, change: dict[str, Any], objective: dict[str, Any], message: str
) -> None:
    model = broken_model(tmp_path, **change)
    with pytest.raises(ConfigError, match=message):
        tokens_of(recipe(model, objective), place, batches(3))


def test_all_positions_of_a_model_can_be_used(tmp_path: Path, place: Home) -> None:
    model = write_tiny_model(tmp_path / "model", max_position_embeddings=20)
    assert tokens_of(recipe(model, {**TEXT, "max_length": 20}), place, batches(3)).files


def test_roberta_has_two_positions_less_than_it_says(tmp_path: Path, place: Home) -> None:
    from transformers import RobertaConfig, RobertaModel

    model = write_tiny_model(tmp_path / "model")
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(vocab_size=200, pad_token_id=1, max_position_embeddings=22, **size)
    RobertaModel(config).save_pretrained(model)
    with pytest.raises(ConfigError, match="max_length: 21 is more than the 20 tokens"):
        tokenization.load_tokenizer(recipe(model, {**TEXT, "max_length": 21}))
    assert tokenization.load_tokenizer(recipe(model, {**TEXT, "max_length": 20})).is_fast


def test_a_folder_without_a_tokenizer_is_a_config_error(tmp_path: Path, place: Home) -> None:
    model = write_tiny_model(tmp_path / "model")
    for file in model.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ConfigError, match="has no tokenizer"):
        tokenization.tokenize_rows(RunContext(recipe(model), place), snapshot(batches(3), LABELS), batches(3))
