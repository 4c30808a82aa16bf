"""False alarms and noticed noise of the guard against wrong labels: `python -m benchmarks.label_noise.run [SEEDS]`.

The histories are those of the benchmark `policies`: clean ones, gradual change, a new class, seasons, and windows with
40% wrong labels; in week 11 of the sample tickets 25% are wrong. A logistic regression that learned from 85% of the
earlier rows stands for the champion: it is weaker than a fine-tuned model, so a real second opinion is better.
"""

import sys
from collections import defaultdict
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.policies.histories import NOISE_WINDOWS, History, list_histories, make_history
from evertune.runs.doubtful_labels import fit_and_predict, predict_out_of_fold
from evertune.samples import support_tickets
from evertune.statistics.label_noise import compare_shares, suggest_labels

SEEDS = 5
FIRST = 4  # window that is judged first
TEST_SHARE = 0.15
NOISY_WINDOWS = {"noise": NOISE_WINDOWS, "tickets": (support_tickets.NOISE_WEEK,)}
DAYS = {"week": 7, "365 days": 365}


def measure(seeds: int = SEEDS) -> dict[str, Any]:
    """Return windows, alarms, and how many of the wrong labels were listed, by kind of history."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name in list_histories():
        for seed in range(seeds):
            _count_alarms(make_history(name, seed), counts)
    return {kind: dict(values) for kind, values in counts.items()}


def _count_alarms(history: History, counts: dict[str, dict[str, int]]) -> None:
    moments = np.array([datetime.fromisoformat(row["at"]).timestamp() for row in history.rows])
    windows = 1 + ((moments - moments.min()) // (86400 * DAYS[history.every])).astype(int)
    kind = history.name.partition("-")[2] or history.name
    for window in range(FIRST, int(windows.max()) + 1):
        is_noisy = window in NOISY_WINDOWS.get(kind, ())
        is_unusual, share = judge_window(history, windows, window)
        tally = counts[f"{kind}, {'wrong labels' if is_noisy else 'right labels'}"]
        tally["windows"] += 1
        tally["alarms"] += is_unusual
        tally["listed per mille"] += round(1000 * share)


def judge_window(history: History, windows: NDArray[np.int64], window: int) -> tuple[bool, float]:
    """Return whether the guard raises an alarm on a window, and the share of its labels that it lists."""
    rows = [row for row, number in zip(history.rows, windows, strict=True) if number <= window]
    texts = [row["text"] for row in rows]
    _, labels = np.unique(np.array([row["label"] for row in rows], dtype=object), return_inverse=True)
    is_new = windows[windows <= window] == window
    is_test = (np.random.default_rng(5).random(len(rows)) < TEST_SHARE) & ~is_new
    features = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts)
    is_fitted = ~is_new & ~is_test
    present, values = fit_and_predict(features[is_fitted], labels[is_fitted], features)
    champion = present[values.argmax(1)]
    suggestions, is_confident = suggest_labels(predict_out_of_fold(texts, labels), labels, ~is_new)
    is_known_label = np.isin(labels, np.unique(labels[~is_new]))
    is_doubtful = (suggestions != labels) & (champion == suggestions)
    test = compare_shares(is_doubtful & is_confident, labels, is_new & is_known_label, is_test)
    return test.is_unusual, float(is_doubtful[is_new].mean())


def main() -> None:
    """Write a table."""
    counts = measure(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    lines = ["| history | windows | alarms | labels listed |", "|---|---|---|---|"]
    for kind, tally in counts.items():
        listed = tally["listed per mille"] / tally["windows"] / 10
        lines.append(f"| {kind} | {tally['windows']} | {tally['alarms']} | {listed:.0f}% |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
