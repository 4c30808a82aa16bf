"""Rows that are forgotten are nowhere any more, stay away, and take nothing else with them; whatever crashes."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evertune.audit.forgetting import forget as forgetting
from evertune.audit.forgetting import pages
from evertune.audit.forgetting import write_ahead as intent
from evertune.config import Recipe
from evertune.data.corpus import removal, staging, tombstones
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.errors import DataError, RegistryError
from evertune.records import Outcome
from evertune.registry.decisions import ledger
from evertune.runs import up_to_date as conclusion
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home
from tests.helpers.cli import Done
from tests.helpers.crash import killed
from tests.helpers.data import TOLERANT, current, good, ingest, run, write_csv
from tests.helpers.data import make_recipe as recipe
from tests.helpers.forget import HEADER, SECRET, kept, loaded, shown

OTHER = "grace hopper found a moth between the relays of her machine"
BROKEN = "the caf\u00c3\u00a9 where alan turing sat each sunday morning"


@pytest.fixture
def place(tmp_path: Path, model_store: Path) -> Home:
    shutil.copytree(model_store.with_name("empty") / "mlflow", tmp_path / "home" / "mlflow")
    return Home(tmp_path / "home", "kept-rows")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two batches: Ada's row and its correction, a refused row of Alan's, and others; token files and pages of them."""
    folder = tmp_path_factory.mktemp("people")
    one = loaded(folder)
    place = Home(folder / "home", "kept-rows")
    rows = [(*row, f"c{number}") for number, row in enumerate(good(20))]
    people = [(SECRET, "card", "ada"), (OTHER, "refund", "grace"), (BROKEN, "card", "alan")]
    write_csv(folder / "a.csv", [*rows, *people], HEADER)
    run(one, place)
    fresh = [(*row, f"d{number}") for number, row in enumerate(good(4, 50))]
    write_csv(folder / "b.csv", [(f"{SECRET} again", "refund", "ada"), *fresh], HEADER)
    run(one, place)
    _show(place)
    return folder


@pytest.fixture
def people(project: Path, place: Home) -> tuple[Recipe, Home]:
    shutil.copytree(project, place.root.parent, dirs_exist_ok=True)
    return loaded(place.root.parent), place


def more(count: int) -> list[tuple[str, str, str]]:
    """Rows of others that come later."""
    return [(*row, f"e{number}") for number, row in enumerate(good(count, 80))]


def _show(place: Home) -> None:
    """What steps leave behind that shows texts."""
    folder = place.runs / "r1"
    inputs = [SECRET, OTHER]
    write_json(
        folder / "parity.json", {"role": "text", "inputs": inputs, "predictions": [{"label": "a"}, {"label": "b"}]}
    )
    write_json(
        folder / "details.json", {"changed": [{"input": f"{SECRET} again"[:40], "target": "card"}], "names": ["card"]}
    )
    (folder / "report").mkdir()
    cells = f"<td>{SECRET}</td><td>{OTHER}</td>"
    (folder / "report" / "report.html").write_text(f"<html><table><tr>{cells}</tr></table></html>", encoding="utf-8")
    (folder / "checkpoints").mkdir()
    pq.write_table(pa.table({"text": inputs, "score": [0.5, 0.5]}), place.model / "scores.parquet")
    versions = corpus.read_rows(place, corpus.newest_version(place))["row_version"]
    for name, part in (("000001-000", versions[:22]), ("000002-000", versions[22:])):
        path = place.tokens / "key" / f"{name}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as sink:
            table = pa.table({"row_version": part})
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    logs = place.root / "up"
    logs.mkdir()
    (logs / "worker.log").write_text(f"refused: a.csv, row 22 | {BROKEN!r}\nall is well\n", encoding="utf-8")


def forget(people: tuple[Recipe, Home], *ids: str, **how: Any) -> forgetting.Forgotten:
    return forgetting.forget_rows(RunContext(*people), {"id": ids}, "a letter", **how)


def test_no_file_holds_a_forgotten_row(people: tuple[Recipe, Home]) -> None:
    _, place = people
    assert len(shown(place.root, "lovelace", "turing")) == 8  # two batches, the quarantine, three pages, scores, a log
    done = forget(people, "ada", "alan")
    assert done.rows == {"corpus": 2, "quarantine": 1, "batches": 0}
    assert shown(place.root, "lovelace", "turing") == set()
    assert not any("'ada'" in content or '"ada"' in content for _, content in kept(place.root))


