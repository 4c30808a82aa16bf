"""Scoring a file with a model: every row comes back in its place, in bounded memory, whatever its format."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from registry_helpers import Shop

from evertune import scoring, sources
from evertune.errors import ConfigError, DataError
from evertune.records import Inputs

TEXTS = ["where is my card", "", "refund, please\nnow", "   ", "größe “M” – refund"]
GOOD = [bool(text.strip()) for text in TEXTS]


@pytest.fixture
def bundle(shop: Shop) -> Path:
    return Path(shop.candidate().bundle)


def chunks(*parts: list[str]) -> Iterator[Inputs]:
    for part in parts:
        yield Inputs(part, [None] * len(part), pa.table({"text": pa.array(part, pa.string())}))


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return [{key: value or None for key, value in row.items()} for row in csv.DictReader(file)]


def score(bundle: Path, parts: Iterator[Inputs], output: Path) -> tuple[int, int]:
    done = scoring.score(bundle, 7, parts, "text", output, lambda _: None)
    return done.rows, done.bad


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_row_comes_back_in_its_place(bundle: Path, tmp_path: Path, ending: str) -> None:
    output = tmp_path / "deep" / f"out{ending}"
    assert score(bundle, chunks(TEXTS[:2], TEXTS[2:]), output) == (5, 2)
    rows = read(output)
    assert [row["text"] or "" for row in rows] == TEXTS
    assert [row["label"] is not None for row in rows] == GOOD
    assert [row["problem"] for row in rows] == [None if good else "text is empty" for good in GOOD]
    assert all(0 < float(row["score"]) <= 1 for row, good in zip(rows, GOOD, strict=True) if good)
    assert {str(row["model_version"]) for row in rows} == {"7"}
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert score(bundle, chunks(TEXTS[:1]), output) == (1, 0)
    assert len(read(output)) == 1


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_files_of_every_format_are_scored(shop: Shop, bundle: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"other": [1] * 5, "text": TEXTS}), path)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS) + '{"text": \n')
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    output = tmp_path / "out.jsonl"
    broken = name.endswith("jsonl")
    found = score(bundle, sources.inputs(path, shop.recipe), output)
    assert found == (5 + broken, 2 + broken)
    rows = read(output)
    assert [row["text"] or "" for row in rows[:5]] == TEXTS
    assert all(row["problem"] for row in rows[5:])


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_files_own_columns_stay_beside_the_prediction(bundle: Path, tmp_path: Path, ending: str) -> None:
    own = {"number": ["7", "8"], "label": ["theirs", None], "input_label": ["x", "y"], "text": ["a card", ""]}
    output = tmp_path / f"out{ending}"
    score(bundle, iter([Inputs(own["text"], [None, None], pa.table(own))]), output)
    rows = read(output)
    assert list(rows[0]) == [
        "number", "input_input_label", "input_label", "text", "label", "score", "model_version", "problem",
    ]  # fmt: skip
    assert [row["number"] for row in rows] == ["7", "8"]
    assert [row["input_input_label"] for row in rows] == ["theirs", None]
    assert rows[0]["label"] in {"card", "refund"} and rows[1]["label"] is None


def test_what_is_read_is_written_before_more_is_read(bundle: Path, tmp_path: Path) -> None:
    steps: list[str] = []

    def source() -> Iterator[Inputs]:
        for part in range(4):
            steps.append("read")
            yield from chunks([f"refund {part} {number}" for number in range(50)])

    done = scoring.score(
        bundle, 1, source(), "text", tmp_path / "out.csv", lambda count: steps.append(f"wrote {count}")
    )
    assert steps == ["read", "wrote 50"] * 4
    assert done.rows == len(read(tmp_path / "out.csv")) == 200


def test_a_failure_leaves_the_old_output(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("old")

    def source() -> Iterator[Inputs]:
        yield from chunks(["refund"])
        raise DataError("the file broke off")

    with pytest.raises(DataError, match="broke off"):
        score(bundle, source(), output)
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.csv"]


def test_an_unknown_ending_and_a_place_that_cannot_be_written_are_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out\.xls: its ending must be one of \.csv, \.jsonl, \.parquet"):
        scoring.check_places(tmp_path / "in.csv", tmp_path / "out.xls")
    with pytest.raises(ConfigError, match="that is the input"):
        scoring.check_places(tmp_path / "in.csv", tmp_path / "x" / ".." / "in.csv")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        score(bundle, chunks(["a"]), tmp_path / "file" / "out.csv")


def test_a_file_without_rows_gives_an_output_without_rows(bundle: Path, tmp_path: Path) -> None:
    for ending in (".csv", ".jsonl", ".parquet"):
        assert score(bundle, chunks([]), tmp_path / f"out{ending}") == (0, 0)
        assert read(tmp_path / f"out{ending}") == []


def test_tags_and_their_scores_are_lists(tmp_path: Path) -> None:
    table = pa.table({"tokens": [["a", "b"], None], "tags": [["O", "B-X"], None]})
    flat = scoring._flat(table).to_pylist()
    assert flat == [{"tokens": '["a", "b"]', "tags": '["O", "B-X"]'}, {"tokens": None, "tags": None}]
