"""The gate's error rates by simulation: `python -m benchmarks.gate.run [--histories 500]`, about 20 minutes.

Prints the tables of docs/explanation/gate.md. Every challenge goes through `decide_promotion`, as in a real run.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from evertune.config import Gate
from evertune.gate.decide import Case, Scored, decide_promotion
from evertune.objectives import text_classification
from evertune.statistics.resampling import bootstrap_gaps

NIGHTS = 30
RESAMPLES = 200
ALPHA = 0.05
LOOK = 0.01  # level of a single look
CLASSES = [f"c{i}" for i in range(8)]
Pair = tuple[Any, Any]
Draw = Callable[[np.random.Generator, int], Pair]


def compute_accuracy(sums: Any) -> dict[str, Any]:
    return {"accuracy": sums[..., 1] / sums[..., 0]}


def row_statistics(right: Any) -> Any:
    return np.stack([np.ones(len(right)), right], axis=1).astype(np.float32)


def draw_pair(rng: np.random.Generator, rows: int, fixes: float, breaks: float, champion: float = 0.85) -> Pair:
    """Challenger and champion: `fixes` and `breaks` are shares of all rows."""
    was = rng.random(rows) < champion
    u = rng.random(rows)
    return row_statistics(np.where(was, u >= breaks / champion, u < fixes / (1 - champion))), row_statistics(was)


def draw_grouped_pair(rng: np.random.Generator, rows: int, size: int, tied: float, fixes: float, breaks: float) -> Pair:
    """As `pair`, in groups of `size` rows; a share `tied` of the rows ends as the first one of its group does."""
    row = np.where(rng.random(rows) < tied, np.arange(rows) // size * size, np.arange(rows))
    challenger, champion = draw_pair(rng, rows, fixes, breaks)
    return challenger[row], champion[row]


def draw_labelled_pair(rng: np.random.Generator, rows: int, is_skewed: bool, error: float = 0.1) -> Pair:
    """Two models of equal macro F1 over 8 classes; skewed: one errs in the first four classes, one in the others."""
    true = rng.integers(0, len(CLASSES), rows)
    names = [CLASSES[i] for i in true]
    sides = []
    for half in (true < 4, true >= 4):
        wrong = rng.random(rows) < (2 * error * half if is_skewed else error)
        guess = np.where(wrong, (true + rng.integers(1, len(CLASSES), rows)) % len(CLASSES), true)
        predictions = [{"label": CLASSES[i], "score": 0.5} for i in guess]
        sides.append(text_classification.compute_statistics(names, predictions, CLASSES))
    return sides[0], sides[1]


def iterate_windows(rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Night and fresh rows: 20 to 40 more test rows each night, none of them taken in by a new champion."""
    rows = 0
    for challenge_number in range(1, NIGHTS + 1):
        rows += int(rng.integers(20, 41))
        yield challenge_number, rows


def ask_gate(
    challenger: Any,
    champion: Any,
    fresh: Any,
    challenge_number: int,
    seed: int,
    macro: bool = False,
    groups: Any = None,
    **rule: Any,
) -> Any:
    metrics: Any = partial(text_classification.compute_metrics, names=CLASSES) if macro else compute_accuracy
    name = "f1_macro" if macro else "accuracy"
    scored = Scored(challenger, champion, fresh, groups=groups)
    return decide_promotion(Case(scored, metrics, name, Gate(**rule), ("ece",), challenge_number, RESAMPLES, seed))


def simulate_equal_models(histories: int, draw: Draw, same: bool, macro: bool = False) -> tuple[float, float]:
    """Share of 30-night histories with a promotion: by the gate, and by p <= 0.05 every night."""
    gate = naive = 0
    for history in range(histories):
        rng = np.random.default_rng(history)
        all_rows = draw(rng, 40 * NIGHTS)
        promoted = nightly = False
        for challenge_number, rows in iterate_windows(rng):
            challenger, champion = (model[:rows] for model in (all_rows if same else draw(rng, rows)))
            decision = ask_gate(
                challenger, champion, np.ones(rows, bool), challenge_number, history, macro, noninferior_on={}
            )
            promoted = promoted or decision.verdict == "promoted"
            p = decision.evidence[0]["p"] if decision.evidence else None
            nightly = nightly or (p is not None and p <= ALPHA)
        gate = gate + promoted
        naive = naive + nightly
    return gate / histories, naive / histories


def simulate_single_look(trials: int, draw: Draw, rows: int, macro: bool = False) -> tuple[float, float]:
    """Share of single tests at `LOOK` that call equal models better: by the gate's p, by the percentile bootstrap."""
    metrics: Any = partial(text_classification.compute_metrics, names=CLASSES) if macro else compute_accuracy
    name = "f1_macro" if macro else "accuracy"
    gate = bootstrap = 0
    night_one = 1 - LOOK * np.pi**2 / 6  # so that night 1 may use `LOOK`
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        challenger, champion = draw(rng, rows)
        rule = {"confidence": night_one, "noninferior_on": {}, "min_rows": 2}
        gate += ask_gate(challenger, champion, np.ones(rows, bool), 1, trial, macro, **rule).verdict == "promoted"
        gaps = bootstrap_gaps(challenger, champion, lambda sums: metrics(sums)[name], 1000, trial)
        bootstrap += (gaps <= 0).mean() <= LOOK
    return gate / trials, bootstrap / trials


