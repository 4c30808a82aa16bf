"""The gate's error rates by simulation: `python -m benchmarks.gate.run [--histories 500]`, about 20 minutes.

Prints the tables of docs/explanation/gate.md. Every challenge goes through `evertune.gate.decide.decide`, as in a run.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from evertune.config import Gate
from evertune.gate.decide import Scored, decide
from evertune.objectives import text_classification
from evertune.statistics.resampling import bootstrap_gaps

NIGHTS = 30
RESAMPLES = 200
ALPHA = 0.05
LOOK = 0.01  # level of a single look
CLASSES = [f"c{i}" for i in range(8)]
Pair = tuple[Any, Any]
Draw = Callable[[np.random.Generator, int], Pair]


def accuracy(sums: Any) -> dict[str, Any]:
    return {"accuracy": sums[..., 1] / sums[..., 0]}


def stats(right: Any) -> Any:
    return np.stack([np.ones(len(right)), right], axis=1).astype(np.float32)


def pair(rng: np.random.Generator, rows: int, fixes: float, breaks: float, champion: float = 0.85) -> Pair:
    """Challenger and champion: `fixes` and `breaks` are shares of all rows."""
    was, u = rng.random(rows) < champion, rng.random(rows)
    return stats(np.where(was, u >= breaks / champion, u < fixes / (1 - champion))), stats(was)


def grouped(rng: np.random.Generator, rows: int, size: int, tied: float, fixes: float, breaks: float) -> Pair:
    """As `pair`, in groups of `size` rows; a share `tied` of the rows ends as the first one of its group does."""
    row = np.where(rng.random(rows) < tied, np.arange(rows) // size * size, np.arange(rows))
    ours, theirs = pair(rng, rows, fixes, breaks)
    return ours[row], theirs[row]


def labelled(rng: np.random.Generator, rows: int, skewed: bool, error: float = 0.1) -> Pair:
    """Two models of equal macro F1 over 8 classes; skewed: one errs in the first four classes, one in the others."""
    true = rng.integers(0, len(CLASSES), rows)
    names = [CLASSES[i] for i in true]
    sides = []
    for half in (true < 4, true >= 4):
        wrong = rng.random(rows) < (2 * error * half if skewed else error)
        guess = np.where(wrong, (true + rng.integers(1, len(CLASSES), rows)) % len(CLASSES), true)
        predictions = [{"label": CLASSES[i], "score": 0.5} for i in guess]
        sides.append(text_classification.statistics(names, predictions, CLASSES))
    return sides[0], sides[1]


def windows(rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Night and fresh rows: 20 to 40 more test rows each night, none of them taken in by a new champion."""
    rows = 0
    for night in range(1, NIGHTS + 1):
        rows += int(rng.integers(20, 41))
        yield night, rows


def ask(
    challenger: Any, champion: Any, fresh: Any, night: int, seed: int, macro: bool = False, groups: Any = None,
    **rule: Any,
) -> Any:  # fmt: skip
    metrics: Any = partial(text_classification.metrics, names=CLASSES) if macro else accuracy
    name = "f1_macro" if macro else "accuracy"
    scored = Scored(challenger, champion, fresh, groups=groups)
    return decide(scored, metrics, name, Gate(**rule), ("ece",), night, RESAMPLES, seed)


def equal_models(histories: int, draw: Draw, same: bool, macro: bool = False) -> tuple[float, float]:
    """Share of 30-night histories with a promotion: by the gate, and by p <= 0.05 every night."""
    gate = naive = 0
    for history in range(histories):
        rng = np.random.default_rng(history)
        whole = draw(rng, 40 * NIGHTS)
        promoted = nightly = False
        for night, rows in windows(rng):
            ours, theirs = (one[:rows] for one in (whole if same else draw(rng, rows)))
            said = ask(ours, theirs, np.ones(rows, bool), night, history, macro, noninferior_on={})
            promoted = promoted or said.verdict == "promoted"
            p = said.evidence[0]["p"] if said.evidence else None
            nightly = nightly or (p is not None and p <= ALPHA)
        gate, naive = gate + promoted, naive + nightly
    return gate / histories, naive / histories


def single_look(trials: int, draw: Draw, rows: int, macro: bool = False) -> tuple[float, float]:
    """Share of single tests at `LOOK` that call equal models better: by the gate's p, by the percentile bootstrap."""
    metrics: Any = partial(text_classification.metrics, names=CLASSES) if macro else accuracy
    name = "f1_macro" if macro else "accuracy"
    gate = bootstrap = 0
    night_one = 1 - LOOK * np.pi**2 / 6  # so that night 1 may use `LOOK`
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        ours, theirs = draw(rng, rows)
        rule = {"confidence": night_one, "noninferior_on": {}, "min_rows": 2}
        gate += ask(ours, theirs, np.ones(rows, bool), 1, trial, macro, **rule).verdict == "promoted"
        gaps = bootstrap_gaps(ours, theirs, lambda sums: metrics(sums)[name], 1000, trial)
        bootstrap += (gaps <= 0).mean() <= LOOK
    return gate / trials, bootstrap / trials


