"""The public Python API without a training: names, models, inputs, history, and what is wrong in a call."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import evertune
from evertune import api
from evertune.errors import ConfigError, DataError, RegistryError
from evertune.objectives import load_objective
from evertune.registry.decisions import ledger
from evertune.registry.versions import versions
from evertune.runtime.environment import SETTINGS, prepare_environment
from tests.helpers.cli import ticket_rows
from tests.helpers.registry import LABELS, Shop, make_champion

TEXTS = ["where is my card", "I want a refund", "no parcel came"]
TICKETS = ticket_rows(120)


@pytest.fixture
def champion(shop: Shop) -> evertune.Model:
    """The champion of a model with one version."""
    make_champion(shop, shop.checked())
    return evertune.load(f"models:/{shop.name}@champion", home=shop.home.root)


@pytest.mark.process
def test_the_names_are_those_of_the_api_and_imported_when_used() -> None:
    program = (
        "import sys, evertune\n"
        "before = 'evertune.api' in sys.modules, 'click' in sys.modules, 'yaml' in sys.modules\n"
        "from evertune import *\n"
        "print(*before, 'evertune.api' in sys.modules, callable(run), callable(backtest))\n"
        "import evertune.backtesting.backtest\n"
        "print(callable(evertune.backtest))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "True", "True", "True", "True"]
    assert set(evertune.__all__) == {*api.__all__, "__version__"} == set(dir(evertune))
    assert all(getattr(evertune, name) is getattr(api, name) for name in api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        evertune.runn  # type: ignore[attr-defined]  # noqa: B018
    assert Path(evertune.__file__).with_name("py.typed").is_file()


def test_a_recipe_is_loaded_with_overrides(tiny_recipe: Callable[..., Path]) -> None:
    recipe = evertune.load_recipe(tiny_recipe(), ["training.epochs=3"])
    assert isinstance(recipe, evertune.Recipe) and recipe.training.epochs == 3
    with pytest.raises(ConfigError, match=r"overrides: give a list, such as \['training.epochs=3'\]"):
        evertune.load_recipe(tiny_recipe(), "training.epochs=3")
    with pytest.raises(ConfigError, match="overrides apply to a file"):
        evertune.run(recipe, overrides=["training.epochs=3"])
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        evertune.run("nowhere.yaml")


def test_what_the_command_line_sets_is_set_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TQDM_DISABLE", "0")
    prepare_environment()
    assert {name: os.environ[name] for name in SETTINGS} == {**SETTINGS, "TQDM_DISABLE": "0"}


def test_the_logging_of_the_caller_stays_as_it_was() -> None:
    root, library = logging.getLogger(), logging.getLogger("evertune")
    before = root.handlers[:], root.level, library.level
    handler = logging.StreamHandler()
    with pytest.raises(KeyError), api._logging_restored():
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        library.setLevel(logging.DEBUG)
        raise KeyError
    assert (root.handlers, root.level, library.level) == before


def test_a_champion_answers_one_row_an_input(champion: evertune.Model, shop: Shop) -> None:
    assert (champion.name, champion.version, champion.labels) == (shop.name, 1, LABELS)
    assert champion.folder == versions.fetch_bundle(shop.home, shop.name, 1)
    found = champion.predict(TEXTS)
    assert list(found.columns) == ["label", "score"] and len(found) == 3
    assert set(found.label) <= set(LABELS) and found.score.between(0, 1).all()
    pd.testing.assert_frame_equal(champion.predict(pd.Series(TEXTS)), found)
    pd.testing.assert_frame_equal(champion.predict({"text": text} for text in TEXTS), found)
    assert list(champion.predict([]).columns) == ["label", "score"]
    assert "_predictor" not in repr(champion)


def test_a_version_is_loaded_by_its_number_and_from_the_nearest_home(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = shop.checked()
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    assert evertune.load(f"models:/{shop.name}/{version}").version == version
    project = tmp_path / "project"
    (project / "notebooks").mkdir(parents=True)
    (project / ".evertune").symlink_to(shop.home.root)
    monkeypatch.delenv("EVERTUNE_HOME")
    monkeypatch.chdir(project / "notebooks")
    assert evertune.load(f"models:/{shop.name}/{version}").version == version
    with pytest.raises(RegistryError, match=r"is a project; its home is home='.*/\.evertune'"):
        evertune.load(f"models:/{shop.name}/{version}", home=project)


def test_what_cannot_be_loaded_says_what_to_do(shop: Shop, tmp_path: Path) -> None:
    version = shop.checked()

    def refusal(uri: str, home: Path = shop.home.root) -> str:
        with pytest.raises(RegistryError) as caught:
            evertune.load(uri, home=home)
        return str(caught.value)

    assert "write models:/NAME@champion" in refusal(shop.name)
    assert f"did you mean {shop.name}?" in refusal(f"models:/{shop.name}x@champion")
    assert refusal(f"models:/{shop.name}@champion") == (
        f"{shop.name} has no version with the alias champion; load one by its number, such as models:/{shop.name}/1"
    )
    assert f"{shop.name} has no version {version + 8}" in refusal(f"models:/{shop.name}/{version + 8}")
    assert f"no Evertune home at {tmp_path}/nowhere" in refusal("models:/x@champion", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("where is my card", r"inputs: give a list of inputs, not a str: predict\(\[...\]\)"),
        (17, "inputs: give a list of inputs, not an int"),
        (
            pd.DataFrame({"text": TEXTS}),
            r"give the values of a data frame, not the frame itself: predict\(df\['text'\]\)",
        ),
        ([*TEXTS, " "], r"^inputs\[3\]: text is empty$"),
        ([*TEXTS, None], r"^inputs\[3\]: text is empty$"),
        ([TEXTS[0], float("nan")], r"^inputs\[1\]: text is empty$"),
        ([*TEXTS, 5], r"^inputs\[3\]: text must be a string, not an int$"),
        ([*TEXTS, ("a", "b")], r"^inputs\[3\]: text must be a string, not a tuple of 2$"),
        ([{"txt": "a"}], r"^inputs\[0\]: text must be a string, not a mapping with the keys txt$"),
    ],
)
def test_an_unusable_input_is_named(champion: evertune.Model, inputs: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        champion.predict(inputs)


def checked(objective: str, *inputs: Any) -> list[Any]:
    """The inputs as a model of this objective takes them."""
    module = load_objective(objective)
    options = SimpleNamespace(type=objective)
    return api._check_inputs(inputs, SimpleNamespace(objective=module, options=options))


def test_inputs_of_every_shape() -> None:
    pairs = checked("pair-classification", ("a", "b"), {"text_pair": "d", "text": "c"})
    assert pairs == [("a", "b"), ("c", "d")]
    assert checked("token-classification", ["Anna", "lives"], ("in", "Rome")) == [["Anna", "lives"], ["in", "Rome"]]
    dialogue = [{"role": "user", "content": "Hello"}]
    assert checked("chat", "Hello", dialogue) == ["Hello", json.dumps(dialogue)]


@pytest.mark.parametrize(
    ("objective", "value", "words"),
    [
        ("pair-classification", "a", r"give a tuple \(text, text_pair\) or a mapping with these keys, not a str"),
        ("pair-classification", ("a",), "not a tuple of 1"),
        ("pair-classification", {"text": "a"}, "not a mapping with the keys text"),
        ("pair-classification", ("a", ""), r"inputs\[0\]: text_pair is empty"),
        ("pair-classification", ("a", 3), r"inputs\[0\]: text_pair must be a string, not an int"),
        ("token-classification", "Anna lives", "tokens must be a list of words, not a str"),
        ("token-classification", [], "tokens is empty"),
        ("chat", [{"role": "user"}], "the prompt is not a dialogue"),
        ("image-classification", 5, r"inputs\[0\]: image: expected a picture, found int"),
        ("image-classification", Path("nowhere.png"), r"inputs\[0\]: image: nowhere.png cannot be read"),
        ("image-classification", "secret.png", "give bytes, a pathlib.Path, or base64 text"),
    ],
)
def test_an_input_of_the_wrong_shape_is_named(objective: str, value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        checked(objective, value)


@pytest.mark.slow
def test_a_backtest_gives_frames_and_a_report(tiny_recipe: Callable[..., Path], tmp_path: Path) -> None:
    start = date(2026, 1, 5)
    path = tiny_recipe(
        data={"sources": [{"path": "weeks.csv"}], "columns": {"timestamp": "at"}},
        evaluation={"metric": "accuracy", "bootstrap": 200, "gate": {"min_rows": 2, "noninferior_on": {}}},
    )
    lines = [f'"{text}",{label},{start + timedelta(number // 30 * 7)}' for number, (text, label) in enumerate(TICKETS)]
    (tmp_path / "weeks.csv").write_text("\n".join(["text,label,at", *lines]) + "\n")
    result = evertune.backtest(path, policies="never,always", start=2)
    assert isinstance(result, evertune.BacktestResult)
    assert result.report.is_file() and result.run_id
    summaries = result.summaries_frame()
    assert summaries.index.tolist() == ["never", "always"]
    assert summaries.retrainings.tolist() == [1, 2]
    steps = result.steps_frame()
    assert len(steps) == len(result.steps) == 4
    assert steps.accuracy.between(0, 1).all() and steps.day.dt.year.eq(2026).all()
    again = evertune.backtest(path, policies="never,always", start=2)
    assert again.steps == result.steps


def test_a_model_answers_in_a_running_loop(champion: evertune.Model) -> None:
    async def answer() -> pd.DataFrame:
        return champion.predict(TEXTS)

    pd.testing.assert_frame_equal(asyncio.run(answer()), champion.predict(TEXTS))


def test_the_history_is_a_frame_newest_last(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    columns = ["time", "event", "version", "from_version", "to_version", "who", "reason"]
    assert list(evertune.history(shop.recipe).columns) == columns
    for _ in range(2):
        make_champion(shop, shop.checked())
    ledger.append_event(shop.home, "decision", verdict="held", version=2, reason="too few rows")
    found = evertune.history(shop.recipe)
    assert list(found.columns) == columns
    assert found.event.tolist() == ["moved", "moved", "held"]
    assert found.to_version.tolist() == [1, 2, pd.NA]
    assert found.from_version.tolist() == [pd.NA, 1, pd.NA]
    assert found.reason.iloc[-1] == "too few rows"
    assert str(found.time.dtype).endswith("UTC]") and found.time.is_monotonic_increasing
