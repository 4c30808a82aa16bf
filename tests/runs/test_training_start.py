"""What a training begins with: champion, teacher, folder; and when it waits for more rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evertune.config import Recipe
from evertune.errors import RegistryError
from evertune.registry.decisions import queries
from evertune.registry.decisions.queries import DecidedRun
from evertune.runs import training_start
from evertune.runtime.files import write_json
from tests.helpers.model import recipe, split_rows, text_rows
from tests.helpers.registry import Shop, make_champion, tokens_of


def with_fresh(one: Recipe, **fresh: Any) -> Recipe:
    data = one.data.model_copy(update={"fresh": one.data.fresh.model_copy(update=fresh)})
    return one.model_copy(update={"data": data})


@pytest.fixture
def continuing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop whose recipe continues the champion's weights."""
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    shop.recipe = with_fresh(shop.recipe, start_from="champion")
    return shop


@pytest.mark.parametrize(
    ("start_from", "train_on", "expected"),
    [("base", "all", False), ("base", "new", True), ("champion", "all", True), ("base", "replay", True)],
)
def test_only_a_training_from_the_base_on_all_rows_needs_no_champion(
    tiny_model: Path, start_from: str, train_on: str, expected: bool
) -> None:
    one = with_fresh(recipe(tiny_model), start_from=start_from, train_on=train_on)
    assert training_start.builds_on_champion(one) is expected
    assert training_start.needs_champion(one) is expected


def test_a_teacher_that_is_the_champion_needs_one(tiny_model: Path) -> None:
    one = recipe(tiny_model, training={"distill": {"teacher": "champion"}})
    assert not training_start.builds_on_champion(one)
    assert training_start.needs_champion(one)


def test_a_training_from_the_base_does_not_ask_for_the_champion(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    make_champion(shop, shop.checked())
    start = training_start.find_start(shop.recipe, tokens_of(1))
    assert (start.champion, start.champion_version, start.initial_version, start.since) == (None, None, None, 0)
    assert start.folder.parent == shop.home.runs and not start.is_trained()
    assert training_start.describe_parents(shop.recipe, start) == {}


def test_a_training_that_continues_the_champion_knows_its_version_and_its_newest_batch(continuing: Shop) -> None:
    assert training_start.find_start(continuing.recipe, tokens_of(1)).champion is None  # there is none yet
    version = continuing.checked()
    make_champion(continuing, version)
    start = training_start.find_start(continuing.recipe, tokens_of(2))
    assert start.champion is not None and (start.champion / "evertune.json").exists()
    assert (start.champion_version, start.initial_version, start.since) == (version, version, 1)
    assert training_start.describe_parents(continuing.recipe, start) == {"start": version}


def test_the_same_training_has_the_same_folder_unless_it_is_done_anew(continuing: Shop) -> None:
    one, tokens = continuing.recipe, tokens_of(1)
    first = training_start.begin_training(one, tokens)
    first.folder.mkdir(parents=True)
    write_json(first.folder / "candidate.json", {})
    again = training_start.begin_training(one, tokens)
    assert again.folder == first.folder and again.is_trained()
    anew = training_start.begin_training(one, tokens, anew=True)
    assert anew.folder == first.folder  # of a run that is not concluded: it goes on
    (first.folder / "concluded").touch()
    anew = training_start.begin_training(one, tokens, anew=True)
    assert anew.folder != first.folder and not anew.is_trained()


def test_a_run_that_was_cut_off_continues_from_the_champion_that_it_met(
    continuing: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, tokens = continuing.recipe, tokens_of(3)
    met, made = continuing.checked(), continuing.checked()
    make_champion(continuing, met)
    before = training_start.begin_training(one, tokens)
    before.folder.mkdir(parents=True)
    write_json(before.folder / "run.json", {"run_id": "the run"})
    make_champion(continuing, made)  # by that run, which a crash ended then
    monkeypatch.setattr(queries, "find_champion_run", lambda *_: DecidedRun("the run", met))
    assert training_start.find_start(one, tokens) == before
    assert training_start.resume_training(one, tokens_of(4)) is None  # other rows
    monkeypatch.setattr(queries, "find_champion_run", lambda *_: DecidedRun("another run", met))
    assert training_start.resume_training(one, tokens) is None
    monkeypatch.setattr(queries, "find_champion_run", lambda *_: DecidedRun("the run", met))
    (before.folder / "concluded").touch()
    assert training_start.resume_training(one, tokens) is None
    assert training_start.find_start(one, tokens).champion_version == made


def test_a_champion_whose_files_are_gone_names_the_way_out(continuing: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    make_champion(continuing, continuing.checked())

    def fail(*_: object) -> None:
        raise RegistryError("its files are gone")

    monkeypatch.setattr("evertune.registry.versions.versions.fetch_bundle", fail)
    with pytest.raises(RegistryError, match=r"its files are gone; .*--set data\.fresh\.start_from=base"):
        training_start.begin_training(continuing.recipe, tokens_of(1))


def test_too_few_new_rows_wait_only_where_new_rows_are_trained_on(tiny_model: Path) -> None:
    rows = split_rows([{**row, "batch": 1} for row in text_rows(30)])
    one = recipe(tiny_model)
    on_new = with_fresh(one, train_on="new")
    shortage = training_start.find_shortage(rows, on_new, since=1)
    assert shortage is not None
    assert "data.fresh.train_on is new, so training waits for more rows" in shortage.reason
    assert training_start.find_shortage(rows, on_new, since=0) is None  # no champion: training raises the error
    assert training_start.find_shortage(rows, one, since=1) is None
    rows = split_rows([{**row, "batch": 2} for row in text_rows(30)])
    assert training_start.find_shortage(rows, on_new, since=1) is None


def test_tags_name_what_a_version_descends_from(tiny_model: Path, tmp_path: Path) -> None:
    start = training_start.TrainingStart(tmp_path, None, 4, 3, tmp_path, "digest")
    assert training_start.describe_parents(recipe(tiny_model), start) == {"teacher": "digest", "start": 3}
    assert training_start.describe_parents(recipe(tiny_model), replace(start, initial_version=None)) == {
        "teacher": "digest"
    }
