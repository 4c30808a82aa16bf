"""A replayed history: windows, policies, the recommendation, and a kill in the middle."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from evertune.audit.forgetting import forget as forgetting
from evertune.backtesting import backtest, compare, outcomes, windows
from evertune.backtesting.verdict import Step
from evertune.cli import cli
from evertune.config import Recipe, load_recipe
from evertune.data import admission
from evertune.data.corpus import transactions as corpus
from evertune.data.sources import read as sources
from evertune.errors import ConfigError, DataError
from evertune.records import Snapshot
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home, home_of
from tests.helpers.cli import ticket_rows

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
NOW = MONDAY + timedelta(days=400)
WEEKS = 6
ROWS = 60
CHANGED = 3  # from this week on, what was said of one label is said of another


def moments(*days: float | None) -> Any:
    values = [None if day is None else MONDAY + timedelta(days=day) for day in days]
    return pa.chunked_array([pa.array(values, pa.timestamp("us", "UTC"))])


def test_windows_are_those_of_the_calendar() -> None:
    found = windows.cut_history(moments(3, 0, 6.4, 7, None, 500, 20), "week", NOW)
    assert found.number.tolist() == [1, 1, 1, 2, 0, 0, 3]
    assert (found.undated, found.future) == (1, 1)
    assert found.starts == (date(2026, 1, 5), date(2026, 1, 12), date(2026, 1, 19))
    months = windows.cut_history(moments(0, 26, 27, 80), "month", NOW)
    assert months.starts == (date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1))
    assert months.number.tolist() == [1, 1, 2, 3]
    assert windows.cut_history(moments(2, 11, 12), "10 days", NOW).number.tolist() == [1, 1, 2]


@given(st.lists(st.floats(0, 300), min_size=1, max_size=30), st.sampled_from(["day", "week", "month", "9 days"]))
def test_each_row_stands_in_the_window_of_its_day(days: list[float], every: str) -> None:
    found = windows.cut_history(moments(*days), every, NOW)
    ends = [*found.starts[1:], date(9999, 1, 1)]
    for day, number in zip(days, found.number, strict=True):
        assert found.starts[number - 1] <= (MONDAY + timedelta(days=day)).date() < ends[number - 1]
    assert found.number.min() == 1 and found.number.max() == len(found)


def test_what_cannot_be_cut_is_said() -> None:
    with pytest.raises(ConfigError, match="use day, week, month"):
        windows.cut_history(moments(1), "fortnight", NOW)
    with pytest.raises(DataError, match=r"no row has a timestamp in the past"):
        windows.cut_history(moments(None, 900), "week", NOW)


def written(folder: Path, base: Path, weeks: int = WEEKS, quiet: Sequence[int] = ()) -> Recipe:
    """Weeks of tickets, some of them without any; from the fourth on, two labels have changed their words."""
    swap = {"refund": "delivery", "delivery": "refund"}
    with (folder / "tickets.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "label", "at"])
        for number, (text, label) in enumerate(ticket_rows(weeks * ROWS)):
            week = number // ROWS
            if week in quiet:
                continue
            day = MONDAY + timedelta(days=7 * week + number % 5)
            lines.writerow([text, swap.get(label, label) if week >= CHANGED else label, day.isoformat()])
    tree = {
        "name": "tickets",
        "objective": {"type": "text-classification", "max_length": 32},
        "base_model": str(base),
        "data": {
            "sources": [{"path": "tickets.csv"}],
            "columns": {"timestamp": "at"},
            "split": {"validation": 0.1, "test": 0.25, "near_duplicate": None},
        },
        "contract": {"tolerance": 1.0},
        "training": {"epochs": 6, "learning_rate": 1e-2, "tokens_per_batch": 768, "precision": "fp32", "warmup": 0.0},
        "evaluation": {
            "metric": "accuracy",
            "precision": "fp32",
            "bootstrap": 200,
            "gate": {"min_rows": 5, "minimum": {}, "noninferior_on": {}, "confidence": 0.8},
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return load_recipe(folder / "recipe.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[backtest.Result]:
    """The whole history, replayed once."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERTUNE_HOME", str(folder / "home"))
        yield replayed(written(folder, tiny_model))


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    return written(tmp_path, tiny_model)


