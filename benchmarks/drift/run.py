"""How often `evertune monitor` tells of drift where there is none, and where a share of the rows has changed."""

import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import evertune, machine

RECIPE = "configs/support_intents.yaml"
WINDOWS, ROWS, REFERENCE = 200, 200, 400  # null windows; rows of one; rows that it is compared with
SHARES, TRIES = (0.05, 0.1, 0.2, 0.3), 40  # of changed rows; windows of each share
LEVELS = (0.01, 0.05, 0.1, 0.2)
SHIFTED = 9  # the week in which customers begin to write of the app
SEED = 1000  # of the corpora, none of which the champion has seen


def measure() -> dict[str, Any]:
    """Alarms over null windows, and by share of changed rows; each window and what it is beside is of a new corpus."""
    with tempfile.TemporaryDirectory() as home:
        evertune(Path(home), "run", RECIPE, "--json")
        predictor = _champion(Path(home))
        null = [_p(predictor, number, 0.0) for number in range(WINDOWS)]
        sys.stderr.write(f"null: {np.mean(np.array(null) <= 0.05):.3f} at 0.05\n")
        power = {}
        for share in SHARES:
            power[str(share)] = [_p(predictor, WINDOWS + number, share) for number in range(TRIES)]
            sys.stderr.write(f"{share}: {np.mean(np.array(power[str(share)]) <= 0.05):.3f} at 0.05\n")
    alarms = {str(level): [int((np.array(null) <= level).sum()), *_expected(level)] for level in LEVELS}
    found = {share: float(np.mean(np.array(values) <= 0.05)) for share, values in power.items()}
    return {
        "machine": machine(), "windows": WINDOWS, "rows": ROWS, "reference": REFERENCE, "tries": TRIES,
        "alarms": alarms, "power": found, "null": null,
    }  # fmt: skip


def _expected(level: float) -> list[int]:
    """The middle 95% of the binomial that the stated rate gives."""
    from scipy import stats

    return [int(end) for end in stats.binom.interval(0.95, WINDOWS, level)]


def _champion(home: Path) -> Any:
    from evertune.serving import bundle

    [folder] = home.glob("models/*/runs/*/bundle")
    return bundle.predictor(folder)


def _p(predictor: Any, number: int, share: float) -> float:
    """P-value of a window in which this share of the rows is of the time after the change."""
    from evertune.statistics import two_sample as drift

    random = np.random.default_rng(number)
    reference = _drawn(_tickets(SEED + 2 * number, drifted=False), REFERENCE, random)
    other = SEED + 2 * number + 1
    changed = round(share * ROWS)
    window = _drawn(_tickets(other, drifted=False), ROWS - changed, random)
    window += _drawn(_tickets(other, drifted=True), changed, random) if changed else []
    before, now = (_seen(predictor, rows) for rows in (reference, window))
    return drift.compare(before, now, number).p


@cache
def _tickets(seed: int, drifted: bool) -> list[tuple[str, str]]:
    """Sound tickets of the weeks before the change, or those that speak of what is new."""
    from evertune.samples import support_tickets

    found = support_tickets.tickets(SHIFTED + 1, seed)
    return [
        (str(one.message), one.meant)
        for one in found
        if one.broken is None and one.message and one.drifted == drifted and (drifted or _week(one, found) < SHIFTED)
    ]


def _week(ticket: Any, every: list[Any]) -> int:
    return int((ticket.written - every[0].written).days // 7 + 1)


def _drawn(rows: list[tuple[str, str]], count: int, random: Any) -> list[tuple[str, str]]:
    return [rows[place] for place in random.choice(len(rows), count, replace=len(rows) < count)]


def _seen(predictor: Any, rows: list[tuple[str, str]]) -> Any:
    from evertune.config import load
    from evertune.monitoring import observations as observing

    return observing.observed(predictor, load(RECIPE), [text for text, _ in rows], [label for _, label in rows])
