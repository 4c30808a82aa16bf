"""Runs and registered versions in MLflow: where they are kept, one of each a fine-tuning, and what is read back."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evertune.errors import RegistryError
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import store
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.serving import bundle
from tests.helpers.paths import ROOT
from tests.helpers.registry import INPUTS, Shop, tokens_of


def test_all_is_kept_in_the_home_and_the_environment_is_left_alone(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    made, version = shop.registered()
    assert {*tmp_path.iterdir()} == before
    assert models.fetch_bundle(shop.home, shop.name, version).is_relative_to(shop.home.root)
    assert bundle.compute_digest(models.fetch_bundle(shop.home, shop.name, version)) == made.digest
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & os.environ.keys()
    assert store.tracking_uri(Home(tmp_path, "other")).startswith(f"sqlite:///{tmp_path}")


def test_artifacts_stay_in_the_home_where_its_own_store_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri(shop.home))
    made = store.open_client(shop.home).get_experiment(store.ensure_experiment(shop.home, shop.name))
    assert made.artifact_location.startswith((shop.home.root / "mlflow" / "artifacts").as_uri())


@pytest.mark.slow
def test_the_page_on_the_registry_shows_how_a_stranger_loads_the_model(shop: Shop, tmp_path: Path) -> None:
    _, version = shop.registered()
    models.move_champion(shop.home, shop.name, version, expected=None, reason="test")
    page = (ROOT / "docs" / "how-to" / "serve-with-mlflow.md").read_text(encoding="utf-8")
    [export] = re.findall(r"^\$ (export .*)$", page, re.MULTILINE)
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / ".evertune").symlink_to(shop.home.root)
    (tmp_path / "page.py").write_text(code.replace("support-intents", shop.name) + "assert model\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = ["sh", "-c", f"{export} && exec '{sys.executable}' page.py"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_a_run_has_one_version_however_often_it_is_registered(shop: Shop) -> None:
    made, version = shop.registered()
    assert [models.register_version(RunContext(shop.recipe, shop.home), made, INPUTS[:3]) for _ in range(2)] == [
        version,
        version,
    ]
    other, second = shop.registered()
    assert (version, second) == (1, 2)
    assert [models.find_run_version(shop.home, shop.name, one.run_id) for one in (made, other)] == [1, 2]
    assert shop.tag(1, "bundle") == made.digest
    assert (shop.tag(1, "snapshot"), shop.tag(1, "fingerprint")) == ("1", "s1")


def test_a_champion_whose_files_changed_or_are_gone_cannot_be_read(shop: Shop) -> None:
    _, version = shop.registered()
    folder = models.fetch_bundle(shop.home, shop.name, version)
    weights = folder / "model" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + b"\0")
    with pytest.raises(RegistryError, match="have changed since it was registered"):
        models.fetch_bundle(shop.home, shop.name, version)
    weights.write_bytes(kept)
    assert models.fetch_bundle(shop.home, shop.name, version) == folder
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(RegistryError, match="are missing; restore the artifact store"):
        models.fetch_bundle(shop.home, shop.name, version)
    with pytest.raises(RegistryError, match="version 9"):
        models.fetch_bundle(shop.home, shop.name, 9)


def test_an_interrupted_run_is_taken_up_again(shop: Shop, tmp_path: Path) -> None:
    folder = shop.home.runs / "one"
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), folder)
    with pytest.raises(ZeroDivisionError), tracking.fail_on_error(shop.home, run.run_id):
        run.log_metrics({"loss": 1.0}, 1)
        raise ZeroDivisionError
    mlflow = store.open_client(shop.home)
    assert mlflow.get_run(run.run_id).info.status == "FAILED"
    again = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), folder)
    assert (again.run_id, mlflow.get_run(run.run_id).info.status) == (run.run_id, "RUNNING")
    again.log_metrics({"loss": 1.0}, 1)
    again.log_metrics({"loss": 0.5}, 2)
    again.finish_run()
    assert [one.value for one in mlflow.get_metric_history(run.run_id, "loss")] == [1.0, 0.5]
    assert tracking.read_history(folder) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]


class Counting:
    """An MLflow client that counts its requests."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.asked = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._inner, name)


def test_metrics_and_tags_go_in_one_request_each(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SOON", 3600)
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), shop.home.runs / "one")
    counting = run._client = Counting(run._client)
    for step in range(30):
        run.log_metrics({"loss": 1.0 - step / 100, "rate": 0.1}, step)
    assert counting.asked == []
    run.send_metrics()
    run.send_metrics()
    run.set_tags(decision="held", reason="too few rows")
    assert counting.asked == ["log_batch", "log_batch"]
    assert [one.step for one in store.open_client(shop.home).get_metric_history(run.run_id, "loss")] == list(range(30))
    assert len(tracking.read_history(run.folder)) == 30


def test_metrics_are_sent_while_the_training_goes_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SOON", 0.0)
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), shop.home.runs / "one")
    run.log_metrics({"loss": 1.0}, 1)
    while not store.open_client(shop.home).get_metric_history(run.run_id, "loss"):
        time.sleep(0.05)


