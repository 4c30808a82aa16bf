"""Refused rows are listed, mended, judged again and released, also those of a stopped batch: none lost, none twice."""

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
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from tests.helpers.crash import killed
from tests.helpers.data import REFUSED, TOLERANT, current, good, ingest, make_home, make_recipe, run, write_csv


def list_refused_pairs(home: Home) -> list[tuple[str, str]]:
    return [(row["text"], row["label"]) for row in quarantine.list_refused(home).to_pylist()]


def make_edits(home: Home, *changes: tuple[str, str, str]) -> pa.Table:
    """Rows of the listing, found by (text, label), with a new label."""
    versions = {(row["text"], row["label"]): row["row_version"] for row in quarantine.list_refused(home).to_pylist()}
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
        ("a.csv", 20 + number, 1, "refused") for number in range(4)
    ]
    assert rows[1]["reasons"] == ["label: 'crad' appears in fewer than 2 rows (contract.label.min_rows)"]


def test_a_quarantine_without_rows_is_an_empty_listing(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    run(recipe, home)
    assert len(quarantine.list_refused(home)) == 0
    assert quarantine.release_rows(RunContext(recipe, home)).batch is None


def test_a_mended_row_is_released_once(taken: tuple[Recipe, Home]) -> None:
    recipe, home = taken
    before = {row["row_version"]: row["split"] for row in current(home)}
    release = quarantine.release_rows(RunContext(recipe, home), make_edits(home, SLIP))
    assert (release.batch, release.released, release.known, release.kept) == (2, 1, 0, 0)
    assert list_refused_pairs(home) == [REFUSED[0], *REFUSED[2:]]
    after = {row["row_version"]: row["split"] for row in current(home)}
    assert len(after) == 21
    assert before.items() <= after.items()
    assert [row["label"] for row in current(home) if row["text"] == SLIP[0]] == ["card"]
    assert quarantine.release_rows(RunContext(recipe, home)).released == 0
    assert ingest(recipe, home).rows == 0


def test_a_row_that_still_fails_stays_as_mended_with_its_new_reason(taken: tuple[Recipe, Home]) -> None:
    recipe, home = taken
    release = quarantine.release_rows(RunContext(recipe, home), make_edits(home, (SLIP[0], SLIP[1], "crd")))
    assert (release.released, release.reasons) == (0, {"unknown label": 1})
    row = quarantine.list_refused(home).to_pylist()[-1]
    assert (row["label"], row["reasons"]) == ("crd", ["label: 'crd' is not one of the 2 known labels"])
    assert quarantine.release_rows(RunContext(recipe, home), make_edits(home, (SLIP[0], "crd", "card"))).released == 1
    assert len(list_refused_pairs(home)) == 3


def test_rows_are_released_as_they_are_when_the_contract_changed(taken: tuple[Recipe, Home], tmp_path: Path) -> None:
    _, home = taken
    loose = make_recipe(tmp_path, contract={"conflicts": "keep", "label": {"values": ["card", "refund", "crad"]}})
    release = quarantine.release_rows(RunContext(loose, home))
    assert (release.released, release.kept, release.reasons) == (3, 1, {"encoding damage": 1})
    assert list_refused_pairs(home) == [REFUSED[0]]
    versions = [row["row_version"] for row in current(home)]
    assert len(versions) == len(set(versions)) == 23
    assert ingest(loose, home).rows == 0


def test_two_rows_mended_into_one_add_one(taken: tuple[Recipe, Home]) -> None:
    recipe, home = taken
    release = quarantine.release_rows(
        RunContext(recipe, home),
        make_edits(home, ("one text twice", "card", "card"), ("one text twice", "refund", "card")),
    )
    assert (release.released, release.known) == (2, 1)
    assert [row["label"] for row in current(home) if row["text"] == "one text twice"] == ["card"]
    assert len(list_refused_pairs(home)) == 2


def test_mended_into_a_row_of_the_corpus_adds_nothing(taken: tuple[Recipe, Home]) -> None:
    recipe, home = taken
    text, label = good(1)[0]
    edits = make_edits(home, (SLIP[0], SLIP[1], label)).append_column("text", pa.array([text]))
    release = quarantine.release_rows(RunContext(recipe, home), edits)
    assert (release.released, release.known) == (1, 1)
    assert len(current(home)) == 20
    assert len(list_refused_pairs(home)) == 3


def test_released_with_another_label_than_the_corpus_has_is_refused(taken: tuple[Recipe, Home]) -> None:
    recipe, home = taken
    quarantine.release_rows(RunContext(recipe, home), make_edits(home, ("one text twice", "card", "card")))
    release = quarantine.release_rows(
        RunContext(recipe, home), make_edits(home, ("one text twice", "refund", "refund"))
    )
    assert (release.released, release.reasons) == (0, {"two labels for one input": 1})


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
    recipe, home = taken
    edits = make_edits(home, SLIP)
    with killed(owner, name, when, call):
        quarantine.release_rows(RunContext(recipe, home), edits)
    ingest(recipe, home)
    if SLIP[:2] in list_refused_pairs(home):
        quarantine.release_rows(RunContext(recipe, home), edits)
    texts = [row["text"] for row in delta_tables.read_rows(home.corpus, ["text"]).to_pylist()]
    assert sorted(texts) == sorted([*(text for text, _ in good(20)), SLIP[0]])
    assert list_refused_pairs(home) == [REFUSED[0], *REFUSED[2:]]
    assert not list(home.batches.iterdir())


def test_a_killed_release_is_finished_by_the_next(taken: tuple[Recipe, Home]) -> None:
    recipe, home = taken
    edits = make_edits(home, SLIP)
    with killed(delta_tables, "append_once", "before"):
        quarantine.release_rows(RunContext(recipe, home), edits)
    with pytest.raises(DataError, match="is not a refused row, or was already released"):
        quarantine.release_rows(RunContext(recipe, home), edits)
    texts = [row["text"] for row in delta_tables.read_rows(home.corpus, ["text"]).to_pylist()]
    assert sorted(texts) == sorted([*(text for text, _ in good(20)), SLIP[0]])
    assert list_refused_pairs(home) == [REFUSED[0], *REFUSED[2:]]


def test_a_row_that_its_source_mended_is_no_longer_listed(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, data={"sources": [{"path": "*.csv"}], "columns": {"id": "id"}}, **TOLERANT)
    home = make_home(tmp_path)
    header = ("id", "text", "label")
    rows = [(f"n{number}", *row) for number, row in enumerate(good(20))]
    write_csv(tmp_path / "a.csv", [*rows, ("x", "my text", "crad"), ("y", "my other text", "crrd")], header)
    run(recipe, home)
    assert len(list_refused_pairs(home)) == 2
    write_csv(tmp_path / "a.csv", [*rows, ("x", "my text", "card"), ("y", "my other text", "crrd")], header)
    run(recipe, home)
    assert list_refused_pairs(home) == [("my other text", "crrd")]
    assert (
        quarantine.release_rows(
            RunContext(
                make_recipe(
                    tmp_path,
                    data=recipe.data.model_dump(),
                    contract={"label": {"values": ["card", "refund", "crad", "crrd"]}},
                ),
                home,
            ),
        ).released
        == 1
    )
    assert {row["id"]: row["label"] for row in current(home)}["x"] == "card"


def test_rows_of_a_stopped_batch_can_be_mended_in_the_file_too(taken: tuple[Recipe, Home], tmp_path: Path) -> None:
    _, home = taken
    strict = make_recipe(tmp_path)
    write_csv(tmp_path / "b.csv", [*good(5, start=100), ("mend me", "crrd")])
    with pytest.raises(BatchStoppedError):
        run(strict, home)
    assert (
        quarantine.release_rows(RunContext(strict, home), make_edits(home, ("mend me", "crrd", "card"))).released == 1
    )
    assert run(strict, home).accepted == 6  # the released one included
    assert ("mend me", "crrd") not in list_refused_pairs(home)
    assert [row["label"] for row in current(home) if row["text"] == "mend me"] == ["card"]


@pytest.fixture
def stopped(taken: tuple[Recipe, Home], tmp_path: Path) -> tuple[Recipe, Home]:
    """A corpus of 20 rows, and a batch of 30 rows that was stopped because 10 of them are refused."""
    _, home = taken
    write_csv(tmp_path / "b.csv", [*good(20, start=100), *[(f"mend me {number}", "crrd") for number in range(10)]])
    strict = make_recipe(tmp_path, contract={"tolerance": 0.2})
    with pytest.raises(BatchStoppedError, match="10 of 30"):
        run(strict, home)
    return strict, home


FIRST = ("mend me 0", "crrd", "card")


def test_a_release_does_not_let_the_rest_of_a_stopped_batch_pass(stopped: tuple[Recipe, Home]) -> None:
    strict, home = stopped
    assert quarantine.release_rows(RunContext(strict, home), make_edits(home, FIRST)).released == 1
    assert [row["status"] for row in quarantine.list_refused(home).to_pylist()].count("stopped") == 9
    with pytest.raises(BatchStoppedError, match="9 of 29"):
        run(strict, home)
    edits = [(f"mend me {number}", "crrd", "card") for number in range(1, 9)]
    assert quarantine.release_rows(RunContext(strict, home), make_edits(home, *edits)).released == 8
    assert run(strict, home).accepted == 29  # 20 of the file, 9 of the two releases
    assert list_refused_pairs(home)[-1] == ("mend me 9", "crrd")


def test_stopped_rows_that_fail_again_wait_as_mended_for_their_batch(stopped: tuple[Recipe, Home]) -> None:
    strict, home = stopped
    release = quarantine.release_rows(RunContext(strict, home), make_edits(home, FIRST, ("mend me 1", "crrd", "crd")))
    assert (release.released, release.kept) == (1, 1)
    rows = {row["text"]: row for row in quarantine.list_refused(home).to_pylist()}
    assert (rows["mend me 1"]["label"], rows["mend me 1"]["status"]) == ("crd", "stopped")
    assert quarantine.release_rows(RunContext(strict, home)).released == 0
    with pytest.raises(BatchStoppedError, match="9 of 29"):
        run(strict, home)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["write_stopped", "write_log", "forget_log"])
