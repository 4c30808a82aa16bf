"""The logs of the tables tell no text of a forgotten row, whatever Delta's own compaction wrote into them."""

from pathlib import Path

import pytest

from evertune.audit.forgetting import forget as forgetting
from evertune.data.corpus import delta_tables
from evertune.data.corpus import transactions as corpus
from evertune.registry.versions import lineage
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from tests.helpers.data import current, good, run, write_csv
from tests.helpers.forget import HEADER, SECRET, kept, loaded, shown


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(lineage, "list_trained_versions", lambda *_: [])
    monkeypatch.setattr(lineage, "find_external_store", lambda *_: None)
    return Home(tmp_path / "home", "kept-rows")


@pytest.mark.parametrize("made", ["now", "before"])
def test_the_log_of_the_tables_holds_no_text(
    tmp_path: Path, place: Home, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delta's compaction and checkpoints tell a file's least and greatest text, unless they are told not to."""
    monkeypatch.setattr(delta_tables, "MANY", 3)
    if made == "before":  # by an Evertune that did not tell
        monkeypatch.setattr(delta_tables, "SETTINGS", {"delta.checkpointInterval": "2"})
    one = loaded(tmp_path)  # a sign at which `splitlines` would cut an entry
    first = f"00\u2028{SECRET}"
    for day in range(4):
        rows = [(*row, f"c{day}-{number}") for number, row in enumerate(good(4, 4 * day + 10))]
        write_csv(tmp_path / f"{day}.csv", [*rows, *([(first, "card", "ada")] if day == 1 else [])], HEADER)
        run(one, place)
    log = place.corpus / "_delta_log"
    assert any("OPTIMIZE" in path.read_text() for path in log.glob("*.json"))
    told = [path.suffix for path, content in kept(log) if SECRET in content]
    assert set(told) == ({".json", ".parquet"} if made == "before" else set())
    old = corpus.read_rows(place, 2)
    forgetting.forget_rows(RunContext(one, place), {"id": ["ada"]}, "a letter")
    assert shown(place.root, "lovelace") == set()
    delta_tables._open_tables.clear()
    assert corpus.read_rows(place, 2).to_pylist() == [row for row in old.to_pylist() if row["id"] != "ada"]
    assert len(current(place)) == 16


def test_a_table_of_an_older_version_stops_telling_texts(
    tmp_path: Path, place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loaded(tmp_path)
    with monkeypatch.context() as before:
        before.setattr(delta_tables, "SETTINGS", {})
        write_csv(tmp_path / "0.csv", [(*row, f"a{number}") for number, row in enumerate(good(4))], HEADER)
        run(one, place)
    monkeypatch.setattr(delta_tables, "MANY", 2)
    write_csv(tmp_path / "1.csv", [(*row, f"b{number}") for number, row in enumerate(good(4, 4))], HEADER)
    run(one, place)
    assert len(delta_tables.list_files(place.corpus)) == 1
    assert not any("alpha" in content for _, content in kept(place.corpus / "_delta_log"))
