"""Scoring a file with a model: every row comes back in its place, in bounded memory, whatever its format."""

import contextlib
import csv
import errno
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evertune.data.sources import read as sources
from evertune.errors import ConfigError, DataError
from evertune.records import Inputs
from evertune.serving import scoring
from tests.helpers.registry import Shop

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
    done = scoring.score_file(bundle, 7, parts, "text", output, lambda _: None)
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
    found = score(bundle, sources.read_inputs(path, shop.recipe), output)
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
        "number",
        "input_input_label",
        "input_label",
        "text",
        "label",
        "score",
        "model_version",
        "problem",
    ]
    assert [row["number"] for row in rows] == ["7", "8"]
    assert [row["input_input_label"] for row in rows] == ["theirs", None]
    assert rows[0]["label"] in {"card", "refund"} and rows[1]["label"] is None


def test_at_most_three_chunks_are_held_at_a_time_whatever_the_size_of_the_file(bundle: Path, tmp_path: Path) -> None:
    held = 0
    most = 0

    def source() -> Iterator[Inputs]:
        nonlocal held, most
        for part in range(12):
            held += 1
            most = max(most, held)
            yield from chunks([f"refund {part} {number}" for number in range(50)])

    def tick(count: int) -> None:
        nonlocal held
        assert count == 50
        held -= 1

    done = scoring.score_file(bundle, 1, source(), "text", tmp_path / "out.csv", tick)
    assert (held, done.rows) == (0, 600)
    assert most <= 4  # three, and the one whose writing has ended but is not yet counted
    assert [row["text"] for row in read(tmp_path / "out.csv")][::50] == [f"refund {part} 0" for part in range(12)]


def test_a_full_disk_ends_the_job_and_is_said(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def source() -> Iterator[Inputs]:
        for part in range(50):
            asked.append(part)
            yield from chunks(["refund"] * 5)

    real = scoring._make_writer

    def filling(path: Path, kind: str, stack: contextlib.ExitStack) -> Any:
        write = real(path, kind, stack)
        written = []

        def until_full(table: pa.Table) -> None:
            if len(written) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(write(table))

        return until_full

    monkeypatch.setattr(scoring, "_make_writer", filling)
    with pytest.raises(DataError, match=r"out\.csv: cannot be written: No space left on device"):
        score(bundle, source(), tmp_path / "out.csv")
    assert len(asked) <= 6 and not any("out" in path.name for path in tmp_path.iterdir())
    assert not any(thread.name.startswith(("ahead", "behind")) for thread in threading.enumerate())


def test_ctrl_c_ends_all_stages_and_leaves_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scoring.bundle.split_stages

    def stages(predictor: Any) -> Any:
        encode, answer = real(predictor)
        calls: list[Any] = []

        def interrupted(examples: Any) -> Any:
            if len(calls) == 2:
                signal.raise_signal(signal.SIGINT)
            calls.append(None)
            return answer(examples)

        return encode, interrupted

    monkeypatch.setattr(scoring.bundle, "split_stages", stages)
    with pytest.raises(KeyboardInterrupt):
        score(bundle, chunks(*[["refund"]] * 9), tmp_path / "out.jsonl")
    assert not any("out" in path.name for path in tmp_path.iterdir())
    assert not any(thread.name.startswith(("ahead", "behind")) for thread in threading.enumerate())


def test_a_bundle_of_older_code_is_scored_too(bundle: Path, tmp_path: Path) -> None:
    score(bundle, chunks(TEXTS), tmp_path / "new.jsonl")
    code = bundle / "code" / "inference.py"
    older = code.read_text().replace("def encode", "def _encode").replace("self.encode", "self._encode")
    code.write_text(older)
    old = bundle.rename(bundle.with_name("older"))
    score(old, chunks(TEXTS), tmp_path / "old.jsonl")
    assert read(tmp_path / "old.jsonl") == read(tmp_path / "new.jsonl")


def test_a_failure_leaves_the_old_output(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("old")

    def source() -> Iterator[Inputs]:
        yield from chunks(["refund"], ["card"], ["refund"])
        raise DataError("the file broke off")

    with pytest.raises(DataError, match="broke off"):
        score(bundle, source(), output)
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.csv"]


def test_an_unknown_ending_and_a_place_that_cannot_be_written_are_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out\.xls: the file extension must be one of \.csv, \.jsonl, \.parquet"):
        scoring.check_paths(tmp_path / "in.csv", tmp_path / "out.xls")
    with pytest.raises(ConfigError, match="this is the input file"):
        scoring.check_paths(tmp_path / "in.csv", tmp_path / "x" / ".." / "in.csv")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        score(bundle, chunks(["a"]), tmp_path / "file" / "out.csv")


def test_a_file_without_rows_gives_an_output_without_rows(bundle: Path, tmp_path: Path) -> None:
    for ending in (".csv", ".jsonl", ".parquet"):
        assert score(bundle, chunks([]), tmp_path / f"out{ending}") == (0, 0)
        assert read(tmp_path / f"out{ending}") == []


def test_tags_and_their_scores_are_lists(tmp_path: Path) -> None:
    table = pa.table({"tokens": [["a", "b"], None], "tags": [["O", "B-X"], None]})
    flat = scoring._flatten_nested(table).to_pylist()
    assert flat == [{"tokens": '["a", "b"]', "tags": '["O", "B-X"]'}, {"tokens": None, "tags": None}]
