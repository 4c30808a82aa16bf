"""A search: what its trials see, how they end, a kill in the middle, several processes, and what is left of it."""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from evertune import training
from evertune.config import load_recipe
from evertune.data.corpus import transactions as corpus
from evertune.registry.tracking import searches, store, unfinished
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.search import study
from evertune.search.search import Result, Trial
from evertune.tokenization import tokenize as tokenization
from tests.helpers.cli import Done
from tests.helpers.process import until
from tests.helpers.search import TRIALS, Shop, taken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        made.setattr(study, "PRUNED_AFTER", 2)
        made.setattr(study, "STARTUP", 2)
        yield made


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, model_store: Path, patch: Any) -> Shop:
    return taken(tmp_path_factory.mktemp("search"), tiny_model, model_store, patch)


@pytest.fixture(scope="module")
def whole(shop: Shop, patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A search from its beginning to its end, and the home that it left."""
    with pytest.MonkeyPatch.context() as spies:
        for module, name, place in (
            (training, "finetune_model", 3),
            (tokenization, "tokenize_rows", 2),
            (tokenization, "load_tokens", 1),
        ):
            spies.setattr(module, name, spy(getattr(module, name), place, shop.seen))
        result = shop.run()
    left = shutil.copytree(shop.home.root, tmp_path_factory.mktemp("whole") / "home")
    shutil.rmtree(shop.home.model / "searches")
    return result, left


@pytest.fixture(autouse=True)
def own_home(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The home in which the rows were taken in; no search is left in it."""
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.path.parent / "home"))
    yield
    shutil.rmtree(shop.home.model / "searches", ignore_errors=True)


def spy(function: Callable[..., Any], place: int, seen: set[str]) -> Callable[..., Any]:
    """The function, whose rows are noted."""

    def noted(*given: Any, **more: Any) -> Any:
        seen.update(given[place]["row_version"].to_pylist())
        return function(*given, **more)

    return noted


def plain(result: Result) -> list[Trial]:
    return [replace(one, seconds=0.0) for one in result.trials]


def test_the_best_values_are_found_and_bad_trials_given_up(whole: tuple[Result, Path]) -> None:
    result, left = whole
    assert [one.number for one in result.trials] == list(range(TRIALS))
    ended = [one for one in result.trials if one.state == "complete"]
    assert result.value == max(one.value or 0.0 for one in ended) > 0.8
    assert {one.state for one in result.trials} == {"complete", "pruned"}
    assert set(result.importances) == set(result.fields) == {"training.learning_rate", "training.tokens_per_batch"}
    assert all(1e-4 <= one.values["training.learning_rate"] <= 2e-2 for one in result.trials)
    folder = next((left / "models" / "tickets" / "searches").iterdir())
    assert [one.parent.name for one in folder.glob("trials/*/bundle")] == [f"{result.best:04d}"]
    assert not list(folder.glob("trials/*/checkpoints"))


def test_no_trial_reads_a_test_row(shop: Shop, whole: tuple[Result, Path]) -> None:
    rows = corpus.read_rows(shop.home, shop.snapshot.version, ["row_version", "split"]).to_pylist()
    by = {
        split: {one["row_version"] for one in rows if one["split"] == split}
        for split in ("train", "validation", "test")
    }
    assert len(by["test"]) > 20
    assert shop.seen == by["train"] | by["validation"]
    assert whole[0].rows == {"train": len(by["train"]), "validation": len(by["validation"])}


class Killed(BaseException):
    """As if the process had died."""


