"""Refused rows are listed, mended, judged again and released, those of a stopped batch too: none lost, none twice."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evertune.config import Recipe
from evertune.data.contract.judge import BatchStoppedError
from evertune.data.corpus import delta_tables, staging
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.errors import DataError
from evertune.runtime.home import Home
from tests.helpers.crash import killed
from tests.helpers.data import REFUSED, TOLERANT, current, good, ingest, run, write_csv
from tests.helpers.data import make_home as home
from tests.helpers.data import make_recipe as recipe


def refused(place: Home) -> list[tuple[str, str]]:
    return [(row["text"], row["label"]) for row in quarantine.list_refused(place).to_pylist()]


def mended(place: Home, *changes: tuple[str, str, str]) -> pa.Table:
    """Rows of the listing, found by (text, label), with a new label."""
    versions = {(row["text"], row["label"]): row["row_version"] for row in quarantine.list_refused(place).to_pylist()}
    return pa.table(
        {
            "row_version": [versions[text, label] for text, label, _ in changes],
            "label": pa.array([new for _, _, new in changes]),
        }
    )


SLIP = ("a label with a slip", "crad", "card")


def test_the_listing_names_row_source_and_reasons(taken: tuple[Recipe, Home]) -> None:
    rows = quarantine.list_refused(taken[1]).to_pylist()
    assert [(row["text"], row["label"]) for row in rows] == REFUSED
    assert [(row["source"], row["source_row"], row["batch"], row["status"]) for row in rows] == [
        ("a.csv", 20 + place, 1, "refused") for place in range(4)
    ]
    assert rows[1]["reasons"] == ["label: 'crad' appears in fewer than 2 rows (contract.label.min_rows)"]


def test_a_quarantine_without_rows_is_an_empty_listing(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    one = recipe(tmp_path)
    place = home(tmp_path)
    run(one, place)
    assert len(quarantine.list_refused(place)) == 0
    assert quarantine.release_rows(one, place).batch is None


def test_a_mended_row_is_released_once(taken: tuple[Recipe, Home]) -> None:
    one, place = taken
    before = {row["row_version"]: row["split"] for row in current(place)}
    done = quarantine.release_rows(one, place, mended(place, SLIP))
    assert (done.batch, done.released, done.known, done.kept) == (2, 1, 0, 0)
    assert refused(place) == [REFUSED[0], *REFUSED[2:]]
    after = {row["row_version"]: row["split"] for row in current(place)}
    assert len(after) == 21
    assert before.items() <= after.items()
    assert [row["label"] for row in current(place) if row["text"] == SLIP[0]] == ["card"]
    assert quarantine.release_rows(one, place).released == 0
    assert ingest(one, place).rows == 0


def test_a_row_that_still_fails_stays_as_mended_with_its_new_reason(taken: tuple[Recipe, Home]) -> None:
    one, place = taken
    done = quarantine.release_rows(one, place, mended(place, (SLIP[0], SLIP[1], "crd")))
    assert (done.released, done.reasons) == (0, {"unknown label": 1})
    row = quarantine.list_refused(place).to_pylist()[-1]
    assert (row["label"], row["reasons"]) == ("crd", ["label: 'crd' is not one of the 2 known labels"])
    assert quarantine.release_rows(one, place, mended(place, (SLIP[0], "crd", "card"))).released == 1
    assert len(refused(place)) == 3


def test_rows_are_released_as_they_are_when_the_contract_changed(taken: tuple[Recipe, Home], tmp_path: Path) -> None:
    _, place = taken
    loose = recipe(tmp_path, contract={"conflicts": "keep", "label": {"values": ["card", "refund", "crad"]}})
    done = quarantine.release_rows(loose, place)
    assert (done.released, done.kept, done.reasons) == (3, 1, {"encoding damage": 1})
    assert refused(place) == [REFUSED[0]]
    versions = [row["row_version"] for row in current(place)]
    assert len(versions) == len(set(versions)) == 23
    assert ingest(loose, place).rows == 0


def test_mended_into_what_is_there_already_is_released_and_adds_nothing(taken: tuple[Recipe, Home]) -> None:
    one, place = taken
    done = quarantine.release_rows(
        one, place, mended(place, ("one text twice", "card", "card"), ("one text twice", "refund", "card"))
    )
    assert (done.released, done.known) == (2, 1)
    assert [row["label"] for row in current(place) if row["text"] == "one text twice"] == ["card"]
    assert len(refused(place)) == 2


def test_mended_into_a_row_of_the_corpus_adds_nothing(taken: tuple[Recipe, Home]) -> None:
    one, place = taken
    text, label = good(1)[0]
    file = mended(place, (SLIP[0], SLIP[1], label)).append_column("text", pa.array([text]))
    done = quarantine.release_rows(one, place, file)
    assert (done.released, done.known) == (1, 1)
    assert len(current(place)) == 20
    assert len(refused(place)) == 3


def test_released_with_another_label_than_the_corpus_has_is_refused(taken: tuple[Recipe, Home]) -> None:
    one, place = taken
    quarantine.release_rows(one, place, mended(place, ("one text twice", "card", "card")))
    done = quarantine.release_rows(one, place, mended(place, ("one text twice", "refund", "refund")))
    assert (done.released, done.reasons) == (0, {"two labels for one input": 1})


POINTS = [
    (staging, "write_log", 1),
    (delta_tables, "append_once", 1),
    (delta_tables, "append_once", 2),
    (staging, "forget_log", 1),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "name", "call"), POINTS, ids=[f"{name}-{call}" for _, name, call in POINTS])
def test_a_crash_in_a_release_loses_and_doubles_nothing(
    taken: tuple[Recipe, Home], owner: Any, name: str, call: int, when: str
) -> None:
    one, place = taken
    file = mended(place, SLIP)
    with killed(owner, name, when, call):
        quarantine.release_rows(one, place, file)
    ingest(one, place)
    if SLIP[:2] in refused(place):
        quarantine.release_rows(one, place, file)
    texts = [row["text"] for row in delta_tables.read_rows(place.corpus, ["text"]).to_pylist()]
    assert sorted(texts) == sorted([*(text for text, _ in good(20)), SLIP[0]])
    assert refused(place) == [REFUSED[0], *REFUSED[2:]]
    assert not list(place.batches.iterdir())


def test_a_release_that_was_killed_is_brought_to_its_end_by_the_next(taken: tuple[Recipe, Home]) -> None:
    one, place = taken
    file = mended(place, SLIP)
    with killed(delta_tables, "append_once", "before"):
        quarantine.release_rows(one, place, file)
    with pytest.raises(DataError, match="is no refused row, or was released already"):
        quarantine.release_rows(one, place, file)
    texts = [row["text"] for row in delta_tables.read_rows(place.corpus, ["text"]).to_pylist()]
    assert sorted(texts) == sorted([*(text for text, _ in good(20)), SLIP[0]])
    assert refused(place) == [REFUSED[0], *REFUSED[2:]]


def test_a_row_that_its_source_mended_is_no_longer_listed(tmp_path: Path) -> None:
    one = recipe(tmp_path, data={"sources": [{"path": "*.csv"}], "columns": {"id": "id"}}, **TOLERANT)
    place = home(tmp_path)
    header = ("id", "text", "label")
    rows = [(f"n{number}", *row) for number, row in enumerate(good(20))]
    write_csv(tmp_path / "a.csv", [*rows, ("x", "my text", "crad"), ("y", "my other text", "crrd")], header)
    run(one, place)
    assert len(refused(place)) == 2
    write_csv(tmp_path / "a.csv", [*rows, ("x", "my text", "card"), ("y", "my other text", "crrd")], header)
    run(one, place)
    assert refused(place) == [("my other text", "crrd")]
    assert (
        quarantine.release_rows(
            recipe(
                tmp_path, data=one.data.model_dump(), contract={"label": {"values": ["card", "refund", "crad", "crrd"]}}
            ),
            place,
        ).released
        == 1
    )
    assert {row["id"]: row["label"] for row in current(place)}["x"] == "card"


def test_rows_of_a_stopped_batch_can_be_mended_in_the_file_too(taken: tuple[Recipe, Home], tmp_path: Path) -> None:
    _, place = taken
    strict = recipe(tmp_path)
    write_csv(tmp_path / "b.csv", [*good(5, start=100), ("mend me", "crrd")])
    with pytest.raises(BatchStoppedError):
        run(strict, place)
    assert quarantine.release_rows(strict, place, mended(place, ("mend me", "crrd", "card"))).released == 1
    assert run(strict, place).accepted == 6  # with the released one
    assert ("mend me", "crrd") not in refused(place)
    assert [row["label"] for row in current(place) if row["text"] == "mend me"] == ["card"]


@pytest.fixture
def stopped(taken: tuple[Recipe, Home], tmp_path: Path) -> tuple[Recipe, Home]:
    """A corpus of 20 rows, and a batch of 30 rows that was stopped because 10 of them are refused."""
    _, place = taken
    write_csv(tmp_path / "b.csv", [*good(20, start=100), *[(f"mend me {number}", "crrd") for number in range(10)]])
    strict = recipe(tmp_path, contract={"tolerance": 0.2})
    with pytest.raises(BatchStoppedError, match="10 of 30"):
        run(strict, place)
    return strict, place


FIRST = ("mend me 0", "crrd", "card")


def test_a_release_does_not_let_the_rest_of_a_stopped_batch_pass(stopped: tuple[Recipe, Home]) -> None:
    strict, place = stopped
    assert quarantine.release_rows(strict, place, mended(place, FIRST)).released == 1
    assert [row["status"] for row in quarantine.list_refused(place).to_pylist()].count("stopped") == 9
    with pytest.raises(BatchStoppedError, match="9 of 29"):
        run(strict, place)
    edits = [(f"mend me {number}", "crrd", "card") for number in range(1, 9)]
    assert quarantine.release_rows(strict, place, mended(place, *edits)).released == 8
    assert run(strict, place).accepted == 29  # 20 of the file, 9 of the two releases
    assert refused(place)[-1] == ("mend me 9", "crrd")


def test_stopped_rows_that_fail_again_wait_as_mended_for_their_batch(stopped: tuple[Recipe, Home]) -> None:
    strict, place = stopped
    done = quarantine.release_rows(strict, place, mended(place, FIRST, ("mend me 1", "crrd", "crd")))
    assert (done.released, done.kept) == (1, 1)
    rows = {row["text"]: row for row in quarantine.list_refused(place).to_pylist()}
    assert (rows["mend me 1"]["label"], rows["mend me 1"]["status"]) == ("crd", "stopped")
    assert quarantine.release_rows(strict, place).released == 0
    with pytest.raises(BatchStoppedError, match="9 of 29"):
        run(strict, place)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["write_stopped", "write_log", "forget_log"])
def test_a_crash_in_a_release_keeps_a_stopped_batch_stopped(stopped: tuple[Recipe, Home], name: str, when: str) -> None:
    strict, place = stopped
    file = mended(place, FIRST)
    with killed(staging, name, when):
        quarantine.release_rows(strict, place, file)
    with pytest.raises(BatchStoppedError):
        run(strict, place)
    if FIRST[:2] in refused(place):
        quarantine.release_rows(strict, place, file)
    assert len(refused(place)) == 4 + 9
    assert [row["label"] for row in current(place) if row["text"] == FIRST[0]] == ["card"]


def test_a_release_waits_for_a_staged_batch_and_for_a_first_one(taken: tuple[Recipe, Home], tmp_path: Path) -> None:
    one, place = taken
    write_csv(tmp_path / "b.csv", good(5, start=100))
    batch = ingest(one, place)
    with pytest.raises(DataError, match="staged and not judged"):
        quarantine.release_rows(one, place)
    assert batch.rows == run(one, place).accepted
    empty = Home(tmp_path / "other", "kept-rows")
    with pytest.raises(DataError, match="no accepted rows"):
        quarantine.release_rows(one, empty)
    with pytest.raises(DataError, match="no rows yet"):
        quarantine.list_refused(empty)


def test_two_releases_at_once_do_not_overwrite_each_other(
    taken: tuple[Recipe, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, place = taken
    number = corpus.last_number
    file = mended(place, SLIP)
    monkeypatch.setattr(corpus, "last_number", lambda home: number(home) - 1)  # as seen before the other one committed
    with pytest.raises(DataError, match="run again"):
        quarantine.release_rows(one, place, file)
    monkeypatch.setattr(corpus, "last_number", number)
    assert quarantine.release_rows(one, place, file).released == 1