def taken_in(recipe: Recipe) -> tuple[Home, Snapshot]:
    home = home_of(recipe)
    batch = corpus.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen))
    return home, admission.admit_batch(batch, RunContext(recipe, home))[0]


def replayed(recipe: Recipe, told: Callable[[Step], None] = lambda step: None, **more: Any) -> backtest.Result:
    home, snapshot = taken_in(recipe)
    policies = backtest.parse_policies("never,always,gated,drift")
    return backtest.run_backtest(
        RunContext(recipe, home), snapshot, "week", policies, lambda folder: "run", told, **more
    )


def plain(result: backtest.Result) -> list[Step]:
    return [replace(step, seconds=0.0) for step in result.steps]


@pytest.mark.slow
def test_policies_are_told_apart_by_a_history_with_a_change(whole: backtest.Result) -> None:
    result = whole
    assert (result.first, len(result.windows), len(result.steps)) == (2, 6, 4 * 4)
    by = {one.policy: one for one in result.summaries}
    assert (by["never"].retrainings, by["always"].retrainings, by["always"].promotions) == (1, 4, 4)
    assert by["always"].metric > by["never"].metric
    for step in result.steps:
        assert step.rows == ROWS
        assert step.day == (MONDAY + timedelta(days=7 * step.window)).date().isoformat()
    never = [step for step in result.steps if step.policy == "never"]
    assert [step.model for step in never] == [2, 2, 2, 2]
    assert never[2].metrics["accuracy"] < never[0].metrics["accuracy"] - 0.1  # the change shows in week 4
    checked = {step.window: step.drift for step in result.steps if step.policy == "drift" and step.window > 2}
    assert checked[4] is not None and checked[4] <= 0.05 < checked[3]
    kept = Path(result.folder).parents[1]
    assert not (kept / "models").exists()  # gigabytes, and the scores tell all that a gate asks
    assert sorted(path.name[:4] for path in (kept / "scores").glob("0*.npz")) == ["0002", "0003", "0004", "0005"]


def strict(recipe: Recipe) -> Recipe:
    """With a gate that asks for more than these rows can show: it holds every challenger."""
    gate = recipe.evaluation.gate.model_copy(update={"min_rows": 5, "confidence": 0.9999})
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"gate": gate})})


