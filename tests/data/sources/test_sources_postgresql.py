"""A SQL source over a real PostgreSQL server: its types, and `:cursor` from one run to the next."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evertune.config import Recipe
from evertune.data.sources import read as sources
from evertune.errors import DataError
from tests.helpers.server import free_port

pytestmark = pytest.mark.process

BINARIES = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
INITDB = shutil.which("initdb") or (BINARIES and BINARIES[-1] / "initdb")
COLUMNS = {"text": "body", "id": "doc", "timestamp": "at"}


def _server_user() -> str:
    """PostgreSQL refuses to run as root; its Debian package brings this user."""
    return "postgres" if os.geteuid() == 0 else getpass.getuser()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of the module's own, with a table of 12,000 rows."""
    if not INITDB:
        pytest.skip("no PostgreSQL server: install the Debian package postgresql")
    port = free_port()
    folder = Path("/tmp") / f"evertune-pg-{port}"  # not below tmp_path, which only root may enter
    folder.mkdir()
    shutil.chown(folder, _server_user())
    binaries = Path(str(INITDB)).parent
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        _as_server_user(str(binaries / "initdb"), "-D", f"{folder}/d", "-A", "trust", "-U", "me")
        _as_server_user(
            str(binaries / "pg_ctl"), "-D", f"{folder}/d", "-o", options, "-l", f"{folder}/log", "-w", "start"
        )
        url = f"postgresql+psycopg://me@127.0.0.1:{port}/postgres"
        _execute(url, TABLE)
        yield url
    finally:
        _as_server_user(str(binaries / "pg_ctl"), "-D", f"{folder}/d", "-m", "immediate", "stop", check=False)
        shutil.rmtree(folder)


TABLE = """
CREATE TABLE tickets (id bigserial, body text, label varchar(20), at timestamptz, cost numeric(10, 2), doc uuid);
INSERT INTO tickets (body, label, at, cost, doc)
SELECT 'text ' || n, n % 2, timestamptz '2026-01-01 12:00+03' + n * interval '1 second', n * 1.5, gen_random_uuid()
FROM generate_series(1, 12000) AS n"""
NEWER = """
INSERT INTO tickets (body, label, at, cost, doc)
SELECT 'z' || max(id) || '''"\\%', '0', max(at) + interval '1 day', max(cost) + 1, gen_random_uuid() FROM tickets"""


def _as_server_user(*command: str, check: bool = True) -> None:
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    subprocess.run(command, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", **user)


def _execute(url: str, statement: str) -> None:
    from sqlalchemy import create_engine, text

    with create_engine(url).begin() as connection:
        connection.execute(text(statement))


def test_postgresqls_types_become_text_and_moments(database: str, source_recipe: Callable[..., Recipe]) -> None:
    recipe = source_recipe({"sql": "SELECT * FROM tickets ORDER BY id", "url": database}, **COLUMNS)
    (piece,) = sources.read_sources(recipe, {})
    assert piece.table.num_rows == 12_000
    first = piece.table.slice(0, 1).to_pylist()[0]
    assert (first["text"], first["label"], len(first["id"])) == ("text 1", "1", 36)
    assert first["timestamp"].isoformat() == "2026-01-01T09:00:01+00:00"
    assert list(sources.read_sources(recipe, {piece.uri: piece.fingerprint})) == []


@pytest.mark.parametrize("column", ["id", "at", "cost", "body"])
def test_a_cursor_of_any_type_continues(database: str, source_recipe: Callable[..., Recipe], column: str) -> None:
    query = f"SELECT * FROM tickets WHERE (:cursor IS NULL OR {column} > :cursor)"
    recipe = source_recipe({"sql": query, "url": database, "cursor": column}, **COLUMNS)
    (piece,) = sources.read_sources(recipe, {})
    seen = {piece.uri: piece.fingerprint}
    assert list(sources.read_sources(recipe, seen)) == []
    _execute(database, NEWER)
    (after,) = sources.read_sources(recipe, seen)
    assert (after.uri, after.table.num_rows) == (piece.uri, 1)
    assert list(sources.read_sources(recipe, {after.uri: after.fingerprint})) == []  # a cursor with quotes in it, too


def test_the_error_of_an_unreachable_server_hides_its_password(
    database: str, source_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "secret")
    nowhere = source_recipe({"sql": "SELECT 1", "url": "postgresql+psycopg://me:${PASSWORD}@127.0.0.1:1/x"})
    with pytest.raises(DataError, match="check that the database can be reached") as error:
        list(sources.read_sources(nowhere, {}))
    assert "secret" not in str(error.value)
