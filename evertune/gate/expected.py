"""The rules `expected` and `proof`: is the challenger better in expectation of a proper score, and how sure is that?

Both weigh all clean test rows, fresh ones and history together, newer ones more. They differ in the level: `expected`
takes the one at which a lost point is as dear as `caution` points of missed gain, anew at each look; `proof` spends one
small level over all challenges of a champion.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evertune.gate.hypothesis_tests import (
    MORE_ROWS,
    Case,
    Finding,
    build_comparison,
    build_evidence,
    check_defined,
    describe_need,
    describe_rows,
)
from evertune.statistics import expected_gain
from evertune.statistics.paired_tests import upper_z
from evertune.statistics.resampling import linearize_metric, sum_rows

Floats = NDArray[np.float64]
NEW_LABEL_GAIN = math.log(2.0)  # largest gain of a row whose label the champion does not know
HALF_LIVES = 4  # half-lives from the oldest to the newest test row, where the recipe names none


@dataclass(frozen=True)
class RowScores:
    """Scores of both models on the same rows, and what the rows weigh. Higher scores are better.

    Args:
        challenger: (rows, temperatures), a single column where temperatures do not apply.
        champion: the same of the champion.
        sizes: (rows,) weight of each row, such as its number of words.
        days: (rows,) age in days, NaN where unknown.
        ingests: (rows,) age in ingests.
        classes: (rows,) number of each row's label; -1 where rows have not exactly one.
        new_label_gain: largest gain of a row whose label is new to the champion.
    """

    challenger: Floats
    champion: Floats
    sizes: Floats
    days: Floats
    ingests: Floats
    classes: NDArray[np.int64]
    new_label_gain: float = NEW_LABEL_GAIN


class Weighed(NamedTuple):
    """The rows that count, as arrays (rows,).

    Args:
        differences: score of the challenger less that of the champion.
        weights: of the rows; 0 for a row that does not count.
        challenger: its score at its temperature.
        champion: its score likewise.
        unit: what the scores are.
    """

    differences: Floats
    weights: Floats
    challenger: Floats
    champion: Floats
    unit: str


def judge_gain(case: Case) -> Finding:
    """Test whether the challenger's expected score is higher, at the level of the recipe's rule."""
    test = case.rule.rule_name
    level = choose_level(case)
    age_problem = explain_missing_age(case)
    if age_problem:
        return Finding("inconclusive", age_problem, build_evidence(test, "score", len(case.groups), passed=False))
    weighed = weigh_rows(case)
    counted = weighed.weights > 0
    rows, groups = case.count_rows(counted)
    if groups < case.rule.min_rows:
        message = f"Only {describe_rows(rows, groups, 'test')}; {describe_need(case, rows, groups)}. {MORE_ROWS}"
        evidence = build_evidence(test, weighed.unit, rows, groups=groups, passed=False)
        return Finding("inconclusive", message, evidence)
    gain = expected_gain.measure_gain(weighed.differences, weighed.weights, case.groups, case.seed)
    p = max(gain.p, gain.p_without_top)
    passed = gain.mean > 0 and p <= level
    half_width = gain.error * upper_z((1 - case.rule.confidence) / 2)
    evidence = build_evidence(
        test,
        weighed.unit,
        rows,
        groups=groups,
        estimate=gain.mean,
        low=gain.mean - half_width,
        high=gain.mean + half_width,
        p=p,
        threshold=level,
        passed=passed,
        challenger=float(np.average(weighed.challenger, weights=weighed.weights)),
        champion=float(np.average(weighed.champion, weights=weighed.weights)),
        look=case.look,
        fingerprint=case.fingerprint or None,
    )
    rows_text = describe_rows(rows, groups, "test")
    change = _describe_gain(gain.mean, weighed.unit, rows_text)
    certainty = f"p = {p:.2g}, threshold {level:.2g}"
    metrics = _describe_metric(case, counted)
    if passed:
        return Finding("passed", f"Probably better: {change} ({certainty}); {metrics}.", evidence)
    if gain.mean < 0:
        loss = expected_gain.measure_gain(-weighed.differences, weighed.weights, case.groups, case.seed)
        if max(loss.p, loss.p_without_top) <= case.harm_alpha:
            certainty = f"p = {loss.p:.2g}, threshold {case.harm_alpha:.2g}"
            return Finding("harm", f"Worse: {change} ({certainty}); {metrics}.", evidence)
    if gain.error == 0 or not math.isfinite(gain.error):
        return Finding("inconclusive", f"No difference that can be judged on {rows_text}: all differ alike.", evidence)
    if gain.p <= level < gain.p_without_top:
        message = (
            f"{change}, but {100 * gain.top_share:.0f}% of the difference comes from a single group of rows "
            f"({certainty}); {metrics}."
        )
        return Finding("inconclusive", message[0].upper() + message[1:], evidence)
    wait = _describe_wait(estimate_wait(case, weighed, gain, level))
    message = f"Not sure to be better: {change} ({certainty}); {metrics}. {wait}"
    return Finding("inconclusive", message.rstrip(), evidence)


def choose_level(case: Case) -> float:
    """Return the level of this challenge."""
    if case.rule.rule_name == "proof":
        return case.alpha
    return expected_gain.share_level(expected_gain.level_of_caution(case.rule.caution), case.look)


def explain_missing_age(case: Case) -> str | None:
    """Explain why the rows have no age in the recipe's unit; None if they have one."""
    half_life = case.rule.half_life
    if case.scores is None or half_life is None or "day" not in half_life:
        return None
    missing = int(np.isnan(case.scores.days).sum())
    if not missing:
        return None
    return (
        f"evaluation.gate.half_life is {half_life}, but {missing} of {len(case.scores.days)} test rows have no "
        "timestamp. Map data.columns.timestamp, or give it in ingests."
    )


