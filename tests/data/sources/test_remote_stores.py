"""A model store on a server that keeps the files too, used from two machines; and the promote flow through it."""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from evertune.audit import retention as cleaning
from evertune.config import load_recipe
from evertune.errors import RegistryError
from evertune.records import Inputs
from evertune.registry.decisions import ledger, promotion
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.serving import scoring
from tests.helpers.registry import HELD, INPUTS, Shop, evaluation, make_champion
from tests.helpers.server import free_port, serving

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that hands artifacts out over HTTP only."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = str(free_port())
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/files",
    ]
    url = f"http://127.0.0.1:{port}"
    with serving(command, f"{url}/health", folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
        yield url


@pytest.fixture
def remote(
    mlflow_server: str,
    tmp_path: Path,
    tiny_model: Path,
    write_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    """A model of its own in the server's store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    recipe = load_recipe(write_recipe(tmp_path, name=f"m-{uuid.uuid4().hex[:12]}", base_model=str(tiny_model)))
    return Shop(tmp_path / "home", recipe, tiny_model)


def test_the_promote_flow_moves_a_held_version_and_another_machine_scores_with_it(
    remote: Shop, tmp_path: Path, prefect_server: str
) -> None:
    from prefect.exceptions import ParameterTypeError
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.promote import promote

    candidate, version = remote.registered()
    promotion.apply_decision(RunContext(remote.recipe, remote.home), candidate, evaluation(), HELD, version)
    assert remote.champion() is None
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        assert promote(remote.recipe, version, " the customer asked for it ") == version
        with pytest.raises(RegistryError, match="is already the champion"):
            promote(remote.recipe, version, "again")
        with pytest.raises(ParameterTypeError, match="reason"):
            promote(remote.recipe, version, " ")
    assert remote.champion() == version
    moves = [entry for entry in ledger.read_entries(remote.home) if entry["event"] == "moved"]
    assert [(entry["to"], entry["reason"]) for entry in moves] == [(version, "the customer asked for it")]
    assert remote.tag(version, "parity") == candidate.digest

    other_home = Home(tmp_path / "another machine", remote.recipe.name)
    folder = models.fetch_bundle(other_home, remote.name, version)
    assert folder.is_relative_to(other_home.root)
    rows = Inputs(INPUTS, [None] * len(INPUTS), pa.table({"text": INPUTS}))
    scored = scoring.score_file(folder, version, iter([rows]), "text", tmp_path / "out.csv", lambda _: None)
    assert (scored.rows, scored.bad) == (len(INPUTS), 0)


def test_a_copy_that_was_damaged_is_fetched_again(remote: Shop, tmp_path: Path) -> None:
    _, version = remote.registered()
    other_home = Home(tmp_path / "another machine", remote.recipe.name)
    card = models.fetch_bundle(other_home, remote.name, version) / "evertune.json"
    card.write_text("{}")
    assert (models.fetch_bundle(other_home, remote.name, version) / "evertune.json").read_text() != "{}"


def test_clean_removes_the_files_of_old_versions_from_the_server_and_from_this_machine(
    remote: Shop, mlflow_server: str
) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    from evertune.registry.tracking import store

    versions = [remote.registered()[1] for _ in range(3)]
    make_champion(remote, versions[2])
    retention = remote.recipe.retention.model_copy(update={"days": 0, "runs": 1})
    recipe = remote.recipe.model_copy(update={"retention": retention})
    mlflow = store.open_client(remote.home)
    uris = [mlflow.get_model_version_download_uri(remote.name, str(version)) for version in versions]
    assert all(uri.startswith("mlflow-artifacts:") for uri in uris)
    listing = cleaning.clean_home(RunContext(recipe, remote.home), remove=False)
    assert [item.name for item in listing.spare if item.what == "model"] == ["version 1", "version 2"]
    assert all(item.files > 3 and item.bytes > 10_000 for item in listing.spare if item.what == "model")
    cleaning.clean_home(RunContext(recipe, remote.home), remove=True)
    assert [len(get_artifact_repository(uri).list_artifacts()) > 0 for uri in uris] == [False, False, True]
    for version in versions[:2]:
        with pytest.raises(RegistryError):
            models.fetch_bundle(remote.home, remote.name, version)
    assert models.fetch_bundle(remote.home, remote.name, versions[2]).is_dir()
    listing = cleaning.clean_home(RunContext(recipe, remote.home), remove=True)
    assert not [item for item in listing.spare if item.what == "model"]
