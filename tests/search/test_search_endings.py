"""How a search ends that finds nothing, or not everything; and the teacher of its trials."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evertune import training
from evertune.config import load_search
from evertune.errors import ConfigError, DataError, SettingsError, TrainingError
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home
from evertune.search import search, study, trial
from tests.helpers.cli import WORDS, ticket_rows
from tests.helpers.model import recipe, split_rows, train
from tests.helpers.search import Shop, taken


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, model_store: Path) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        yield taken(tmp_path_factory.mktemp("search"), tiny_model, model_store, patch)


@pytest.fixture(autouse=True)
def own_home(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The home in which the rows were taken in; no search is left in it."""
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.path.parent / "home"))
    yield
    shutil.rmtree(shop.home.model / "searches", ignore_errors=True)


def broken(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_values_that_cannot_be_trained_are_given_up_and_other_errors_stop_the_search(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "finetune_model", broken(SettingsError("the loss is nan")))
    with pytest.raises(TrainingError, match="none of 2 trials was completed: the loss is nan; search other"):
        shop.run(trials=2)
    monkeypatch.setattr(training, "finetune_model", broken(TrainingError("nothing can be written")))
    with pytest.raises(TrainingError, match="nothing can be written"):
        shop.run(trials=3)
    made = study.Study(Home(shop.home.root, f"tickets/searches/{shop.folder().name}"), shop.plan.fields, False, 17)
    assert [(one.state, one.why) for one in made.list_trials()] == [
        ("pruned", "the loss is nan"),
        ("pruned", "the loss is nan"),
        ("running", None),
    ]


def test_a_recipe_that_no_values_mend_ends_the_search(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def unlike(*_: object, **__: object) -> None:
        tried.append(1)
        raise ConfigError(f"training.student.layers: {len(tried)} are too many")

    monkeypatch.setattr(training, "finetune_model", unlike)
    with pytest.raises(TrainingError, match=r"none of 6 trials was completed: training.student.layers: 1 are"):
        shop.run(trials=6)
    shutil.rmtree(shop.home.model / "searches")
    monkeypatch.setattr(training, "finetune_model", broken(ConfigError("training.freeze: no part is called x")))
    with pytest.raises(ConfigError, match=r"no part is called x \(the same in all 5 trials, whatever their values\)"):
        shop.run(trials=20)
    made = study.Study(Home(shop.home.root, f"tickets/searches/{shop.folder().name}"), shop.plan.fields, False, 17)
    assert [one.state for one in made.list_trials()] == ["pruned"] * study.ALIKE


@pytest.mark.process
def test_trials_of_all_processes_have_the_teacher_that_was_found_once(
    shop: Shop, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": text, "label": label} for text, label in ticket_rows(20)]
    one = recipe(tiny_model, shop.plan.recipe.objective.model_dump(), training={"epochs": 1})
    known = Path(train(one, tmp_path, split_rows(rows), sorted(WORDS)).bundle)
    monkeypatch.setattr(models, "find_champion", lambda *_: None)
    given = [
        "training.distill={teacher: champion, temperature: {search: [1.0, 4.0]}}",
        "training.epochs=1",
        "training.tokens_per_batch=512",
        "training.learning_rate=0.01",
    ]
    taught = replace(shop, plan=load_search(shop.path, given))
    with pytest.raises(ConfigError, match=r"training\.distill\.teacher: tickets has no champion yet"):
        taught.run()
    assert not (shop.home.model / "searches").exists()
    monkeypatch.setattr(models, "find_champion", lambda *_: 7)
    monkeypatch.setattr(models, "fetch_bundle", lambda _, name, version: {("tickets", 7): known}[name, version])
    found = taught.run(trials=2, jobs=2)
    assert [one.state for one in found.trials] == ["complete", "complete"]
    assert found.fields == {"training.distill.temperature": "1 to 4"}
    assert {place for place, _ in search._find_teachers(taught.plan).values()} == {known}
    other = Path(shutil.copytree(known, tmp_path / "other"))
    (other / "more").write_text("of another")
    monkeypatch.setattr(models, "fetch_bundle", lambda *_: other)
    monkeypatch.setattr(training, "finetune_model", broken(TrainingError("another search")))
    with pytest.raises(TrainingError, match="another search"):  # nothing of the first counts
        taught.run(trials=2)
    choices = ["training.distill={search: {choices: [null, {teacher: champion}]}}", *given[1:]]
    assert list(search._find_teachers(load_search(shop.path, choices))) == ["champion"]


def test_without_validation_rows_nothing_begins(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SEEN", ("train",))
    with pytest.raises(DataError, match="no validation rows to compare trials on"):
        shop.run()
    assert not (shop.home.model / "searches").exists()


def test_no_trial_begins_after_its_time(shop: Shop) -> None:
    with pytest.raises(TrainingError, match="none of 0 trials was completed"):
        shop.run(hours=1e-9)