@pytest.mark.slow
def test_where_no_rows_came_since_the_last_training_nothing_is_retrained(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A held challenger is not trained again on the same rows: a run would say `unchanged`."""
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    recipe = strict(written(tmp_path, tiny_model, weeks=7, quiet=(3, 4)))
    home, snapshot = taken_in(recipe)

    def until(step: Step) -> None:
        if step.window == 4:
            raise KeyboardInterrupt

    def run(told: Callable[[Step], None]) -> backtest.Result:
        policies = backtest.parse_policies("gated")
        return backtest.run_backtest(
            RunContext(recipe, home), snapshot, "week", policies, lambda _: "run", told, start=2
        )

    with pytest.raises(KeyboardInterrupt):
        run(until)
    found = {step.window: step for step in run(lambda _: None).steps}
    assert found[3].verdict == "held"
    assert [window for window, step in found.items() if step.retrained] == [2, 3, 6]


@pytest.mark.slow
def test_rows_that_teach_nothing_train_nothing(recipe: Recipe) -> None:
    """With `train_on: new`, a week of one label is no error: a run would say `unchanged` and wait for more."""
    head, *lines = (file := recipe.folder / "tickets.csv").read_text().splitlines()
    week = (MONDAY + timedelta(days=28)).date().isoformat()
    kept = [line for line in lines if line.rsplit(",", 1)[1] < week or line.rsplit(",", 2)[1] == "refund"]
    file.write_text("\n".join([head, *kept]) + "\n")
    fresh = recipe.data.fresh.model_copy(update={"train_on": "new"})
    new = recipe.model_copy(update={"data": recipe.data.model_copy(update={"fresh": fresh})})
    home, snapshot = taken_in(new)
    always = backtest.parse_policies("always")
    found = backtest.run_backtest(
        RunContext(new, home), snapshot, "week", always, lambda _: "run", lambda _: None, start=3
    ).steps
    assert [(step.window, step.retrained) for step in found] == [(3, True), (4, True), (5, False)]


@pytest.mark.slow
def test_a_lenient_policy_promotes_what_is_held(recipe: Recipe) -> None:
    recipe = strict(recipe)
    home, snapshot = taken_in(recipe)
    policies = backtest.parse_policies("gated,unless-harm,gated-test")
    found = backtest.run_backtest(
        RunContext(recipe, home), snapshot, "week", policies, lambda _: "run", lambda _: None, start=4
    )
    last = [step for step in found.steps if step.window == 5]
    said = {(step.policy, step.verdict, step.promoted) for step in last}
    assert said == {("gated", "held", False), ("unless-harm", "held", True), ("gated-test", "held", False)}
    asked = {step.policy: step.reason or "" for step in last}
    assert " fresh rows" in asked["gated"] and " test rows" in asked["gated-test"]


@pytest.mark.slow
def test_a_policy_sees_nothing_of_what_comes_later(
    whole: backtest.Result, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same history without its last two weeks gives the same steps before."""
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    short = replayed(written(tmp_path, tiny_model, weeks=4))
    for step, same in zip(plain(short), [step for step in plain(whole) if step.window < 4], strict=True):
        # Rows are scored in batches with later ones, which moves the last digits of a probability.
        assert step.metrics == pytest.approx(same.metrics, abs=1e-6)
        # What a promotion was worth is seen later, and the models' names hold the rows of the corpus.
        hidden: dict[str, Any] = {"metrics": {}, "models": None, "lost": None, "chance_wrong": None}
        assert replace(step, **hidden, proven_wrong=False) == replace(same, **hidden, proven_wrong=False)


def cut_off(recipe: Recipe) -> None:
    steps = iter(range(6))  # to the middle of the second window

    def until(_: Step) -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replayed(recipe, until)


@pytest.mark.slow
def test_it_goes_on_where_it_was_cut_off(recipe: Recipe, whole: backtest.Result) -> None:
    cut_off(recipe)
    scores = next((home_of(recipe).model / "backtests").glob("*/scores"))
    first = next(scores.glob("0002-*.npz"))
    before = first.stat().st_mtime_ns
    (damaged,) = scores.glob("0003-*.npz")
    damaged.write_bytes(damaged.read_bytes()[:400])  # a disk that lost the end of a file
    result = replayed(recipe)
    assert first.stat().st_mtime_ns == before
    assert plain(result) == plain(whole)


@pytest.mark.slow
def test_it_begins_anew_where_forgetting_took_its_models(recipe: Recipe, whole: backtest.Result) -> None:
    cut_off(recipe)
    forgetting._drop_trained(home_of(recipe))
    assert plain(replayed(recipe)) == plain(whole)


@pytest.mark.slow
def test_a_backtest_of_a_later_day_is_another_where_rows_were_still_to_come(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, snapshot = taken_in(recipe)

    def at(days: float) -> backtest.Result:
        monkeypatch.setattr(backtest, "datetime", type("Clock", (), {"now": lambda zone: MONDAY + timedelta(days)}))
        policies = backtest.parse_policies("never")
        return backtest.run_backtest(
            RunContext(recipe, home), snapshot, "week", policies, lambda _: "run", lambda _: None, start=2
        )

    early = at(26.1)
    soon = at(26.2)
    late = at(400)
    assert early.folder == soon.folder != late.folder
    assert plain(early) == plain(soon)
    assert (early.left_out, late.left_out) == ({"in the future": 2 * ROWS}, {})
    assert [step.window for step in early.steps] == [2, 3]
    assert [step.window for step in late.steps] == [2, 3, 4, 5]


@pytest.mark.slow
def test_the_gate_looks_at_the_rows_that_a_run_would_look_at(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluation.window`: the newest of what the champion knew, by when it came, however the file is sorted."""
    file = recipe.folder / "tickets.csv"
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([head, *lines[::-1]]) + "\n")
    bounded = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"window": 4})})
    home, snapshot = taken_in(bounded)
    judged = list[tuple[Any, Counter[int]]]()
    decide = compare.decide_promotion

    def spy(case: Any) -> Any:
        judged.append((case.scored.fresh.tolist(), Counter((5 - case.scores.ingests.astype(int)).tolist())))
        return decide(case)

    monkeypatch.setattr(compare, "decide_promotion", spy)
    gated = backtest.parse_policies("gated")
    backtest.run_backtest(RunContext(bounded, home), snapshot, "week", gated, lambda _: "run", lambda _: None, start=4)
    ((fresh, rows),) = judged
    assert (rows.keys(), rows[4]) == ({4, 5}, 4) and rows[5] > 4
    assert fresh == [False] * 4 + [True] * rows[5]


@pytest.mark.slow
def test_rows_without_a_timestamp_column_or_too_few_windows_are_errors(recipe: Recipe) -> None:
    without = recipe.model_copy(update={"data": recipe.data.model_copy(update={"columns": {}})})
    with pytest.raises(ConfigError, match="a backtest needs a timestamp"):
        backtest.run_backtest(
            RunContext(without, home_of(recipe)), taken_in(recipe)[1], "week", [], lambda _: "", lambda _: None
        )
    with pytest.raises(DataError, match=r"1 windows, and before the last one none .* set shorter windows"):
        home, snapshot = taken_in(recipe)
        backtest.run_backtest(
            RunContext(recipe, home),
            snapshot,
            "90 days",
            backtest.parse_policies("never"),
            lambda _: "",
            lambda _: None,
        )


@pytest.mark.slow
def test_the_command_prints_keeps_and_shows_it(recipe: Recipe, tmp_path: Path) -> None:
    arguments = ["backtest", str(recipe.folder / "recipe.yaml"), "--policies", "never,gated:2", "--json"]
    first, second = (CliRunner().invoke(cli, arguments) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    found = json.loads(first.stdout)
    again = json.loads(second.stdout)
    assert {**found, "run_id": ""} == {**again, "run_id": ""}
    assert found["sentence"] in first.stderr
    page = Path(found["report"]).read_text()
    assert found["sentence"] in page and "data:image/png" in page and "<script" not in page
    from evertune.registry.tracking.store import open_client

    mlflow = open_client(Home(tmp_path / "home", recipe.name))
    runs = mlflow.search_runs([mlflow.get_experiment_by_name(recipe.name).experiment_id])
    parents = Counter(run.data.tags.get("mlflow.parentRunId") for run in runs)
    assert parents == {None: 1, found["run_id"]: len(found["steps"])}
    assert {run.info.status for run in runs} == {"FINISHED"}
    own = mlflow.get_run(found["run_id"])
    assert own.data.metrics["gated_2_metric"] == pytest.approx(found["summaries"][1]["metric"])
    assert np.isfinite(list(own.data.metrics.values())).all()


@pytest.mark.slow
def test_other_gates_are_tried_over_the_kept_scores(recipe: Recipe) -> None:
    path = str(recipe.folder / "recipe.yaml")

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(cli, [*arguments, path, "--json"])

    with pytest.raises(DataError, match="no backtest of tickets is kept; run `evertune backtest` first"):
        raise call("gate", "try").exception
    kept = json.loads(call("backtest", "--policies", "never,always,gated").stdout)
    tried_call = call("gate", "try", "--gates", "proof,caution=500")
    assert tried_call.exit_code == 0, tried_call.exception
    tried = json.loads(tried_call.stdout)
    by_name = {summary["policy"]: summary for summary in tried["summaries"]}
    assert list(by_name) == ["never", "always", "always:2", "gated", "proof", "caution=500"]
    for summary in kept["summaries"]:
        assert by_name[summary["policy"]]["metric"] == pytest.approx(summary["metric"])
        assert by_name[summary["policy"]]["lost"] == pytest.approx(summary["lost"])
    with pytest.raises(DataError, match=r"trained other models: training\.epochs differ"):
        raise call("gate", "try", "--set", "training.epochs=2").exception
    with pytest.raises(ConfigError, match=r"did you mean proof\?"):
        raise call("gate", "try", "--gates", "proff").exception


def test_a_promotions_worth_is_shrunk_towards_what_is_usual() -> None:
    usual = outcomes.fit_prior([(0.02, 0.01), (0.0, 0.01), (0.04, 0.01), (0.02, 0.01)])
    assert usual[0] == pytest.approx(0.02)
    sure, unsure = (outcomes.shrink(-0.05, error, *usual) for error in (0.001, 0.1))
    assert sure.expected == pytest.approx(-0.05, abs=0.001) and sure.chance_wrong > 0.999
    assert unsure.expected > 0 and unsure.chance_wrong < 0.5 and unsure.lost < sure.lost
    assert outcomes.shrink(-0.05, 0.0, *usual).lost == 0.05
    assert outcomes.fit_prior([(0.1, 0.01)]) == (0.0, float("inf"))