def test_all_else_is_as_it_was(people: tuple[Recipe, Home]) -> None:
    _, place = people
    before = current(place)
    forget(people, "ada", "alan")
    assert current(place) == [row for row in before if row["id"] != "ada"]
    assert read_json(place.runs / "r1" / "parity.json")["inputs"] == [OTHER]
    assert OTHER in (place.runs / "r1" / "report" / "report.html").read_text()
    assert pq.read_table(place.model / "scores.parquet")["text"].to_pylist() == [OTHER]
    assert (place.root / "up" / "worker.log").read_text().endswith("all is well\n")
    assert [path.stem for path in place.tokens.rglob("*.arrow")] == ["000002-000"]
    assert not (place.runs / "r1" / "checkpoints").exists()


def test_an_older_version_is_still_there_without_the_row(people: tuple[Recipe, Home]) -> None:
    _, place = people
    old = corpus.read_rows(place, 1)
    forget(people, "ada")
    again = corpus.read_rows(place, 1)
    assert again.to_pylist() == [row for row in old.to_pylist() if row["id"] != "ada"]
    assert sum(corpus.fingerprint_contents(place, 1)[1].values()) == len(old) - 1
    assert (corpus.batch_of(place, 1), corpus.last_number(place)) == (1, 2)


def test_a_forgotten_row_is_never_taken_in_again(
    people: tuple[Recipe, Home], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, place = people
    forget(people, "ada", "alan")
    rows = [(SECRET, "card", "ada"), ("her words, mended", "card", "ada"), (BROKEN, "card", "alan")]
    write_csv(tmp_path / "c.csv", [*rows, *more(4)], HEADER)
    with caplog.at_level(logging.INFO):
        batch = ingest(one, place)
    assert (batch.rows, batch.read) == (4, 4)
    assert "skipped 3 source rows because they were forgotten" in caplog.text


def test_an_unknown_id_is_named_and_nothing_is_lost(people: tuple[Recipe, Home]) -> None:
    _, place = people
    before = dict(kept(place.model))
    with pytest.raises(DataError, match="no rows for 1 of the 2 given names: nobody; nothing was forgotten"):
        forget(people, "ada", "nobody")
    assert {path: text for path, text in kept(place.model) if path.parent != place.forgotten} == before


def test_a_dry_run_changes_nothing(people: tuple[Recipe, Home]) -> None:
    _, place = people
    before = dict(kept(place.model))
    done = forget(people, "ada", dry_run=True)
    assert (done.rows["corpus"], done.files) == (2, {"pages": 4, "tokens": 1})
    assert dict(kept(place.model)) == before


def test_who_was_forgotten_before_is_no_stranger(people: tuple[Recipe, Home]) -> None:
    forget(people, "ada")
    again = forget(people, "ada", "grace")
    assert (again.known, again.rows["corpus"]) == (1, 1)
    assert [one["rows"]["corpus"] for one in ledger.read_entries(people[1])] == [2, 1]


STEPS = [
    (intent, "write_intent", "after"),
    (tombstones, "add_digests", "after"),
    (pages, "clean_pages", "after"),
    (removal, "remove_rows", "after"),
    (removal, "_replace_file", "after"),
    (removal, "_rewrite_table", "after"),
    (removal, "_drop_past", "before"),
    (intent, "add_gone_rows", "after"),
    (conclusion, "invalidate_conclusion", "after"),
    (intent, "clear_intent", "before"),
]


@pytest.mark.parametrize(("owner", "name", "when"), STEPS, ids=[f"{name}-{when}" for _, name, when in STEPS])
def test_what_a_crash_cuts_off_is_finished(people: tuple[Recipe, Home], owner: Any, name: str, when: str) -> None:
    _, place = people
    with killed(owner, name, when):
        forget(people, "ada", "alan")
    assert (place.forgotten / conclusion.INTENT).exists()  # by which the next run knows
    forgetting.resume_forgetting(place)
    assert shown(place.root, "lovelace", "turing") == set()
    assert len(current(place)) == 25
    assert [one["rows"]["corpus"] for one in ledger.read_entries(place)] == [2]
    now = corpus.newest_version(place)
    assert forgetting.count_lost_rows(place, 1, 1) == forgetting.count_lost_rows(place, 2, 2) != {}
    assert forgetting.count_lost_rows(place, now, 2) == {}  # it never had them


def test_rows_that_wait_are_forgotten_too(people: tuple[Recipe, Home], tmp_path: Path) -> None:
    one, place = people
    write_csv(tmp_path / "c.csv", [("a third word of ada lovelace", "card", "ada"), *more(3)], HEADER)
    ingest(one, place)
    assert forget(people, "ada").rows == {"corpus": 2, "quarantine": 0, "batches": 1}
    assert run(one, place).rows["train"] > 0
    assert len([row for row in current(place) if row["id"].startswith("e")]) == 3


def test_a_stopped_batch_forgets(people: tuple[Recipe, Home], tmp_path: Path) -> None:
    one, place = people
    write_csv(tmp_path / "c.csv", [(f"{BROKEN} {n}", "card", f"x{n}") for n in range(9)], HEADER)
    with pytest.raises(DataError, match="stopped the batch"):
        run(one, place)
    assert forget(people, "x3").rows["batches"] == 1
    left = staging.read_stopped(place)
    assert left is not None and len(left) == 8


def test_without_an_id_a_row_is_its_text(tmp_path: Path, place: Home) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), (SECRET, "card"), (SECRET, "card"), (BROKEN, "card")])
    one = recipe(tmp_path, **TOLERANT)
    run(one, place)
    name = quarantine.list_refused(place)["row_version"][0].as_py()
    assert forgetting.forget_rows(RunContext(one, place), {"id": [name]}, "why").rows == {
        "corpus": 0,
        "quarantine": 1,
        "batches": 0,
    }
    assert forgetting.forget_rows(RunContext(one, place), {"text": [SECRET.upper() + "!"]}, "why").rows["corpus"] == 2
    assert shown(place.root, "lovelace", "turing") == set()
    write_csv(tmp_path / "b.csv", [(SECRET, "refund"), *good(4, 60)])
    assert ingest(one, place).rows == 4


