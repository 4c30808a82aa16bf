"""Gates compared over histories with fine-tuned models: `make bench NAME=policies`.

Every model of a history is trained and scored once (`kept.py`), in `.evertune/benchmarks` of this checkout or the
folder that EVERTUNE_BENCH_HISTORIES names. A call that ends early goes on where it was. Then each gate is replayed over
the kept scores, and each promotion is judged on clean rows that no model has learned: the truth.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import ROOT, describe_machine
from benchmarks.policies.histories import list_histories
from benchmarks.policies.kept import DONE, EPOCHS, FIRST, LAYERS, keep_histories

FOLDER = Path(os.environ.get("EVERTUNE_BENCH_HISTORIES", ROOT / ".evertune" / "benchmarks"))
SEEDS = {"tickets": 20, "movielens": 9}
MADE_SEEDS = 5
CONTROLS = "never,always,always:2"
GATES = "expected,caution=2,caution=3,caution=12,proof,thresholds"
HORIZON = 3  # windows whose truth tells what a promotion was worth


@dataclass(frozen=True)
class Replayed:
    """A policy over one history, judged by the truth.

    Args:
        metric: mean accuracy over the windows.
        differences: of each promotion: accuracy of the new model less that of the old one, over the next windows.
    """

    metric: float
    differences: tuple[float, ...]


def measure() -> dict[str, Any]:
    """Train what is missing, replay all gates, and return the tables."""
    for name in list_histories():
        keep_histories(FOLDER, range(SEEDS.get(name, MADE_SEEDS)), [name])
    return summarize(FOLDER)


def summarize(folder: Path, gates: str = GATES) -> dict[str, Any]:
    """Return a table of each kind of history over what is kept so far."""
    kinds: dict[str, list[dict[str, Replayed]]] = defaultdict(list)
    for history in sorted(path.parent for path in folder.glob(f"*/{DONE}")):
        name = history.name.rpartition("-")[0]
        kinds[name.partition("-")[2] or name].append(replay_history(history, gates))
    every = [replayed for histories in kinds.values() for replayed in histories]
    return {
        "machine": describe_machine(),
        "layers": LAYERS,
        "epochs": EPOCHS,
        "start": FIRST,
        "kinds": {name: _summarize_kind(histories) for name, histories in [*sorted(kinds.items()), ("all", every)]},
    }


def replay_history(folder: Path, gates: str) -> dict[str, Replayed]:
    """Return each policy over one kept history."""
    from evertune.backtesting.kept_source import KeptSource
    from evertune.backtesting.policies import parse_gates, parse_policies
    from evertune.backtesting.simulate import Simulation
    from evertune.config import load_recipe

    recipe = load_recipe(folder / "recipe.yaml", for_data=False)
    source = KeptSource(folder / "scores")
    truth = _read_truth(folder / DONE)
    replayed = {}
    for policy in [*parse_policies(CONTROLS), *parse_gates(gates)]:
        simulation = Simulation(policy, recipe, source, source.first)
        steps = [simulation.advance(window) for window in range(source.first, len(source.history))]
        values = [truth[step.model, step.window + 1] for step in steps]
        differences = [
            _measure_difference(truth, step.model, step.replaced, step.window)
            for step in steps
            if step.replaced is not None
        ]
        replayed[policy.name] = Replayed(float(np.mean(values)), tuple(differences))
    return replayed


def _read_truth(path: Path) -> dict[tuple[int, int], float]:
    """Return (window of the model, later window) -> accuracy on the clean rows of that window."""
    with np.load(path) as arrays:
        windows = arrays["window"]
        models = [int(name.removeprefix("right_")) for name in arrays.files if name.startswith("right_")]
        return {
            (model, int(window)): float(arrays[f"right_{model}"][windows == window].mean())
            for model in models
            for window in np.unique(windows)
            if window > model
        }


def _measure_difference(truth: dict[tuple[int, int], float], new: int, old: int, window: int) -> float:
    """Return what a promotion at the end of a window was worth: the mean over the next windows."""
    last = max(later for _, later in truth)
    later_windows = range(window + 1, min(window + HORIZON, last) + 1)
    return float(np.mean([truth[new, later] - truth[old, later] for later in later_windows]))


def _summarize_kind(histories: list[dict[str, Replayed]]) -> dict[str, Any]:
    """Return for each policy its mean, how far it is below the best, and what its promotions lost, in points."""
    policies = list(histories[0])
    metric = {policy: np.array([100 * history[policy].metric for history in histories]) for policy in policies}
    best = max(policies, key=lambda policy: float(metric[policy].mean()))
    table = {}
    for policy in policies:
        differences = [100 * np.array(history[policy].differences) for history in histories]
        lost = np.array([-np.minimum(values, 0).sum() for values in differences])
        wrong = np.array([int((values < 0).sum()) for values in differences])
        table[policy] = {
            "metric": float(metric[policy].mean()),
            "below": _bootstrap_interval(metric[best] - metric[policy]),
            "below always": _bootstrap_interval(metric["always"] - metric[policy]),
            "promotions": int(sum(map(len, differences))),
            "wrong": int(wrong.sum()),
            "lost": float(lost.sum()),
        }
    for control in ("always", "always:2"):
        base = _lost_points(histories, control)
        for policy in policies:
            table[policy][f"fewer points lost than {control}, p"] = _sign_flip_pvalue(
                base - _lost_points(histories, policy)
            )
    return {"histories": len(histories), "best": best, "policies": table}


def _lost_points(histories: list[dict[str, Replayed]], policy: str) -> Any:
    return np.array([-np.minimum(100 * np.array(history[policy].differences), 0).sum() for history in histories])


def _bootstrap_interval(values: Any) -> list[float]:
    """Mean, and the middle 95% of its bootstrap over histories."""
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    return [float(values.mean()), *map(float, np.quantile(means, [0.025, 0.975]))]


def _sign_flip_pvalue(differences: Any) -> float:
    """One-sided p-value of a mean above 0 (paired permutation test over histories)."""
    signs = np.random.default_rng(0).choice([-1, 1], (9_999, len(differences)))
    return float((1 + ((signs * differences).mean(1) >= differences.mean() - 1e-12).sum()) / 10_000)


def render_rows(kinds: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table, one for each kind and policy."""
    for name, kind in kinds.items():
        for policy, row in kind["policies"].items():
            below, low, high = row["below always"]
            yield (
                f"{name:12} {kind['histories']:3} {policy:12} {row['metric']:6.2f}  below always {below:5.2f} "
                f"({low:5.2f} to {high:5.2f})  wrong {row['wrong']:3} of {row['promotions']:3}  lost {row['lost']:6.2f}"
            )


if __name__ == "__main__":
    kept = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for line in render_rows(summarize(kept, *sys.argv[2:])["kinds"]):
        sys.stdout.write(line + "\n")
