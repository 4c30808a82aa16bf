"""Which labels are doubtful, and whether more of them are than usual."""

import numpy as np
import pytest

from evertune.statistics.label_noise import EXCESS, LEVEL, compare_shares, suggest_labels


def test_a_model_is_confident_only_of_what_it_gives_rows_of_that_label() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.75, 0.25], [0.85, 0.15]])
    labels = np.array([0, 0, 1, 1, 1])
    is_trusted = np.array([True, True, True, False, False])  # label 0 has 0.8 on average
    suggestions, is_confident = suggest_labels(probabilities, labels, is_trusted)
    assert suggestions.tolist() == [0, 0, 1, 0, 0]
    assert is_confident.tolist() == [False, False, False, False, True]


def test_of_a_label_without_trusted_rows_a_model_is_never_confident() -> None:
    suggestions, is_confident = suggest_labels(
        np.array([[0.01, 0.99], [0.9, 0.1]]), np.array([0, 0]), np.array([False, True])
    )
    assert suggestions.tolist() == [1, 0]
    assert not is_confident.any()


def test_what_is_usual_depends_on_the_labels_of_the_new_rows() -> None:
    # Label 1 is doubtful on half of the reference rows, label 0 never; all new rows have label 1.
    labels = np.array([0] * 1000 + [1] * 1000 + [1] * 400)
    is_new = np.arange(2400) >= 2000
    is_doubtful = (labels == 1) & (np.arange(2400) % 2 == 0)
    share = compare_shares(is_doubtful, labels, is_new, ~is_new)
    assert share.share == 0.5
    assert share.usual == pytest.approx(0.5, abs=0.01)
    assert not share.is_unusual


def test_equal_shares_are_rarely_unusual_and_a_tenth_more_is_noticed() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1200)
    is_new = np.arange(1200) >= 800
    alarms = [compare_shares(rng.random(1200) < 0.05, labels, is_new, ~is_new).is_unusual for _ in range(500)]
    assert sum(alarms) <= 3
    noisy = rng.random(1200) < np.where(is_new, 0.2, 0.05)
    share = compare_shares(noisy, labels, is_new, ~is_new)
    assert share.is_unusual
    assert share.p <= LEVEL
    assert share.share - share.usual > EXCESS


def test_nothing_is_unusual_without_new_or_reference_rows() -> None:
    nothing = np.zeros(3, dtype=bool)
    everything = np.ones(3, dtype=bool)
    assert not compare_shares(everything, np.zeros(3, dtype=int), nothing, everything).is_unusual
    assert not compare_shares(everything, np.zeros(3, dtype=int), everything, nothing).is_unusual
