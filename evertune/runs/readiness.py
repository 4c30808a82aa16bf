"""Is the model ready for production? The 28 tests of the ML Test Score, from what the home knows.

Breck, Cai, Nielsen, Salib & Sculley 2017, The ML test score: a rubric for ML production readiness and technical debt
reduction, sections II to V. A test is passed, failed, not applicable, or not automated: then a person has to judge.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from evertune.records import Evidence

Result = Literal["passed", "failed", "not applicable", "not automated"]
SLOWER = 1.2  # times the champion's time for a row that count as a regression, where the recipe sets no bound
STALE_DAYS = 90  # age of the champion from which it counts as stale
STEPS = ("ingest", "validate", "tokenize", "finetune", "evaluate", "promote")
GAIN_TESTS = ("expected", "proof", "superior", "first", "minimum")  # tests of quality that a promotion rests on
HARM_TESTS = ("harm", "noninferior")


@dataclass(frozen=True)
class Facts:
    """What the home knows, as plain values. None: not known.

    Args:
        expectations: number of expectations that the newest batch was checked against.
        inputs: role -> column of the model's inputs; identifiers: the same of ids, groups and timestamps.
        forgotten: number of rows in the corpus that were to be forgotten.
        recipe_state: `committed`, `changed` or `untracked` in git; None outside a repository.
        searches: number of hyperparameter searches on record.
        backtests: number of kept backtests.
        metric: that the recipe is judged by; falls: whether less of it is better.
        score: the challenger's on the test rows; baseline: that of a simple model.
        evidence: of the decision; slices: number of slices with enough rows to be tested.
        verdict: of the decision.
        by_hand: whether a person made today's champion against the gate.
        reproduced: verdict of the last reproduction of a version.
        losses: training losses, oldest first.
        steps: names of the steps that the run did or found done.
        has_champion: whether there was a champion before this run.
        previous_is_whole: whether the version to roll back to has all its files, unchanged.
        libraries: changed libraries since the champion's run, in words.
        notified: whether anybody is told of how runs end.
        refused: share of refused rows in the newest batch; tolerance: the recipe's.
        is_scheduled: whether retraining has a schedule.
        champion_days: age of the champion.
        latency: time for a row over the champion's; latency_bound: the recipe's.
    """

    expectations: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    identifiers: Mapping[str, str] = field(default_factory=dict)
    forgotten: int | None = None
    recipe_state: str | None = None
    searches: int = 0
    backtests: int = 0
    metric: str = ""
    falls: bool = False
    score: float | None = None
    baseline: float | None = None
    evidence: Sequence[Evidence] = ()
    slices: int = 0
    verdict: str = ""
    by_hand: bool = False
    reproduced: str | None = None
    losses: Sequence[float] = ()
    steps: Sequence[str] = ()
    has_champion: bool = False
    previous_is_whole: bool | None = None
    libraries: Sequence[str] = ()
    notified: bool = False
    refused: float | None = None
    tolerance: float = 0.0
    is_scheduled: bool = False
    champion_days: float | None = None
    latency: float | None = None
    latency_bound: float | None = None

    def select_evidence(self, *tests: str) -> list[Evidence]:
        """Return the evidence of these tests."""
        return [item for item in self.evidence if item["test"] in tests]


class Answer(NamedTuple):
    """A result, and what it rests on or what to do, in words."""

    result: Result
    reason: str


@dataclass(frozen=True)
class Check:
    """A test of the rubric with its result.

    Args:
        section: `Data`, `Model`, `Infrastructure` or `Monitoring`.
        number: within the section, from 1.
        question: what is tested.
    """

    section: str
    number: int
    question: str
    result: Result
    reason: str


def judge_readiness(facts: Facts) -> list[Check]:
    """Return all 28 tests with their results."""
    checks = []
    for section, questions in RUBRIC.items():
        for number, (question, judge) in enumerate(questions, start=1):
            answer = Answer("not automated", judge) if isinstance(judge, str) else judge(facts)
            checks.append(Check(section, number, question, *answer))
    return checks


def to_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the tests JSON-ready."""
    return [asdict(check) for check in checks]


def _decide(passed: bool, reason: str, advice: str) -> Answer:
    return Answer("passed", reason) if passed else Answer("failed", advice)


def _judge_schema(facts: Facts) -> Answer:
    if facts.expectations is None:
        return Answer("failed", "No result of the data contract is on record. Run `evertune run`.")
    count = facts.expectations
    return _decide(count > 0, f"The contract checks {count} expectations.", "The contract checks nothing.")


