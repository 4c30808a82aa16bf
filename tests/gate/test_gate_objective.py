"""The gate over the statistics and metrics of a real objective."""

from functools import partial

import numpy as np

from evertune.config import Gate
from evertune.gate.decide import Case, Scored, decide_promotion
from evertune.objectives import text_classification

LABELS = ["cancel", "invoice", "refund"]


def test_shuffled_labels_are_rejected():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 3, 400)
    trained = np.where(rng.random(400) < 0.9, true, 0)
    said = text_decision(true, rng.permutation(trained), trained)
    assert said.verdict == "rejected", said.reason


def test_macro_f1_of_a_real_objective_promotes():
    rng = np.random.default_rng(2)
    true = rng.integers(0, 3, 600)
    champion = np.where(rng.random(600) < 0.8, true, (true + 1) % 3)
    challenger = np.where(rng.random(600) < 0.5, true, champion)
    said = text_decision(true, challenger, champion)
    assert said.verdict == "promoted", said.reason


def text_decision(true, challenger, champion, fresh=0.5):
    names = [LABELS[i] for i in true]
    sides = [
        text_classification.compute_statistics(names, [{"label": LABELS[i], "score": 0.9} for i in guess], LABELS)
        for guess in (challenger, champion)
    ]
    slices = {f"label={label}": true == i for i, label in enumerate(LABELS)}
    scored = Scored(*sides, np.arange(len(true)) >= len(true) * fresh, slices)
    metrics = partial(text_classification.compute_metrics, names=LABELS)
    return decide_promotion(Case(scored, metrics, "f1_macro", Gate(), text_classification.LOWER_IS_BETTER, 1, 500, 3))


def test_one_label_is_judged_by_accuracy_where_the_metric_is_a_macro_average():
    true = np.arange(900) % 3
    champion = np.where(np.arange(900) % 10 == 0, (true + 1) % 3, true)
    challenger = true.copy()
    wrong = np.flatnonzero(true == 2)[:16]
    challenger[wrong[::2]] = 0
    challenger[wrong[1::2]] = 1
    said = text_decision(true, challenger, champion)
    assert said.verdict == "promoted", said.reason