def test_two_thousand_at_once(tmp_path: Path, place: Home) -> None:
    write_csv(tmp_path / "a.csv", [(*row, f"c{number}") for number, row in enumerate(good(2100))], HEADER)
    one = recipe(
        tmp_path, data={"sources": [{"path": "*.csv"}], "columns": {"id": "id"}, "split": {"near_duplicate": None}}
    )
    run(one, place)
    assert forget((one, place), *(f"c{number}" for number in range(2000))).rows["corpus"] == 2000
    assert sorted(int(row["id"][1:]) for row in current(place)) == list(range(2000, 2100))


def test_the_next_run_is_not_unchanged(people: tuple[Recipe, Home]) -> None:
    one, place = people
    snapshot = corpus.take_snapshot(place)
    done = Outcome("promoted", "", "kept-rows", 1, 1, "r", {}, {"refused": 0}, {}, {}, None)
    one = one.model_copy(update={"base_model": "some/hub-id"})
    conclusion.record_conclusion(RunContext(one, place), snapshot, done)

    def same(*_: Any) -> Any:
        return read_json(place.state)["sources"]

    assert conclusion.check_before_start(RunContext(one, place), same) is not None
    forget(people, "ada")
    assert conclusion.check_before_start(RunContext(one, place), same) is None
    assert conclusion.check_after_reading(RunContext(one, place), corpus.take_snapshot(place)) is None


def test_what_is_at_work_is_not_disturbed(people: tuple[Recipe, Home], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "WAIT", 0.1)
    for work in ("run", "backtest", "search"):
        with people[1].lock(work), pytest.raises(RegistryError, match=f"{work} lock"):
            forget(people, "ada")


def test_the_key_is_needed(people: tuple[Recipe, Home]) -> None:
    one, place = people
    forget(people, "ada")
    (place.forgotten / "key").unlink()
    with pytest.raises(DataError, match="key is missing"):
        ingest(one, place)


def test_the_command_tells_what_goes_and_what_is_out_of_reach(
    people: tuple[Recipe, Home], evertune: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(people[1].root))
    (tmp_path / "ids.txt").write_text("ada\n\nalan\n", encoding="utf-8")
    given = ("forget", tmp_path / "recipe.yaml", "--ids-file", tmp_path / "ids.txt", "--reason", "a letter")
    dry = evertune(*given, "--dry-run").out
    assert dry.startswith("would be removed  3 row versions: 2 in the corpus, 1 in the quarantine")
    done = evertune(*given, "--json")
    assert (done.json["rows"]["corpus"], done.json["dry_run"]) == (2, False)
    assert "2 of the named ids were forgotten before" in evertune(*given).out
    assert evertune("forget", tmp_path / "recipe.yaml", "--id", "nobody", "--reason", "x").status == 3
    assert evertune("forget", tmp_path / "recipe.yaml", "--reason", "x").status == 2
    assert evertune("forget", tmp_path / "recipe.yaml", "--ids-file", tmp_path / "no.txt", "--reason", "x").status == 3