def test_a_crash_in_a_release_keeps_a_stopped_batch_stopped(stopped: tuple[Recipe, Home], name: str, when: str) -> None:
    strict, home = stopped
    edits = make_edits(home, FIRST)
    with killed(staging, name, when):
        quarantine.release_rows(RunContext(strict, home), edits)
    with pytest.raises(BatchStoppedError):
        run(strict, home)
    if FIRST[:2] in list_refused_pairs(home):
        quarantine.release_rows(RunContext(strict, home), edits)
    assert len(list_refused_pairs(home)) == 4 + 9
    assert [row["label"] for row in current(home) if row["text"] == FIRST[0]] == ["card"]


def test_a_release_waits_for_a_staged_batch_and_for_a_first_one(taken: tuple[Recipe, Home], tmp_path: Path) -> None:
    recipe, home = taken
    write_csv(tmp_path / "b.csv", good(5, start=100))
    batch = ingest(recipe, home)
    with pytest.raises(DataError, match="staged but not judged"):
        quarantine.release_rows(RunContext(recipe, home))
    assert batch.rows == run(recipe, home).accepted
    empty = Home(tmp_path / "other", "kept-rows")
    with pytest.raises(DataError, match="no accepted rows"):
        quarantine.release_rows(RunContext(recipe, empty))
    with pytest.raises(DataError, match="no rows yet"):
        quarantine.list_refused(empty)


def test_two_releases_at_once_do_not_overwrite_each_other(
    taken: tuple[Recipe, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, home = taken
    number = corpus.last_number
    edits = make_edits(home, SLIP)
    monkeypatch.setattr(corpus, "last_number", lambda home: number(home) - 1)  # as seen before the other one committed
    with pytest.raises(DataError, match="run again"):
        quarantine.release_rows(RunContext(recipe, home), edits)
    monkeypatch.setattr(corpus, "last_number", number)
    assert quarantine.release_rows(RunContext(recipe, home), edits).released == 1