def simulate_forgetting(histories: int, rows: int, loss: float) -> float:
    """Share of 30-night histories that promote a model 20 points better on 300 fresh rows, `loss` worse on history."""
    promoted = 0
    fresh = np.arange(rows + 300) >= rows
    for history in range(histories):
        rng = np.random.default_rng(history)
        for challenge_number in range(1, NIGHTS + 1):
            old = draw_pair(rng, rows, 0.04, 0.04 + loss)
            new = draw_pair(rng, 300, 0.3, 0.1, champion=0.6)
            models = [np.concatenate([first, second]) for first, second in zip(old, new, strict=True)]
            if ask_gate(models[0], models[1], fresh, challenge_number, history).verdict == "promoted":
                promoted += 1
                break
    return promoted / histories


def simulate_first_night(trials: int, rows: int, fixes: float, breaks: float, old: int = 3000) -> dict[str, float]:
    """Shares of the verdicts on night 1; on `old` history rows the models are equal and differ on 4% of the rows."""
    counts = {"promoted": 0, "held": 0, "rejected": 0}
    fresh = np.arange(old + rows) >= old
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        before = draw_pair(rng, old, 0.02, 0.02)
        now = draw_pair(rng, rows, fixes, breaks)
        models = [np.concatenate([first, second]) for first, second in zip(before, now, strict=True)]
        counts[ask_gate(models[0], models[1], fresh, 1, trial).verdict] += 1
    return {name: count / trials for name, count in counts.items()}


def simulate_groups(
    trials: int, rows: int, size: int, tied: float, fixes: float, breaks: float
) -> tuple[float, float, float]:
    """Shares of night 1: promoted and rejected by the gate, promoted by a gate that takes each row for independent."""
    promoted = rejected = naive = 0
    groups = np.arange(rows) // size
    fresh = np.ones(rows, bool)
    for trial in range(trials):
        challenger, champion = draw_grouped_pair(np.random.default_rng([trial, size]), rows, size, tied, fixes, breaks)
        verdict = ask_gate(challenger, champion, fresh, 1, trial, groups=groups, noninferior_on={}).verdict
        promoted = promoted + (verdict == "promoted")
        rejected = rejected + (verdict == "rejected")
        naive += ask_gate(challenger, champion, fresh, 1, trial, noninferior_on={}).verdict == "promoted"
    return promoted / trials, rejected / trials, naive / trials


def print_row(*cells: Any) -> None:
    row = " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    sys.stdout.write(f"| {row} |\n")
    sys.stdout.flush()


def print_nights(count: int) -> None:
    print_row("equal models over 30 nights", "promoted by the gate", "by p <= 0.05 every night")
    draws: dict[str, tuple[Draw, bool]] = {
        f"accuracy, models differ on {share:.0%} of rows": (
            partial(draw_pair, fixes=share / 2, breaks=share / 2),
            False,
        )
        for share in (0.05, 0.10)
    }
    draws["macro F1, 8 classes, same kind of errors"] = (partial(draw_labelled_pair, is_skewed=False), True)
    draws["macro F1, 8 classes, errors in different classes"] = (partial(draw_labelled_pair, is_skewed=True), True)
    for name, (draw, macro) in draws.items():
        for same in (False, True):
            kind = "the same challenger asks again" if same else "a new challenger each night"
            print_row(f"{name}; {kind}", *simulate_equal_models(count if not macro else count // 2, draw, same, macro))


def print_single(count: int) -> None:
    print_row(f"equal models, one test at {LOOK}", "rows", "gate", "percentile bootstrap")
    for rows in (20, 30, 60, 120, 500):
        for share in (0.05, 0.10):
            rates = simulate_single_look(4 * count, partial(draw_pair, fixes=share / 2, breaks=share / 2), rows)
            print_row(f"accuracy, differ on {share:.0%}", rows, *rates)
    for rows in (60, 300):
        rates = simulate_single_look(2 * count, partial(draw_labelled_pair, is_skewed=True), rows, macro=True)
        print_row("macro F1, errors in different classes", rows, *rates)


def print_groups(count: int) -> None:
    for name, rows, fixes, breaks in (("equal", 300, 0.05, 0.05), ("3 points better", 1000, 0.05, 0.02)):
        print_row(
            f"{name}, night 1, {rows} rows in groups of", "tied rows", "promoted", "rejected", "single rows promote"
        )
        for size, tied in ((1, 1.0), (2, 1.0), (3, 1.0), (5, 1.0), (5, 0.5), (5, 0.0), (10, 1.0)):
            print_row(size, f"{tied:.0%}", *simulate_groups(4 * count, rows, size, tied, fixes, breaks))


def print_rest(count: int) -> None:
    print_row(
        "forgets exactly the margin (2 points), 20 points better on fresh rows, 30 nights", "history rows", "promoted"
    )
    for rows in (300, 1000, 3000):
        print_row("", rows, simulate_forgetting(count, rows, 0.02))
    print_row("night 1, 3,000 history rows", "fresh rows", "promoted", "held", "rejected")
    for name, rows, fixes, breaks in (
        ("equal", 1000, 0.035, 0.035),
        ("3 points better", 200, 0.05, 0.02),
        ("3 points better", 500, 0.05, 0.02),
        ("3 points better", 1000, 0.05, 0.02),
        ("3 points better, differ on 11%", 1000, 0.07, 0.04),
        ("5 points worse", 100, 0.02, 0.07),
        ("5 points worse", 1000, 0.02, 0.07),
    ):
        print_row(name, rows, *simulate_first_night(count, rows, fixes, breaks).values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=500)
    histories = parser.parse_args().histories
    print_nights(histories)
    print_single(histories)
    print_groups(histories)
    print_rest(histories)
