"""A model store on a server that keeps the files too, used from two machines; and the promote flow through it."""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from registry_helpers import HELD, INPUTS, Shop, evaluation
from server_helpers import free_port, serving

from evertune import scoring
from evertune.config import load
from evertune.errors import RegistryError
from evertune.home import Home
from evertune.records import Inputs
from evertune.registry import ledger, models, promotion


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that hands artifacts out over HTTP only."""
    folder, port = tmp_path_factory.mktemp("mlflow"), str(free_port())
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with serving(command, f"{url}/health", folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
        yield url


@pytest.fixture
def remote(
    mlflow_server: str, tmp_path: Path, tiny_model: Path, write_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:  # fmt: skip
    """A model of its own in the server's store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    recipe = load(write_recipe(tmp_path, name=f"m-{uuid.uuid4().hex[:12]}", base_model=str(tiny_model)))
    return Shop(tmp_path / "home", recipe, tiny_model)


def test_the_promote_flow_moves_a_held_version_and_another_machine_scores_with_it(
    remote: Shop, tmp_path: Path, prefect_server: str
) -> None:
    from prefect.exceptions import ParameterTypeError
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.promote import promote

    made, version = remote.registered()
    promotion.settle(remote.recipe, remote.home, made, evaluation(), HELD, version)
    assert remote.champion() is None
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        assert promote(remote.recipe, version, " the customer asked for it ") == version
        with pytest.raises(RegistryError, match="is the champion already"):
            promote(remote.recipe, version, "again")
        with pytest.raises(ParameterTypeError, match="reason"):
            promote(remote.recipe, version, " ")
    assert remote.champion() == version
    moved = [one for one in ledger.entries(remote.home) if one["event"] == "moved"]
    assert [(one["to"], one["reason"]) for one in moved] == [(version, "the customer asked for it")]
    assert remote.tag(version, "parity") == made.digest

    elsewhere = Home(tmp_path / "another machine", remote.recipe.name)
    folder = models.bundle_of(elsewhere, remote.name, version)
    assert folder.is_relative_to(elsewhere.root)
    rows = Inputs(INPUTS, [None] * len(INPUTS), pa.table({"text": INPUTS}))
    done = scoring.score(folder, version, iter([rows]), "text", tmp_path / "out.csv", lambda _: None)
    assert (done.rows, done.bad) == (len(INPUTS), 0)


def test_a_copy_that_was_damaged_is_fetched_again(remote: Shop, tmp_path: Path) -> None:
    _, version = remote.registered()
    elsewhere = Home(tmp_path / "another machine", remote.recipe.name)
    card = models.bundle_of(elsewhere, remote.name, version) / "evertune.json"
    card.write_text("{}")
    assert (models.bundle_of(elsewhere, remote.name, version) / "evertune.json").read_text() != "{}"
