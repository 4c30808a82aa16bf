"""Scores of rows: what a bundle's own code predicts with, heard at the model's output."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.objectives.shared import proper_scores as scores


@given(st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_log_score_is_that_of_the_mixed_probability(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (20, classes))
    names = [f"c{index}" for index in range(classes)]
    truth = rng.choice(names, 20).tolist()
    log, brier = scores.score_classes(logits, truth, names, classes)
    powers = np.exp(logits)
    likely = (powers / powers.sum(1, keepdims=True))[np.arange(20), [names.index(label) for label in truth]]
    assert log[:, scores.NEUTRAL] == pytest.approx(np.log(0.98 * likely + 0.02 / classes))
    one_hot = np.array([[label == name for name in names] for label in truth])
    squares = ((scores.softmax(logits) - one_hot) ** 2).sum(1)
    assert brier[:, scores.NEUTRAL] == pytest.approx(-squares)


@pytest.mark.parametrize("classes", [2, 150])
def test_probabilities_of_exactly_zero_and_one_stay_finite(classes: int) -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]])
    log, brier = scores.score_classes(logits, ["a", "a"], ["a", "b"], classes)
    assert log[0] == pytest.approx(np.log(0.98 + 0.02 / classes))
    assert log[1] == pytest.approx(np.log(0.02 / classes))
    assert np.isfinite(brier).all()


def test_a_label_that_the_model_does_not_know_has_the_floor() -> None:
    log, brier = scores.score_classes(np.zeros((1, 2)), ["new"], ["a", "b"], 4)
    assert log[0] == pytest.approx(np.log(0.02 / 4))
    assert brier[0] == pytest.approx(-1.5)


def test_outputs_that_were_merged_under_one_name_add_up() -> None:
    log, _ = scores.score_classes(np.zeros((1, 3)), ["a"], ["a", "a", "b"], 2)
    assert log[0] == pytest.approx(np.log(0.98 * 2 / 3 + 0.01))


def test_words_are_averaged_by_sentence() -> None:
    log = np.arange(5, dtype=float)[:, None]
    rows = scores.average_items(log, -log, [2, 0, 3])
    assert rows.log[:, 0].tolist() == [0.5, 0.0, 3.0]
    assert rows.sizes.tolist() == [2, 0, 3]


def test_sets_count_each_label_and_those_that_the_model_lacks() -> None:
    logits = np.array([[900.0, -900.0], [900.0, -900.0]])
    rows = scores.score_sets(logits, [["a"], ["a", "new"]], ["a", "b"], 3)
    sure = np.log(0.98 + 0.01)
    assert rows.log[0] == pytest.approx(2 * sure / 3)
    assert rows.log[1] == pytest.approx((2 * sure + np.log(0.01)) / 3)


def test_losses_are_scores_of_their_size() -> None:
    rows = scores.use_losses([6.0, 4.0], [3, 0])
    assert rows.log[:, 0].tolist() == [-2.0, -4.0]
    assert rows.sizes.tolist() == [3, 0]