def test_it_goes_on_where_it_was_cut_off(
    shop: Shop, whole: tuple[Result, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Any] = []

    def report(self: Any, *given: Any) -> None:
        reports.append(given)
        if len(reports) == 5:  # in the second trial
            raise Killed
        kept(self, *given)

    kept = study.Study.report_value
    with monkeypatch.context() as broken, pytest.raises(Killed):
        broken.setattr(study.Study, "report_value", report)
        shop.run()
    journal = shop.folder() / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 5, "wor')  # the crash cut an entry short
    assert list(shop.folder().glob("trials/0001/checkpoints/*"))
    result = shop.run()
    assert plain(result) == plain(whole[0])
    assert (result.best, result.value) == (whole[0].best, whole[0].value)


@pytest.mark.process
def test_two_processes_share_it_and_one_is_killed(shop: Shop) -> None:
    """The trial of the one that dies is gone on with by the other: no trial is lost, none is there twice."""
    victims: list[int] = []

    def kill() -> None:
        folder = until(lambda: list(shop.home.model.glob("searches/*/trials/*/checkpoints/*/*seal*")))[0]
        trial = folder.parents[2]
        mine = lambda one: any(str(trial) in file.path for file in one.open_files())  # noqa: E731
        found = until(lambda: [one for one in psutil.Process().children() if mine(one)])
        victims.append(found[0].pid)
        os.kill(found[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    result = shop.run(trials=2, jobs=2)
    thread.join()
    assert len(victims) == 1
    assert [one.number for one in result.trials] == [0, 1]
    assert all(one.state in ("complete", "pruned") for one in result.trials)
    runs = children(shop, result.run_id)
    assert sorted(one.data.tags["mlflow.runName"] for one in runs) == [f"trial {number}" for number in range(2)]
    assert {one.info.status for one in runs} <= {"FINISHED", "KILLED"}


def children(shop: Shop, run_id: str) -> list[Any]:
    mlflow = store.open_client(shop.home)
    place = mlflow.get_experiment_by_name("tickets").experiment_id
    return list(mlflow.search_runs([place], f"tags.`mlflow.parentRunId` = '{run_id}'"))


def test_the_command_ends_what_is_done_with_a_recipe_and_a_page(
    shop: Shop,
    whole: tuple[Result, Path],
    evertune: Callable[..., Done],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = Path(shutil.copytree(whole[1], tmp_path / "home", dirs_exist_ok=True))
    monkeypatch.setenv("EVERTUNE_HOME", str(home))
    monkeypatch.setattr(training, "finetune_model", None)  # nothing is trained again
    done = evertune("search", shop.path, "--trials", TRIALS, "--json", "--output", tmp_path / "best.yaml")
    assert done.status == 0, done.err
    found = done.json
    assert (found["best"], found["value"], found["run_id"]) == (whole[0].best, whole[0].value, whole[0].run_id)
    best = load_recipe(tmp_path / "best.yaml")
    assert best.training.learning_rate == found["values"]["training.learning_rate"]
    first, second, *_ = (tmp_path / "best.yaml").read_text().splitlines()
    assert first == f"# evertune run {tmp_path / 'best.yaml'}"
    assert second == f"# Found by a search: evertune search {shop.path}"
    page = Path(found["report"]).read_text()
    assert found["sentence"] in page and page.count("data:image/png") == 2 and "<script" not in page
    assert found["sentence"] in done.err and " tokens_per_batch " in done.err
    mlflow = store.open_client(Home(home, "tickets"))
    run = mlflow.get_run(found["run_id"])
    assert run.info.status == "FINISHED" and found["sentence"] in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["f1_macro"] == found["value"]
    assert {one.path for one in mlflow.list_artifacts(found["run_id"], "report")} >= {
        "report/search.html",
        "report/best.yaml",
    }
    by = {one.data.tags["mlflow.runName"]: one for one in children(shop, found["run_id"])}
    assert {name: one.data.tags["evertune.trial"] for name, one in by.items()} == {
        f"trial {one.number}": one.state for one in whole[0].trials
    }


def test_the_flow_ends_it_too_with_the_recipe_beside_the_other(
    shop: Shop, whole: tuple[Result, Path], prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("EVERTUNE_HOME", str(shutil.copytree(whole[1], tmp_path / "home", dirs_exist_ok=True)))
    monkeypatch.setattr(training, "finetune_model", None)
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        from flows.search import search as flow

        found = flow(str(shop.path), trials=TRIALS)
    assert (found["best"], found["recipe"]) == (whole[0].best, str(shop.path.with_name("recipe.best.yaml")))
    assert load_recipe(found["recipe"]).training.learning_rate == found["values"]["training.learning_rate"]


def test_what_a_dead_search_left_is_closed_by_another_and_gone_on_with_by_its_own(shop: Shop) -> None:
    folders = [shop.home.model / "searches" / name for name in ("one", "two")]
    for folder in folders:
        (folder / "trials" / "0000").mkdir(parents=True)
    one, two = (
        searches.open_search_run(RunContext(shop.plan.recipe, shop.home), folder, {"training.seed": "1 to 9"})
        for folder in folders
    )
    own = searches.open_trial_run(
        RunContext(shop.plan.recipe, shop.home), one, folders[0] / "trials" / "0000", 0, {"training.seed": "4"}
    )
    runs = (one, own.run_id, two)
    mlflow = store.open_client(shop.home)
    for but, left in ((one, ["RUNNING", "RUNNING", "KILLED"]), (two, ["KILLED", "KILLED", "KILLED"])):
        unfinished.close_abandoned(shop.home, "tickets", held_lock="search", except_run=but)
        assert [mlflow.get_run(run).info.status for run in runs] == left
    assert searches.open_search_run(RunContext(shop.plan.recipe, shop.home), folders[0], {}) == one
    (folders[0] / "trials" / "0000" / "run.json").unlink()  # it died before it could note it
    again = searches.open_trial_run(
        RunContext(shop.plan.recipe, shop.home), one, folders[0] / "trials" / "0000", 0, {"training.seed": "4"}
    )
    assert again.run_id == own.run_id and mlflow.get_run(own.run_id).info.status == "RUNNING"
