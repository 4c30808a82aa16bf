"""Passwords of the model store: in no message, no evidence, no page and no list of processes."""

import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from evertune.errors import RegistryError
from evertune.registry.decisions import promotion
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import store
from evertune.registry.versions import parity
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home
from evertune.runtime.secrets import hide_secrets

SECRET = "hunter2"


class Breaks(BaseHTTPRequestHandler):
    """Healthy, and of no use for anything else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 500)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def broken_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLFLOW_TRACKING_URI names, with a password, a server that answers 500."""
    server = HTTPServer(("127.0.0.1", 0), Breaks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("broken_store")
@pytest.mark.parametrize(
    "act",
    [
        lambda home: models.find_champion(home, "small"),
        lambda home: models.list_versions(home, "small"),
        lambda home: models.set_tags(home, "small", 1, decision="held"),
        lambda home: models.fetch_bundle(home, "small", 1),
        lambda home: models.set_challenger(home, "small", 1),
        lambda home: promotion.approve_version(home, "small", 1, "why"),
        lambda home: store.ensure_experiment(home, "small"),
        lambda home: tracking.Run(home, "1", home.model).set_tags(code="x"),
        lambda home: tracking.Run(home, "1", home.model).set_description("x"),
        lambda home: tracking.Run(home, "1", home.model).finish_run(),
        lambda home: tracking.find_run_url(home, "1"),
    ],
)
def test_no_error_of_the_store_shows_its_password(tmp_path: Path, act: Callable[[Home], Any]) -> None:
    with pytest.raises(RegistryError, match="MLflow refused") as caught:
        act(Home(tmp_path / "home", "small"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.usefixtures("broken_store")
def test_no_reason_of_a_decision_shows_the_password(tmp_path: Path) -> None:
    sample = tmp_path / "parity.json"
    sample.write_text('{"role": "text", "inputs": [], "predictions": []}')
    found = parity.check_parity(Home(tmp_path / "home", "small"), "small", 1, sample, "fp32")
    assert found["passed"] is False
    assert "MLflow refused" in found["problem"]
    assert SECRET not in found["problem"]


@pytest.mark.parametrize(
    ("uri", "message", "shown"),
    [
        ("", "no route to http://me:hunter2@host/api", "no route to http://***@host/api"),
        ("", "http://token@host and https://a:b@c", "http://***@host and https://***@c"),
        ("postgresql://me:p%40ss@db/x", "refused 'p@ss' (p%40ss)", "refused '***' (***)"),
        ("http://me:hun/ter@host", "bad port in http://me:hun/ter@host", "bad port in http://***@host"),
        ("", "sqlite:////srv/mlflow.db me@example.org", "sqlite:////srv/mlflow.db me@example.org"),
    ],
)
def test_what_is_hidden(monkeypatch: pytest.MonkeyPatch, uri: str, message: str, shown: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert hide_secrets(message) == shown


def test_tokens_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open sesame")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0k")
    assert hide_secrets("Basic open sesame, Bearer t0k") == "Basic ***, Bearer ***"


def test_the_page_of_a_database_is_told_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter2@db/mlflow")
    assert (
        tracking.find_run_url(Home(tmp_path, "small"), "1")
        == "mlflow ui --backend-store-uri postgresql://***@db/mlflow"
    )


@pytest.mark.usefixtures("fresh_parity")
def test_the_parity_process_is_not_given_the_address_as_an_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> Any:
        seen.update(command=command, environment=options["env"])
        raise RegistryError("enough")

    sample = tmp_path / "parity.json"
    sample.write_text('{"role": "text", "inputs": [], "predictions": []}')
    for name in ("open_client", "requirements.read_logged_requirements", "requirements.link_packages"):
        monkeypatch.setattr(f"evertune.registry.versions.parity.{name}", lambda *_: [])
    monkeypatch.setattr("subprocess.Popen", run)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    assert parity.check_parity(Home(tmp_path, "small"), "small", 1, sample, "fp32")["problem"] == "enough"
    assert SECRET not in " ".join(seen["command"])
    assert seen["environment"]["MLFLOW_TRACKING_URI"] == f"http://me:{SECRET}@127.0.0.1:9"
