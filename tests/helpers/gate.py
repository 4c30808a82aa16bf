"""Models that are right on chosen rows, and the gate's verdict on them."""

import numpy as np

from evertune.config import Gate
from evertune.gate.decide import Case, Scored, decide_promotion


def accuracy(sums):
    return {"accuracy": sums[..., 1] / sums[..., 0]}


def error(sums):
    return {"error": 1 - sums[..., 1] / sums[..., 0]}


def stats(right):
    right = np.asarray(right)
    return np.stack([np.ones(len(right)), right], axis=1).astype(np.float32)


def both(rows, fixes, breaks, right=0.85):
    """Challenger and champion with exactly these shares of fixed, broken and right rows, in a fixed mixed order."""
    order = np.random.default_rng(5).permutation(rows)
    was = np.arange(rows) < round(right * rows)
    now = was.copy()
    now[: round(breaks * rows)] = False
    now[rows - round(fixes * rows) :] = True
    return stats(now[order]), stats(was[order])


def ask(challenger, champion, fresh=None, slices=None, night=1, seed=3, problem=None, metric="accuracy", **rule):
    fresh = np.ones(len(challenger), bool) if fresh is None else fresh
    rule.setdefault("noninferior_on", {})
    scored = Scored(challenger, champion, fresh, slices or {}, majority=stats(np.arange(len(challenger)) % 4 == 0))
    return decide_promotion(Case(scored, accuracy, metric, Gate(**rule), (), night, 500, seed, problem))