def weigh_rows(case: Case) -> Weighed:
    """Return the rows' differences and weights.

    A row whose label is new to the champion counts only if that label has as many groups as a decision needs, and with
    a bounded gain: as much of `new_label_gain` as the challenger reaches of what can be gained. So a label typed in two
    ways does not force a promotion. For a macro average every label weighs alike.
    """
    if case.scores is None:
        return _weigh_metric(case)
    scores = case.scores
    weights = weigh_ages(scores, case.rule.half_life) * scores.sizes
    has_new_label = ~case.scored.is_compared
    weights[_mark_rare_labels(case, has_new_label)] = 0.0
    if case.metric.endswith("_macro") and (scores.classes >= 0).all():
        weights = expected_gain.balance_classes(weights, scores.classes)
    challenger = _apply_temperature(scores.challenger, weights, case.groups)
    champion = _apply_temperature(scores.champion, weights, case.groups)
    gain = _bound_new_labels(challenger - champion, champion, scores.new_label_gain)
    champion = np.where(has_new_label, challenger - gain, champion)
    unit = "log score" if scores.challenger.shape[1] > 1 else "score"
    return Weighed(challenger - champion, weights, challenger, champion, unit)


def weigh_ages(scores: RowScores, half_life: str | None) -> Floats:
    """Return a weight for the age of each row: a half for each half-life."""
    if half_life == "never":
        return np.ones(len(scores.ingests))
    if half_life is not None:
        number, unit = half_life.split()
        return expected_gain.weigh_by_age(scores.days if "day" in unit else scores.ingests, float(number))
    ages = scores.ingests if np.isnan(scores.days).any() else scores.days
    return expected_gain.weigh_by_age(ages, float(np.ptp(ages)) / HALF_LIVES)


def _bound_new_labels(differences: Floats, champion: Floats, most: float) -> Floats:
    """Return the differences of rows whose labels are new: the share of the possible gain, times `most`.

    Scores are at most 0, so what can be gained on a row is the champion's distance from 0. A challenger that gives the
    new label nothing gains nothing.
    """
    possible = np.maximum(-champion, np.finfo(np.float64).tiny)
    return np.where(differences > 0, most * np.minimum(differences / possible, 1.0), differences)