def forgetting(histories: int, rows: int, loss: float) -> float:
    """Share of 30-night histories that promote a model 20 points better on 300 fresh rows, `loss` worse on history."""
    promoted = 0
    fresh = np.arange(rows + 300) >= rows
    for history in range(histories):
        rng = np.random.default_rng(history)
        for night in range(1, NIGHTS + 1):
            old, new = pair(rng, rows, 0.04, 0.04 + loss), pair(rng, 300, 0.3, 0.1, champion=0.6)
            both = [np.concatenate([one, two]) for one, two in zip(old, new, strict=True)]
            if ask(both[0], both[1], fresh, night, history).verdict == "promoted":
                promoted += 1
                break
    return promoted / histories


def first_night(trials: int, rows: int, fixes: float, breaks: float, old: int = 3000) -> dict[str, float]:
    """Shares of the verdicts on night 1; on `old` history rows the models are equal and differ on 4% of the rows."""
    counts = {"promoted": 0, "held": 0, "rejected": 0}
    fresh = np.arange(old + rows) >= old
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        before, now = pair(rng, old, 0.02, 0.02), pair(rng, rows, fixes, breaks)
        both = [np.concatenate([one, two]) for one, two in zip(before, now, strict=True)]
        counts[ask(both[0], both[1], fresh, 1, trial).verdict] += 1
    return {name: count / trials for name, count in counts.items()}


def together(trials: int, rows: int, size: int, tied: float, fixes: float, breaks: float) -> tuple[float, float, float]:
    """Shares of night 1: promoted and rejected by the gate, promoted by a gate that takes each row for independent."""
    promoted = rejected = naive = 0
    groups, fresh = np.arange(rows) // size, np.ones(rows, bool)
    for trial in range(trials):
        ours, theirs = grouped(np.random.default_rng([trial, size]), rows, size, tied, fixes, breaks)
        said = ask(ours, theirs, fresh, 1, trial, groups=groups, noninferior_on={}).verdict
        promoted, rejected = promoted + (said == "promoted"), rejected + (said == "rejected")
        naive += ask(ours, theirs, fresh, 1, trial, noninferior_on={}).verdict == "promoted"
    return promoted / trials, rejected / trials, naive / trials


def say(*cells: Any) -> None:
    row = " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    sys.stdout.write(f"| {row} |\n")
    sys.stdout.flush()


def print_nights(count: int) -> None:
    say("equal models over 30 nights", "promoted by the gate", "by p <= 0.05 every night")
    draws: dict[str, tuple[Draw, bool]] = {
        f"accuracy, models differ on {share:.0%} of rows": (
            partial(pair, fixes=share / 2, breaks=share / 2),
            False,
        )
        for share in (0.05, 0.10)
    }
    draws["macro F1, 8 classes, same kind of errors"] = (partial(labelled, skewed=False), True)
    draws["macro F1, 8 classes, errors in different classes"] = (partial(labelled, skewed=True), True)
    for name, (draw, macro) in draws.items():
        for same in (False, True):
            kind = "the same challenger asks again" if same else "a new challenger each night"
            say(f"{name}; {kind}", *equal_models(count if not macro else count // 2, draw, same, macro))


def print_single(count: int) -> None:
    say(f"equal models, one test at {LOOK}", "rows", "gate", "percentile bootstrap")
    for rows in (20, 30, 60, 120, 500):
        for share in (0.05, 0.10):
            found = single_look(4 * count, partial(pair, fixes=share / 2, breaks=share / 2), rows)
            say(f"accuracy, differ on {share:.0%}", rows, *found)
    for rows in (60, 300):
        found = single_look(2 * count, partial(labelled, skewed=True), rows, macro=True)
        say("macro F1, errors in different classes", rows, *found)


def print_groups(count: int) -> None:
    for name, rows, fixes, breaks in (("equal", 300, 0.05, 0.05), ("3 points better", 1000, 0.05, 0.02)):
        say(f"{name}, night 1, {rows} rows in groups of", "tied rows", "promoted", "rejected", "single rows promote")
        for size, tied in ((1, 1.0), (2, 1.0), (3, 1.0), (5, 1.0), (5, 0.5), (5, 0.0), (10, 1.0)):
            say(size, f"{tied:.0%}", *together(4 * count, rows, size, tied, fixes, breaks))


def print_rest(count: int) -> None:
    say("forgets exactly the margin (2 points), 20 points better on fresh rows, 30 nights", "history rows", "promoted")
    for rows in (300, 1000, 3000):
        say("", rows, forgetting(count, rows, 0.02))
    say("night 1, 3,000 history rows", "fresh rows", "promoted", "held", "rejected")
    for name, rows, fixes, breaks in (
        ("equal", 1000, 0.035, 0.035),
        ("3 points better", 200, 0.05, 0.02),
        ("3 points better", 500, 0.05, 0.02),
        ("3 points better", 1000, 0.05, 0.02),
        ("3 points better, differ on 11%", 1000, 0.07, 0.04),
        ("5 points worse", 100, 0.02, 0.07),
        ("5 points worse", 1000, 0.02, 0.07),
    ):
        say(name, rows, *first_night(count, rows, fixes, breaks).values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=500)
    histories = parser.parse_args().histories
    print_nights(histories)
    print_single(histories)
    print_groups(histories)
    print_rest(histories)