def _judge_inputs(facts: Facts) -> Answer:
    identifiers = set(facts.identifiers.values())
    leaking = [column for column in facts.inputs.values() if column in identifiers]
    columns = ", ".join(facts.inputs.values())
    return _decide(
        not leaking,
        f"The model reads {columns} and no other column.",
        f"The model reads {', '.join(leaking)}, which identifies rows, groups or times. Map another column.",
    )


def _judge_privacy(facts: Facts) -> Answer:
    if facts.forgotten is None:
        return Answer("not applicable", "Nothing was ever to be forgotten.")
    return _decide(
        facts.forgotten == 0,
        "No row that was to be forgotten is in the corpus.",
        f"{facts.forgotten:,} rows that were to be forgotten are in the corpus. Run `evertune forget` again.",
    )


def _judge_review(facts: Facts) -> Answer:
    if facts.recipe_state is None:
        return Answer("failed", "The recipe lies outside a git repository. Keep it in one.")
    return _decide(
        facts.recipe_state == "committed",
        "The recipe is committed to git as it was run.",
        f"The recipe is {facts.recipe_state} in git. Commit it.",
    )


def _judge_tuning(facts: Facts) -> Answer:
    return _decide(
        facts.searches > 0,
        f"{facts.searches} searches for hyperparameters are on record.",
        "No search for hyperparameters is on record. Run `evertune search`.",
    )


def _judge_staleness_known(facts: Facts) -> Answer:
    return _decide(
        facts.backtests > 0,
        f"{facts.backtests} backtests say what never retraining would cost.",
        "What a stale model costs is not known. Run `evertune backtest`.",
    )


def _judge_simpler_model(facts: Facts) -> Answer:
    if facts.baseline is None or facts.score is None:
        return Answer("not applicable", "There is no simple model for these rows.")
    sign = -1 if facts.falls else 1
    values = f"{facts.metric} {facts.score:.4f}, TF-IDF and logistic regression {facts.baseline:.4f}"
    return _decide(
        sign * facts.score > sign * facts.baseline,
        f"A simple model is worse: {values}.",
        f"A simple model is as good: {values}.",
    )


def _judge_slices(facts: Facts) -> Answer:
    if not facts.has_champion:
        return Answer("not applicable", "There was no champion to lose against.")
    if not facts.slices:
        return Answer("failed", "No slice of the test rows has enough rows. Set `evaluation.slices`.")
    failed = [str(item.get("on")) for item in facts.select_evidence("slice") if item.get("passed") is False]
    return _decide(
        not failed,
        f"No significant loss on {facts.slices} slices of the test rows.",
        f"Significant loss on {', '.join(failed[:3])}.",
    )


def _judge_reproduction(facts: Facts) -> Answer:
    if facts.reproduced is None:
        return Answer("failed", "No version was trained again. Run `evertune reproduce`.")
    return _decide(
        facts.reproduced in ("identical", "same"),
        f"The last reproduction was {facts.reproduced}.",
        f"The last reproduction was {facts.reproduced}.",
    )


def _judge_learning(facts: Facts) -> Answer:
    if len(facts.losses) < 2:
        return Answer("failed", "The training recorded fewer than two losses.")
    first, last = facts.losses[0], facts.losses[-1]
    return _decide(
        last < first,
        f"The training loss fell from {first:.3g} to {last:.3g}.",
        f"The training loss did not fall: {first:.3g}, then {last:.3g}. Check the learning rate.",
    )


def _judge_pipeline(facts: Facts) -> Answer:
    missing = [step for step in STEPS if step not in facts.steps]
    return _decide(
        not missing,
        "This run went through every step, from the sources to the registry.",
        f"No record of {', '.join(missing)} in this run.",
    )


def _judge_validation(facts: Facts) -> Answer:
    if facts.by_hand:
        return Answer("failed", "A person made the champion without the gate's consent.")
    tests = facts.select_evidence(*GAIN_TESTS)
    return _decide(
        bool(tests),
        f"The gate tested the quality before any move: {facts.verdict}.",
        "The gate had no test of quality to decide on.",
    )


def _judge_rollback(facts: Facts) -> Answer:
    if facts.previous_is_whole is None:
        return Answer("not applicable", "There is no earlier champion to go back to.")
    return _decide(
        facts.previous_is_whole,
        "The earlier champion's files are all there and unchanged.",
        "Files of the earlier champion are missing or changed. Restore them from a backup.",
    )


def _judge_dependencies(facts: Facts) -> Answer:
    if not facts.libraries:
        return Answer("passed", "The libraries are those of the champion's run.")
    changed = ", ".join(facts.libraries[:4])
    return _decide(
        facts.notified,
        f"Changed since the champion's run, and told with the outcome: {changed}.",
        f"Changed since the champion's run: {changed}. Nobody is told; set `notify.targets`.",
    )


