"""The key of the Prefect server that `evertune up` starts, and who may speak with that server."""

import base64
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evertune.cli.server import prefect_server, prefect_settings, server_key, up
from evertune.errors import RegistryError
from evertune.runtime.files import write_atomic
from evertune.runtime.home import Home
from evertune.runtime.secrets import hide_secrets

WHOLE_KEY = "evertune:" + "k" * 43  # as long as a real one; random ones would give each process other test names


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv(server_key.SERVER_VARIABLE, raising=False)
    return Home(tmp_path / "home", "up")


def test_a_home_gets_one_key_that_its_owner_alone_can_read(home: Home) -> None:
    before = os.umask(0)
    try:
        key = server_key.ensure_key(home)
    finally:
        os.umask(before)
    file = home.root / "prefect-key"
    assert key.source == str(file)
    assert key.renewed is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() == key.text
    assert len(key.text) > 40
    assert key.text not in repr(key)
    assert server_key.ensure_key(home) == key


def test_a_private_file_is_private_from_its_first_byte_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    sync = os.fsync

    def look(file: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(file).st_mode))
        sync(file)

    monkeypatch.setattr(os, "fsync", look)
    write_atomic(tmp_path / "file", "text", mode=0o600)
    assert modes == [0o600]


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (WHOLE_KEY, 0o644, "other users could read it"),
        (WHOLE_KEY, 0o620, "other users could read it"),
        ("", 0o600, "no complete key"),
        ("evertune:short", 0o600, "no complete key"),
        ("é" * 40, 0o600, "no complete key"),
        (f"{WHOLE_KEY}\n{WHOLE_KEY}", 0o600, "no complete key"),
    ],
)
def test_a_file_that_others_could_read_or_that_holds_no_key_is_replaced(
    home: Home, content: str, mode: int, words: str
) -> None:
    file = home.root / "prefect-key"
    file.parent.mkdir()
    file.write_text(content)
    file.chmod(mode)
    key = server_key.ensure_key(home)
    assert key.renewed and words in key.renewed
    assert key.text != content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert server_key.ensure_key(home).renewed is None


def test_a_key_of_another_user_is_not_used(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    server_key.ensure_key(home)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(RegistryError, match="belongs to another user"):
        server_key.ensure_key(home)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_key_that_is_no_plain_file_is_an_error(home: Home, kind: str) -> None:
    file = home.root / "prefect-key"
    file.parent.mkdir()
    if kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("nowhere")
    with pytest.raises(RegistryError, match="must be a plain file"):
        server_key.ensure_key(home)


def test_a_key_that_cannot_be_read_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    server_key.ensure_key(home)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(RegistryError, match=r"cannot be read \(Permission denied\); remove the file"):
        server_key.ensure_key(home)


def test_a_file_system_without_permissions_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_key, "write_atomic", lambda path, text, mode: write_atomic(path, text, 0o644))
    with pytest.raises(RegistryError, match="other users could read it; put the home on a file system"):
        server_key.ensure_key(home)


def test_a_key_of_the_users_own_comes_first_and_is_in_no_message(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server_key.SERVER_VARIABLE, "me:mine")
    assert server_key.ensure_key(home).text == "me:mine"
    assert not home.root.exists()
    assert hide_secrets("Prefect got me:mine") == "Prefect got ***"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("127.0.0.1:4200", 200),
        ("LOCALHOST:8080", 200),
        ("prefect.example.com", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("example.com", 400),
        ("", 400),
    ],
)
def test_a_server_answers_to_its_own_names_alone(monkeypatch: pytest.MonkeyPatch, name: str, status: int) -> None:
    from starlette.responses import PlainTextResponse
    from starlette.testclient import TestClient

    monkeypatch.setenv("EVERTUNE_ALLOWED_HOSTS", "prefect.example.com, ")
    client = TestClient(prefect_server.check_host(PlainTextResponse("hello")))
    assert client.get("/", headers={"Host": name}).status_code == status


def test_the_pages_of_the_server_itself_may_call_it() -> None:
    assert prefect_server.page_origins(4300) == "http://127.0.0.1:4300,http://localhost:4300"


@pytest.fixture
def server() -> Iterator[str]:
    """The address of an API that takes the key `evertune:right`; below `/open` it takes any."""
    right = f"Basic {base64.b64encode(b'evertune:right').decode()}"

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_taken = self.headers.get("Authorization") == right or self.path.startswith("/open")
            self.send_response(200 if is_taken or self.path.endswith("/health") else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    made = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize(("key", "is_taken"), [("evertune:right", True), ("evertune:wrong", False), (None, False)])
def test_a_server_under_another_key_is_an_error_before_any_work(server: str, key: str | None, is_taken: bool) -> None:
    from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

    with temporary_settings({PREFECT_API_AUTH_STRING: key}):
        if is_taken:
            prefect_settings.check_server(f"{server}/api")
            return
        with pytest.raises(RegistryError, match="refuses the key; set PREFECT_API_AUTH_STRING"):
            prefect_settings.check_server(f"{server}/api")


def test_up_stops_where_its_server_answers_without_the_key(server: str) -> None:
    up._check_locked(f"{server}/api")
    with pytest.raises(RegistryError, match="answers without its key"):
        up._check_locked(f"{server}/open/api")


def test_a_temporary_server_has_a_key_of_its_own_for_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_AUTH_STRING

    for name in ("PREFECT_API_URL", server_key.SERVER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_PROFILE", "ephemeral")
    monkeypatch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
    monkeypatch.setenv(server_key.CLIENT_VARIABLE, "for another server")
    keys = []
    monkeypatch.setattr(
        prefect_settings, "_start_server", lambda _: keys.append(os.environ[server_key.SERVER_VARIABLE])
    )
    with prefect_settings.quiet_prefect(False, []):
        assert keys == [os.environ[server_key.CLIENT_VARIABLE]] == [PREFECT_API_AUTH_STRING.value()]
        assert os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == ""
    assert len(keys[0]) > 40
    assert server_key.SERVER_VARIABLE not in os.environ
    assert os.environ[server_key.CLIENT_VARIABLE] == "for another server"