def test_metrics_that_a_crash_left_are_sent_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SOON", 3600)
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), shop.home.runs / "one")
    run.log_metrics({"loss": 1.0}, 1)
    run.send_metrics()
    (run.folder / tracking.SENT).unlink()  # as where the crash came between the request and its note
    run.log_metrics({"loss": 0.5}, 2)
    again = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), run.folder)
    again.log_metrics({"loss": 0.5}, 2)
    again.finish_run()
    found = store.open_client(shop.home).get_metric_history(run.run_id, "loss")
    assert [(one.step, one.value) for one in found] == [(1, 1.0), (2, 0.5)]


def test_a_metric_that_a_kill_cut_short_costs_itself_only(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SOON", 3600)
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), shop.home.runs / "one")
    run.log_metrics({"loss": 1.0}, 1)
    run.send_metrics()
    with (run.folder / tracking.HISTORY).open("a") as file:
        file.write('{"time": 17, "st')
    again = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), run.folder)
    again.log_metrics({"loss": 0.5}, 2)
    again.finish_run()
    found = store.open_client(shop.home).get_metric_history(run.run_id, "loss")
    assert [(one.step, one.value) for one in found] == [(1, 1.0), (2, 0.5)]


def test_a_model_that_was_logged_and_not_registered_is_registered_not_logged_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shop.candidate()
    monkeypatch.setattr(models, "_ensure_registered", dies)
    with pytest.raises(KeyboardInterrupt):
        models.register_version(RunContext(shop.recipe, shop.home), made, INPUTS[:3])
    monkeypatch.undo()
    assert models.register_version(RunContext(shop.recipe, shop.home), made, INPUTS[:3]) == 1
    [one] = logged(shop, made.run_id)
    assert store.open_client(shop.home).get_model_version(shop.name, "1").source == f"models:/{one.model_id}"
    assert bundle.compute_digest(models.fetch_bundle(shop.home, shop.name, 1)) == made.digest


def test_a_model_that_was_logged_in_part_is_given_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.candidate()
    monkeypatch.setattr("mlflow.MlflowClient.log_model_artifacts", dies)
    with pytest.raises(KeyboardInterrupt):
        models.register_version(RunContext(shop.recipe, shop.home), made, INPUTS[:3])
    [part] = logged(shop, made.run_id)
    monkeypatch.undo()
    assert models.register_version(RunContext(shop.recipe, shop.home), made, INPUTS[:3]) == 1
    assert [one.model_id != part.model_id for one in logged(shop, made.run_id)] == [True]


def logged(shop: Shop, run_id: str) -> list[Any]:
    """The models in MLflow that a run has logged."""
    place = store.ensure_experiment(shop.home, shop.recipe.name)
    return list(store.open_client(shop.home).search_logged_models([place], f"source_run_id = '{run_id}'"))


def dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_died_before_it_was_noted_is_taken_up_and_described(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shop.home.runs / "one"
    describe = tracking._log_origin
    monkeypatch.setattr(tracking, "_log_origin", dies)
    with pytest.raises(KeyboardInterrupt):
        tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), folder)
    monkeypatch.setattr(tracking, "_log_origin", describe)
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), folder)
    mlflow = store.open_client(shop.home)
    found = mlflow.search_runs([store.ensure_experiment(shop.home, shop.recipe.name)])
    assert [one.info.run_id for one in found] == [run.run_id]
    assert found[0].data.params["training.epochs"] == "1.0"
    assert found[0].inputs.dataset_inputs[0].dataset.digest == "s1"


def test_a_run_tells_what_it_was_made_of(shop: Shop) -> None:
    folder = shop.home.runs / "one"
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), folder)
    mlflow = store.open_client(shop.home)
    data = mlflow.get_run(run.run_id).data
    assert data.params["base_model"] == shop.recipe.base_model
    assert {"evertune.code", "evertune.snapshot", "evertune.fingerprint"} <= data.tags.keys()
    assert {one.path for one in mlflow.list_artifacts(run.run_id)} == {"recipe.json", "environment.json"}
    kept = read_json(Path(mlflow.download_artifacts(run.run_id, "environment.json")))
    assert kept["libraries"]["torch"]


def test_a_run_that_was_deleted_in_mlflow_says_what_to_do(shop: Shop) -> None:
    folder = shop.home.runs / "one"
    run = tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), folder)
    (folder / "run.json").write_text('{"run_id": "0123456789abcdef0123456789abcdef"}')
    with pytest.raises(RegistryError, match="delete the folder to start over"):
        tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(1), folder)
    assert run.run_id


def test_a_server_that_does_not_answer_is_named_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"http://127\.0\.0\.1:9 does not answer") as caught:
        store.open_client(Home(tmp_path, "small"))
    assert "hush" not in str(caught.value)


def test_outside_a_clone_the_revision_is_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(tracking.find_code_revision().removesuffix("+dirty")) == 40
    monkeypatch.setenv("PATH", "")
    assert tracking.find_code_revision().startswith("evertune ")
