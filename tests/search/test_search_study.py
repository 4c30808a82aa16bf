"""The trials of a search in their journal: what is drawn, who has one, how many there are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from evertune.config.search import SearchField
from evertune.runtime.home import Home
from evertune.search.study import Study

FIELDS = (
    SearchField("a.rate", 1e-4, 1e-1, log=True),
    SearchField("a.kind", choices=("x", "y", [1])),
    SearchField("a.n", 1, 9),
)


def study(place: Path, seed: int = 3, falls: bool = False) -> Study:
    return Study(Home(place, "m/searches/s"), FIELDS, falls, seed)


def worth(values: dict[str, object]) -> float:
    return float(str(values["a.n"])) - 100 * float(str(values["a.rate"]))


def done(one: Study, count: int) -> Iterator[dict[str, object]]:
    for _ in range(count):
        with one.claim_trial(99) as taken:
            assert taken is not None
            one.complete_trial(taken, worth(taken.values))
            yield taken.values


def test_the_same_seed_draws_the_same_whoever_asks(tmp_path: Path) -> None:
    whole = list(done(study(tmp_path / "a"), 10))
    apart = [values for _ in range(5) for values in done(study(tmp_path / "b"), 2)]  # a new process for two trials
    assert whole == apart
    assert list(done(study(tmp_path / "c", seed=4), 3)) != whole[:3]
    assert {type(one["a.n"]) for one in whole} == {int} and all(1e-4 <= one["a.rate"] <= 0.1 for one in whole)  # type: ignore[operator]
    assert len({f"{one['a.rate']}" for one in whole}) > 8 and all(one["a.kind"] in ("x", "y", [1]) for one in whole)


def test_the_best_is_the_largest_or_the_smallest(tmp_path: Path) -> None:
    up = study(tmp_path / "a")
    down = study(tmp_path / "b", falls=True)
    values = [worth(one) for one in done(up, 5)]
    assert up.find_best() == up.list_trials()[values.index(max(values))]
    values = [worth(one) for one in done(down, 5)]
    assert down.find_best() == down.list_trials()[values.index(min(values))]
    assert set(up.compute_importances()) == {"a.rate", "a.kind", "a.n"} and study(tmp_path / "c").find_best() is None


def test_a_trial_has_one_owner_and_never_more_begin_than_are_asked_for(tmp_path: Path) -> None:
    one = study(tmp_path)
    other = study(tmp_path)
    with one.claim_trial(2) as first, other.claim_trial(2) as second, one.claim_trial(2) as third:
        assert first is not None and second is not None
        assert ([first.number, second.number], third) == ([0, 1], None)
        assert first.values != second.values
    with other.claim_trial(2) as again:  # whoever had it is gone
        assert again is not None and (again.number, again.values) == (0, first.values)
        other.complete_trial(again, 1.0)
    with one.claim_trial(2, may_begin=False) as left:
        assert left is not None and (left.number, left.values) == (1, second.values)
        one.prune_trial(left, "the loss is nan")
    with one.claim_trial(2) as none:
        assert none is None
    assert [(trial.state, trial.value, trial.why) for trial in other.list_trials()] == [
        ("complete", 1.0, None),
        ("pruned", None, "the loss is nan"),
    ]


def test_an_entry_that_a_crash_cut_short_is_taken_off(tmp_path: Path) -> None:
    list(done(study(tmp_path), 2))
    journal = tmp_path / "models/m/searches/s/journal.log"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    assert len(list(done(study(tmp_path), 1))) == 1
    assert [one.state for one in study(tmp_path).list_trials()] == ["complete"] * 3


def test_a_trial_is_pruned_at_the_part_at_which_others_were_better(tmp_path: Path) -> None:
    import optuna

    one = study(tmp_path)
    for _ in range(4):
        with one.claim_trial(9) as good:
            assert good is not None
            for share in (0.1, 0.3, 1.0):
                one.report_value(good, 0.8, share)
            one.complete_trial(good, 0.8)
    with one.claim_trial(9) as bad:
        assert bad is not None
        one.report_value(bad, 0.1, 0.1)  # it is early
        with pytest.raises(optuna.TrialPruned):
            one.report_value(bad, 0.2, 0.5)
        with pytest.raises(optuna.TrialPruned):
            one.report_value(bad, 0.2, 0.5)  # after a crash it is told again
        one.prune_trial(bad)
    assert (one.list_trials()[-1].state, one.list_trials()[-1].value) == ("pruned", 0.2)
