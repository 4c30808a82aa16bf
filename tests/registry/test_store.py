"""The model store: made whole or not at all, and named in words when it cannot be used."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evertune.cli.errors import explain_error
from evertune.errors import RegistryError
from evertune.registry.tracking import store
from evertune.registry.versions import versions as models
from evertune.runtime.context import open_context
from evertune.runtime.home import Home
from tests.helpers.cli import Done
from tests.helpers.paths import PYTHONPATH
from tests.helpers.registry import Shop

pytestmark = pytest.mark.usefixtures("new_databases")
DIES = """
import os, sys
from pathlib import Path
from evertune.runtime.home import Home
from evertune.registry.tracking import store
import mlflow.store.db.utils as made
made._upgrade_db = lambda *_: os.kill(os.getpid(), 9)  # the tables are there, their version is not
store.open_client(Home(Path(sys.argv[1]), "small"))
"""


@pytest.mark.process
def test_a_store_that_a_kill_left_half_made_is_made_anew(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", "small")
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", DIES, str(home.root)], env=environment).returncode == -9
        assert not (home.root / "mlflow" / "mlflow.db").exists()
    assert models.find_champion(home, "small") is None
    assert [path.name for path in (home.root / "mlflow").iterdir()] == ["mlflow.db"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a part of the store."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.process
def test_a_store_that_a_full_disk_left_half_made_is_made_anew(small_disk: Path) -> None:
    home = Home(small_disk, "small")
    with pytest.raises(RegistryError) as caught:
        store.open_client(home)
    text, status = explain_error(caught.value)
    assert status == 3
    assert "the disk is full" in text
    assert not (home.root / "mlflow" / "mlflow.db").exists()
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert models.find_champion(home, "small") is None


def test_a_database_that_the_environment_names_is_never_deleted(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = shop.checked()
    shop_uri = store.tracking_uri(shop.home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shop_uri)
    elsewhere = Home(tmp_path / "other", shop.home.name)  # never used
    models.move_champion(elsewhere, shop.name, version, expected=None, reason="test")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert shop.champion() == version


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("postgresql+nodriver://me:hush@db/mlflow", "MLflow refused the store postgresql+nodriver://***@db/mlflow"),
        ("sqlite:////no/such/folder/x.db", "the folder /no/such/folder does not exist"),
        ("sqlite:////dev/null/x.db", "the folder /dev/null does not exist"),
        ("sqlite:////dev/null", "MLflow refused the store"),
        ("http://[bad", "http://[bad does not answer"),
        ("nonsense:x", "MLflow refused the store nonsense:x"),
    ],
)
def test_a_store_that_is_none_ends_with_status_5(
    evertune: Callable[..., Done],
    tiny_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    words: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    done = evertune("rollback", tiny_recipe(), "--reason", "why")
    assert (done.status, done.out) == (5, "")
    assert words in done.err
    assert "hush" not in done.err
    assert not Path("/no").exists()


@pytest.mark.parametrize("url", ["http://[bad", "foo", "http://me:hush@127.0.0.1:9/api", "http://127.0.0.1:99999/api"])
def test_a_prefect_address_that_is_none_ends_with_status_5(
    evertune: Callable[..., Done], tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    done = evertune("run", tiny_recipe())
    assert (done.status, done.out) == (5, "")
    assert f"the Prefect server at {url.replace('me:hush@', '').removesuffix('/api')} does not answer" in done.err


@pytest.mark.parametrize("command", [["rollback", "--reason", "x"], ["run"]])
@pytest.mark.parametrize("place", ["/proc/x", "{}/a file", "{}/a file/below"])
def test_a_home_that_cannot_be_ends_with_status_2(
    evertune: Callable[..., Done],
    tiny_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    place: str,
    command: list[str],
) -> None:
    (tmp_path / "a file").write_text("x")
    monkeypatch.setenv("EVERTUNE_HOME", place.format(tmp_path))
    monkeypatch.setattr("evertune.cli.flow_runs._run_retrain_flow", _without_prefect)
    done = evertune(command[0], tiny_recipe(), *command[1:])
    assert (done.status, done.out) == (2, ""), done.err
    assert "Evertune cannot write there" in done.err
    assert "EVERTUNE_HOME" in done.err


def _without_prefect(recipe: Any, *_: Any) -> None:
    from evertune.data.corpus import transactions as corpus
    from evertune.data.sources import read as sources

    corpus.ingest_rows(open_context(recipe), lambda seen: sources.read_sources(recipe, seen))


def test_a_tag_of_a_version_loads_no_other_version(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own client asks for the whole model before each call: that grows with its versions."""
    _, version = shop.registered()
    from mlflow import MlflowClient

    asked: list[str] = []
    monkeypatch.setattr(MlflowClient, "get_registered_model", lambda _, name: asked.append(name))
    models.set_tags(shop.home, shop.name, version, decision="held")
    models.set_challenger(shop.home, shop.name, version)
    assert (shop.tag(version, "decision"), asked) == ("held", [])
