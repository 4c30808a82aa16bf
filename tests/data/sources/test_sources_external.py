"""Rows from databases, Delta tables, `datasets` and the sample corpus."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from evertune.config import Recipe
from evertune.data.sources import read as sources
from evertune.data.sources import sql
from evertune.data.sources.redact import redact_message, redact_url
from evertune.errors import ConfigError, DataError

VECTOR = "^Bg9^0rr910000000000iXQKl0rr91000315c8Xg0rrl5"
SINCE = "SELECT id, text, label FROM tickets WHERE (:cursor IS NULL OR id > :cursor)"


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "tickets.db")
    connection.execute("CREATE TABLE tickets (id INTEGER, text TEXT, label INTEGER)")
    insert_tickets(connection, 1, 2)
    return connection


def insert_tickets(database: sqlite3.Connection, *ids: int) -> None:
    database.executemany("INSERT INTO tickets VALUES (?, ?, 0)", [(number, f"text {number}") for number in ids])
    database.commit()


def read_error(recipe: Recipe) -> str:
    """Return the message of the DataError that reading raises."""
    with pytest.raises(DataError) as error:
        list(sources.read_sources(recipe, {}))
    return str(error.value)


def test_a_query_is_scanned_whole_and_given_when_it_changed(
    database: sqlite3.Connection, source_recipe: Callable[..., Recipe]
) -> None:
    recipe = source_recipe({"sql": "SELECT * FROM tickets", "url": "sqlite:///tickets.db", "split": "train"}, id="id")
    assert sources.fingerprints(recipe, {}) is None
    (piece,) = sources.read_sources(recipe, {})
    assert piece.uri.startswith("sql:")
    assert piece.table.select(["text", "label", "id", "given_split"]).to_pylist()[1] == {
        "text": "text 2",
        "label": "0",
        "id": "2",
        "given_split": "train",
    }
    assert list(sources.read_sources(recipe, {piece.uri: piece.fingerprint})) == []
    insert_tickets(database, 3)
    (after,) = sources.read_sources(recipe, {piece.uri: piece.fingerprint})
    assert after.table.num_rows == 3


def test_a_cursor_brings_only_what_is_new(database: sqlite3.Connection, source_recipe: Callable[..., Recipe]) -> None:
    recipe = source_recipe({"sql": SINCE, "url": "sqlite:///tickets.db", "cursor": "id"})
    (piece,) = sources.read_sources(recipe, {})
    seen = {piece.uri: piece.fingerprint}
    assert piece.table.num_rows == 2
    assert list(sources.read_sources(recipe, seen)) == []
    insert_tickets(database, 5, 4)
    (after,) = sources.read_sources(recipe, seen)
    assert after.uri == piece.uri
    assert after.table["text"].to_pylist() == ["text 5", "text 4"]
    assert list(sources.read_sources(recipe, {after.uri: after.fingerprint})) == []


def test_a_cursor_that_never_matches_a_first_row_is_logged(
    database: sqlite3.Connection, source_recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    sql = "SELECT * FROM tickets WHERE id > :cursor"
    recipe = source_recipe({"sql": sql, "url": "sqlite:///tickets.db", "cursor": "id"})
    assert list(sources.read_sources(recipe, {})) == []
    assert "(:cursor IS NULL OR id > :cursor)" in caplog.text


def test_a_cursor_must_be_named_used_and_selected(
    database: sqlite3.Connection, source_recipe: Callable[..., Recipe]
) -> None:
    for half in ({"sql": SINCE}, {"sql": "SELECT * FROM tickets", "cursor": "id"}):
        with pytest.raises(ConfigError, match="name the column in `cursor`"):
            list(sources.read_sources(source_recipe({**half, "url": "sqlite:///tickets.db"}), {}))
    message = read_error(source_recipe({"sql": SINCE, "url": "sqlite:///tickets.db", "cursor": "day"}))
    assert "cursor day: not in the query's result; it has id, text, label" in message


def test_the_error_of_a_database_hides_its_password(
    database: sqlite3.Connection, source_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2/@x")
    assert "none.db: no such SQLite file" in read_error(source_recipe({"sql": "SELECT 1", "url": "sqlite:///none.db"}))
    assert "no such table: nope" in read_error(
        source_recipe({"sql": "SELECT * FROM nope", "url": "sqlite:///tickets.db"})
    )
    message = read_error(
        source_recipe({"sql": "SELECT 1", "url": "postgresql+asyncpg3://me:${DB_PASSWORD}@db.example/x"})
    )
    assert "me:${DB_PASSWORD}@db.example" in message and "hunter2" not in message
    assert "no such column in sql:" in read_error(
        source_recipe({"sql": "SELECT id FROM tickets", "url": "sqlite:///tickets.db"})
    )


def test_a_password_from_the_environment_may_hold_any_sign(
    source_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "p:/@%40x")
    recipe = source_recipe({"sql": "SELECT 1", "url": "postgresql://me:${DB_PASSWORD}@db.example/x"})
    url = sql._resolve_url(recipe.data.sources[0], recipe)
    assert (url.password, url.host) == ("p:/@%40x", "db.example")


def test_secrets_leave_names_and_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("HARD", "p@ss/w:rd")
    assert redact_url("postgresql://me:plain@host/db") == "postgresql://me:***@host/db"
    assert redact_url("s3://bucket/${TOKEN}") == "s3://bucket/${TOKEN}"
    url = "postgresql://me:${HARD}@host/db?key=${TOKEN}"
    assert redact_message(
        "port 1 of p@ss/w:rd or p%40ss%2Fw%3Ard with key=s3cret\n at postgresql://me:plain@host", url
    ) == ("port 1 of *** or *** with key=*** at postgresql://me:***@host")


@pytest.mark.parametrize(
    "source",
    [
        {"sql": "SELECT 1", "url": "postgresql://me:hunter2@host/db"},
        {"sql": "SELECT 1", "url": "postgresql://me:hun/ter2@host/db"},
        {"sql": "SELECT 1", "url": "postgresql://me:${PASSWORD:-hunter2}@host/db"},
        {"sql": "SELECT 1", "url": "postgresql://host/db?user=me&password=hunter2"},
        {"sql": "SELECT 1", "url": "mssql+pyodbc:///?odbc_connect=Driver%3Dx%3BPWD%3Dhunter2"},
        {"delta": "s3://key:hunter2@bucket/t"},
        {"hub": "https://me:hunter2@hub.example/d"},
    ],
)
def test_a_password_in_a_recipe_is_refused_and_not_shown(
    source_recipe: Callable[..., Recipe], source: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"data.sources.0.\w+: contains a password.*\$\{NAME\}") as error:
        source_recipe(source)
    assert "hunter2" not in str(error.value) and "hun/ter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:${TOKEN}@host:5432/db?password=${TOKEN}&options=a@b",
        "postgresql://${TOKEN}:${TOKEN}@${TOKEN}/db",
        "postgresql://host:5432/db?application_name=a@b",
        "sqlite:////tmp/a:b@c.db",
    ],
)
def test_a_url_without_a_password_is_none(
    source_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    assert source_recipe({"sql": "SELECT 1", "url": url})


def test_a_cursor_of_mixed_types_is_a_data_error(
    database: sqlite3.Connection, source_recipe: Callable[..., Recipe]
) -> None:
    database.execute("INSERT INTO tickets VALUES ('three', 'text 3', 0)")
    database.commit()
    message = read_error(source_recipe({"sql": SINCE, "url": "sqlite:///tickets.db", "cursor": "id"}))
    assert "cursor id: its values have different types, int (2) and str ('three')" in message


def test_delta_tables_newest_and_fixed(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    write_deltalake(tmp_path / "t", pa.table({"text": ["one"], "label": ["x"]}))
    newest = source_recipe({"delta": "t"})
    fixed = source_recipe({"delta": "t", "version": 0})
    (piece,) = sources.read_sources(newest, {})
    assert (piece.uri, piece.table["text"].to_pylist()) == ("delta:t@v0", ["one"])
    seen = {piece.uri: piece.fingerprint}
    assert sources.fingerprints(newest, {}) == seen
    assert list(sources.read_sources(newest, seen)) == []
    write_deltalake(tmp_path / "t", pa.table({"text": ["two"], "label": ["y"]}), mode="append")
    (after,) = sources.read_sources(newest, seen)
    assert after.fingerprint != piece.fingerprint
    assert (after.uri, sorted(after.table["text"].to_pylist())) == ("delta:t@v1", ["one", "two"])
    assert sources.fingerprints(fixed, {}) == seen


def test_delta_tables_that_are_not_there(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    assert "nope: cannot be read as a Delta table" in read_error(source_recipe({"delta": "nope"}))
    write_deltalake(tmp_path / "t", pa.table({"text": ["one"], "label": ["x"]}))
    assert "at version 7" in read_error(source_recipe({"delta": "t", "version": 7}))
    assert "topic: no such column in delta:t@v0; it has text, label" in read_error(
        source_recipe({"delta": "t"}, label="topic")
    )


def test_a_delta_table_with_deletion_vectors(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    rows = pa.table({"text": [f"text {number}" for number in range(6)], 'a "label"': ["x", "y"] * 3})
    write_deltalake(tmp_path / "t", rows)
    log = tmp_path / "t/_delta_log"
    first = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    entries = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}} if "protocol" in entry else entry
        for entry in first
    ]
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, entries)))
    add = next(entry["add"] for entry in first if "add" in entry)
    # rows 1 and 4, as Spark writes them: a roaring bitmap in Z85
    vector = {"storageType": "i", "pathOrInlineDv": VECTOR, "sizeInBytes": 36, "cardinality": 2}
    second = [{"remove": {"path": add["path"], "dataChange": True}}, {"add": {**add, "deletionVector": vector}}]
    (log / f"{1:020}.json").write_text("\n".join(map(json.dumps, second)))
    (piece,) = sources.read_sources(source_recipe({"delta": "t"}, label='a "label"'), {})
    assert piece.table["text"].to_pylist() == ["text 0", "text 2", "text 3", "text 5"]
    assert piece.table["label"].to_pylist() == ["x", "x", "y", "y"]
    entries[0] = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["new"]}}
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, entries)))
    assert "t: cannot be read as a Delta table" in read_error(source_recipe({"delta": "t"}))


def test_a_local_folder_through_datasets(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/train.csv").write_text("text,label\nhello,x\nbye,y\n")
    recipe = source_recipe({"hub": "d", "split": "test"})
    (piece,) = sources.read_sources(recipe, {})
    assert piece.table.select(["text", "label", "source", "given_split"]).to_pylist()[1] == {
        "text": "bye",
        "label": "y",
        "source": "hub:d#train",
        "given_split": "test",
    }
    seen = {piece.uri: piece.fingerprint}
    assert sources.fingerprints(recipe, {}) == seen
    assert list(sources.read_sources(recipe, seen)) == []
    (tmp_path / "d/train.csv").write_text("text,label\nhello,x\nciao,y\n")
    assert [piece.table["text"][1].as_py() for piece in sources.read_sources(recipe, seen)] == ["ciao"]


def test_classes_that_datasets_named_become_their_names(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    data = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features)
    data.to_parquet(tmp_path / "a.parquet")
    DatasetDict(train=data).save_to_disk(tmp_path / "saved")
    for source in ({"hub": "saved"}, {"path": "a.parquet"}):
        (piece,) = sources.read_sources(source_recipe(source), {})
        assert piece.table["label"].to_pylist() == ["pos", "neg", None], source


@pytest.mark.parametrize(
    "address", ["https://127.0.0.1:1/a.csv", "hf://datasets/a/b/c.csv", "zip://a.csv::s3://b/c.zip"]
)
def test_a_folder_names_no_other_machine(tmp_path: Path, source_recipe: Callable[..., Recipe], address: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("text,label\nhi,x\n")
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\n---\nSee https://a.example\n"
    (tmp_path / "d" / "README.md").write_text(card.format(f"['{address}']"))
    assert "its README.md lists " in read_error(source_recipe({"hub": "d"}))
    (tmp_path / "d" / "README.md").write_text(card.format("a.csv"))
    (piece,) = sources.read_sources(source_recipe({"hub": "d"}), {})
    assert piece.table["text"].to_pylist() == ["hi"]


def test_a_folder_with_a_script_is_a_data_error(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "d.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "scripts are no longer supported" in read_error(source_recipe({"hub": "d"}))
    assert not (tmp_path / "ran").exists()


def test_parts_of_saved_data_sets(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    from datasets import Dataset, DatasetDict, NamedSplit

    rows = {"text": [f"text {number}" for number in range(10)], "label": ["x", "y"] * 5}
    DatasetDict(train=Dataset.from_dict(rows), test=Dataset.from_dict(rows)).save_to_disk(tmp_path / "both")
    Dataset.from_dict(rows).save_to_disk(tmp_path / "plain")
    Dataset.from_dict(rows, split=NamedSplit("test")).save_to_disk(tmp_path / "test")

    def texts(hub: str, part: str) -> list[str]:
        (piece,) = sources.read_sources(source_recipe({"hub": hub, "part": part}), {})
        return list(piece.table["text"].to_pylist())

    assert texts("both", "train[:20%]") == texts("plain", "train[:2]") == ["text 0", "text 1"]
    assert texts("both", "train[8:]+test[:1]") == ["text 8", "text 9", "text 0"]
    assert len(texts("both", "test")) == len(texts("plain", "train")) == len(texts("test", "test")) == 10
    assert "Should be one of ['train', 'test']" in read_error(source_recipe({"hub": "both", "part": "dev"}))
    for hub, part, existing in (("plain", "test", "train"), ("test", "train", "test")):
        message = read_error(source_recipe({"hub": hub, "part": part}))
        assert f"hub:{hub}#{part}" in message and f"Should be one of ['{existing}']" in message
    assert "Unrecognized instruction format" in read_error(source_recipe({"hub": "both", "part": "train["}))


def test_a_data_set_that_cannot_be_loaded(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    message = read_error(source_recipe({"hub": "nobody/nothing"}))
    assert "hub:nobody/nothing#train: `datasets` cannot load it" in message and "HF_HUB_OFFLINE" in message
    assert sources.fingerprints(source_recipe({"hub": "nobody/nothing"}), {}) is None
    fixed = sources.fingerprints(source_recipe({"hub": "nobody/nothing", "revision": "abc1234"}), {})
    assert fixed is not None and list(fixed) == ["hub:nobody/nothing@abc1234#train"]


def test_a_week_more_of_the_sample_is_one_fresh_piece(source_recipe: Callable[..., Recipe]) -> None:
    columns = {"text": "message", "label": "intent", "id": "ticket_id", "timestamp": "created_at"}
    eight = source_recipe({"sample": "support-tickets", "weeks": 8}, **columns)
    nine = source_recipe({"sample": "support-tickets", "weeks": 9}, **columns)
    seen = sources.fingerprints(eight, {})
    assert seen is not None
    pieces = list(sources.read_sources(eight, {}))
    assert {piece.uri: piece.fingerprint for piece in pieces} == seen
    (fresh,) = sources.read_sources(nine, seen)
    assert fresh.uri == "sample:support-tickets/week-09?seed=0"
    days = [moment.date().isoformat() for moment in fresh.table["timestamp"].to_pylist()]
    assert min(days) >= "2026-03-02" and max(days) <= "2026-03-08"
    assert fresh.table["timestamp_problem"].null_count == fresh.table.num_rows
    assert "topic: no such column in sample:support-tickets" in read_error(
        source_recipe({"sample": "support-tickets"}, label="topic")
    )


def test_the_same_source_twice_is_an_error(source_recipe: Callable[..., Recipe]) -> None:
    week = {"sample": "support-tickets", "weeks": 1}
    with pytest.raises(ConfigError, match=r"data.sources.1: .* earlier source"):
        list(sources.read_sources(source_recipe(week, week, text="message", label="intent"), {}))