def _mark_rare_labels(case: Case, has_new_label: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask (rows,) of rows with a new label that has too few groups to say anything."""
    assert case.scores is not None
    rare = np.zeros_like(has_new_label)
    for label in np.unique(case.scores.classes[has_new_label]):
        mask = has_new_label & (case.scores.classes == label)
        if case.count_rows(mask)[1] < case.rule.min_rows:
            rare |= mask
    return rare


def _apply_temperature(scores: Floats, weights: Floats, groups: NDArray[np.int64]) -> Floats:
    """Return each row's score at the temperature that fits the rows of other groups best."""
    if scores.shape[1] == 1:
        return scores[:, 0]
    chosen = expected_gain.choose_temperatures(-scores, weights, groups)
    return np.asarray(scores[np.arange(len(scores)), chosen], dtype=np.float64)


def _weigh_metric(case: Case) -> Weighed:
    """Return the rows by what each of them adds to the recipe's metric, where there are no scores."""
    assert case.scored.champion is not None
    sides = [
        linearize_metric(stats, lambda sums: case.signed_value(case.metric, sums))
        for stats in (case.scored.challenger, case.scored.champion)
    ]
    weights = case.select_rows("test").astype(np.float64)
    return Weighed(sides[0] - sides[1], weights, sides[0], sides[1], case.metric)


def _describe_gain(mean: float, unit: str, rows_text: str) -> str:
    if not mean:
        return f"no difference of the {unit} on {rows_text}"
    return f"{unit} {'up' if mean > 0 else 'down'} {abs(mean):.3g} a row on {rows_text}"


def _describe_metric(case: Case, counted: NDArray[np.bool_]) -> str:
    """Write both models' metric on the rows that count: "accuracy 0.872, champion 0.861"."""
    assert case.scored.champion is not None
    values = [
        float(case.metrics(sum_rows(stats[counted]))[case.metric])
        for stats in (case.scored.challenger, case.scored.champion)
    ]
    return f"{case.metric} {values[0]:.3f}, champion {values[1]:.3f}"


class Wait(NamedTuple):
    """What a held challenger waits for, if the difference stays as it is.

    Args:
        rows: more labelled test rows that would be enough.
        chosen: the same if rows are drawn where the models differ, with known probability, and weighed by its inverse.
        days: until `rows` have come, at the rate of the test rows so far; None without timestamps.
    """

    rows: int
    chosen: int
    days: float | None


def estimate_wait(case: Case, weighed: Weighed, gain: expected_gain.ExpectedGain, level: float) -> Wait | None:
    """Return what would make the difference sure enough; None where no number of rows would.

    Rows that are drawn with a probability proportional to the size of their difference scatter least (Cochran 1977,
    section 9A.4, Hansen & Hurwitz): the variance is then (mean |d|)^2 - m^2 instead of mean d^2 - m^2.
    """
    z = upper_z(level)
    if not gain.mean > 0 or z <= 0 or not gain.error > 0:
        return None
    needed = gain.rows * (z * gain.error / gain.mean) ** 2
    squares = float(np.average(weighed.differences**2, weights=weighed.weights)) - gain.mean**2
    sizes = float(np.average(np.abs(weighed.differences), weights=weighed.weights)) ** 2 - gain.mean**2
    share = min(1.0, max(0.0, sizes) / squares) if squares > 0 else 1.0
    more = max(1, math.ceil(needed - gain.rows))
    days = None
    if case.scores is not None and np.isfinite(case.scores.days).all():
        span = float(np.ptp(case.scores.days[weighed.weights > 0]))
        days = more * span / gain.rows if span > 0 else None
    return Wait(more, max(1, math.ceil(more * share)), days)


def _describe_wait(wait: Wait | None) -> str:
    """Write how many more rows would be enough, and until when; empty where none would."""
    if wait is None:
        return ""
    text = f"At this difference about {wait.rows:,} more labelled test rows would be enough"
    if wait.chosen < wait.rows:
        text += f", or {wait.chosen:,} chosen where the models differ most"
    if wait.days is not None:
        text += f" (about {_format_days(wait.days)} at the rate of rows so far)"
    return f"{text}."


def _format_days(days: float) -> str:
    """Write a time in the unit that suits it: "12 days", "5 weeks", "3 years"."""
    for unit, length, least in (("years", 365.0, 730.0), ("weeks", 7.0, 28.0)):
        if days >= least:
            return f"{days / length:.0f} {unit}"
    return f"{max(1, math.ceil(days))} {'day' if days <= 1 else 'days'}"


def judge_harm(case: Case) -> Iterator[Finding]:
    """Test for a loss of the recipe's own metric, on what the champion knew and on all rows; it can only stop."""
    for name in ("history", "all"):
        mask = case.select_rows(name)
        if case.count_rows(mask)[1] >= case.rule.min_rows:
            yield _judge_loss(case, name, mask)


def _judge_loss(case: Case, name: str, mask: NDArray[np.bool_]) -> Finding:
    difference = case.measure_difference(mask, case.metric, case.harm_alpha)
    p = difference.p_worse
    is_harm = difference.estimate < 0 and p <= case.harm_alpha
    rows_text = describe_rows(difference.rows, difference.groups, "test" if name == "all" else name)
    is_defined = check_defined(difference)
    evidence = build_comparison(
        case,
        "harm",
        case.metric,
        difference,
        on=name,
        p=p,
        threshold=case.harm_alpha,
        passed=is_defined and not is_harm,
    )
    if not is_defined:
        message = f"{case.metric} is undefined on {rows_text}, or in some of their resamples."
        return Finding("inconclusive", message, evidence)
    if not is_harm:
        return Finding("passed", "", evidence)
    change = case.describe_change(difference.estimate, case.metric)
    message = f"{change} ({case.metric}) on {rows_text} (p = {p:.2g}, threshold {case.harm_alpha:.2g})."
    return Finding("harm", message, evidence)