def _judge_invariants(facts: Facts) -> Answer:
    if facts.refused is None:
        return Answer("failed", "No batch was checked against the contract.")
    return _decide(
        facts.refused <= facts.tolerance,
        f"The contract refused {facts.refused:.1%} of the newest batch (tolerance {facts.tolerance:.1%}).",
        f"The contract refused {facts.refused:.1%} of the newest batch (tolerance {facts.tolerance:.1%}).",
    )


def _judge_skew(facts: Facts) -> Answer:
    parity = facts.select_evidence("parity")
    if not parity:
        return Answer("not applicable", "Only a model that is to be promoted is loaded as a server would load it.")
    return _decide(
        parity[-1].get("passed") is True,
        "The registered model, loaded as a server would, answers as the tested one.",
        "The registered model answers otherwise than the tested one.",
    )


def _judge_staleness(facts: Facts) -> Answer:
    if not facts.is_scheduled:
        return Answer("failed", "Nothing retrains on its own. Set `schedule`, or deploy the monitor with triggers.")
    if facts.champion_days is None:
        return Answer("not applicable", "There was no champion.")
    return _decide(
        facts.champion_days <= STALE_DAYS,
        f"The champion is {facts.champion_days:.0f} days old.",
        f"The champion is {facts.champion_days:.0f} days old, more than {STALE_DAYS}.",
    )


def _judge_numbers(facts: Facts) -> Answer:
    if not facts.losses:
        return Answer("failed", "The training recorded no loss.")
    return _decide(
        all(math.isfinite(loss) for loss in facts.losses),
        "All losses of the training are finite.",
        "The training had losses that are not finite.",
    )


def _judge_speed(facts: Facts) -> Answer:
    if facts.latency is None:
        return Answer("not applicable", "There was no champion to compare the speed with.")
    bound = facts.latency_bound or SLOWER
    return _decide(
        facts.latency <= bound,
        f"A row takes {facts.latency:.2f} times as long as with the champion (at most {bound:g}).",
        f"A row takes {facts.latency:.2f} times as long as with the champion, more than {bound:g}.",
    )


def _judge_quality(facts: Facts) -> Answer:
    tests = facts.select_evidence(*HARM_TESTS)
    if not tests:
        return Answer("not applicable", "There was no champion to compare with.")
    failed = [str(item.get("on")) for item in tests if item.get("passed") is False]
    return _decide(
        not failed, "No significant loss against the champion.", f"Worse than the champion on {', '.join(failed)} rows."
    )


Judge = Callable[[Facts], Answer] | str  # a text says why a person has to judge
RUBRIC: dict[str, list[tuple[str, Judge]]] = {
    "Data": [
        ("Expectations of the data are written down", _judge_schema),
        ("Every input helps", "Leave an input out with `--set` and compare in a backtest."),
        ("No input costs too much", "Only you know what a column costs."),
        ("Inputs keep to rules, such as no identifiers", _judge_inputs),
        ("Personal data are controlled", _judge_privacy),
        ("A new input can be added quickly", "Count the days from the idea to the deployment."),
        ("Code that makes inputs is tested", "Code before the sources is yours to test."),
    ],
    "Model": [
        ("Every specification is reviewed", _judge_review),
        ("Offline metrics go with online ones", "Compare the metric with what the business counts."),
        ("Hyperparameters are tuned", _judge_tuning),
        ("The cost of a stale model is known", _judge_staleness_known),
        ("A simpler model is not better", _judge_simpler_model),
        ("Quality holds on important slices", _judge_slices),
        ("The model is fair to groups of people", "Define the groups that matter, and compare them."),
    ],
    "Infrastructure": [
        ("Training is reproducible", _judge_reproduction),
        ("The model specification is tested: it learns", _judge_learning),
        ("The whole pipeline is tested together", _judge_pipeline),
        ("Quality is validated before serving", _judge_validation),
        ("A single example can be debugged", "Step through a prediction in a notebook with `evertune.load`."),
        ("A model meets some traffic before all of it", "Send it a share of the traffic first."),
        ("A model can be rolled back", _judge_rollback),
    ],
    "Monitoring": [
        ("Changes of dependencies are noticed", _judge_dependencies),
        ("Invariants hold for new inputs", _judge_invariants),
        ("Training and serving agree", _judge_skew),
        ("Models are not too stale", _judge_staleness),
        ("Training is numerically stable", _judge_numbers),
        ("Speed and memory have not regressed", _judge_speed),
        ("Quality has not regressed", _judge_quality),
    ],
}
