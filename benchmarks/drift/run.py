"""How often `evertune monitor` tells of drift where there is none, and where a share of the rows has changed."""

import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import describe_machine, run_evertune

RECIPE = "configs/support_intents.yaml"
WINDOWS = 200  # null windows; rows of one; rows that it is compared with
ROWS = 200
REFERENCE = 400
SHARES = (0.05, 0.1, 0.2, 0.3)  # of changed rows; windows of each share
TRIES = 40
LEVELS = (0.01, 0.05, 0.1, 0.2)
SHIFTED = 9  # the week in which customers begin to write of the app
SEED = 1000  # of the corpora, none of which the champion has seen


def measure() -> dict[str, Any]:
    """Alarms over null windows, and by share of changed rows; each window and what it is beside is of a new corpus."""
    with tempfile.TemporaryDirectory() as home:
        run_evertune(Path(home), "run", RECIPE, "--json")
        predictor = _load_champion(Path(home))
        null = [_window_pvalue(predictor, number, 0.0) for number in range(WINDOWS)]
        sys.stderr.write(f"null: {np.mean(np.array(null) <= 0.05):.3f} at 0.05\n")
        power = {}
        for share in SHARES:
            power[str(share)] = [_window_pvalue(predictor, WINDOWS + number, share) for number in range(TRIES)]
            sys.stderr.write(f"{share}: {np.mean(np.array(power[str(share)]) <= 0.05):.3f} at 0.05\n")
    alarms = {str(level): [int((np.array(null) <= level).sum()), *_expected_alarms(level)] for level in LEVELS}
    detected = {share: float(np.mean(np.array(values) <= 0.05)) for share, values in power.items()}
    return {
        "machine": describe_machine(),
        "windows": WINDOWS,
        "rows": ROWS,
        "reference": REFERENCE,
        "tries": TRIES,
        "alarms": alarms,
        "power": detected,
        "null": null,
    }


def _expected_alarms(level: float) -> list[int]:
    """The middle 95% of the binomial that the stated rate gives."""
    from scipy import stats

    return [int(end) for end in stats.binom.interval(0.95, WINDOWS, level)]


def _load_champion(home: Path) -> Any:
    from evertune.serving import bundle

    [folder] = home.glob("models/*/runs/*/bundle")
    return bundle.load_predictor(folder)


def _window_pvalue(predictor: Any, number: int, share: float) -> float:
    """P-value of a window in which this share of the rows is of the time after the change."""
    from evertune.statistics import two_sample

    random = np.random.default_rng(number)
    reference = _draw_rows(_sound_tickets(SEED + 2 * number, drifted=False), REFERENCE, random)
    other_seed = SEED + 2 * number + 1
    changed = round(share * ROWS)
    window = _draw_rows(_sound_tickets(other_seed, drifted=False), ROWS - changed, random)
    window += _draw_rows(_sound_tickets(other_seed, drifted=True), changed, random) if changed else []
    before, now = (_observe_rows(predictor, rows) for rows in (reference, window))
    return two_sample.compare_samples(before, now, number).p


@cache
def _sound_tickets(seed: int, drifted: bool) -> list[tuple[str, str]]:
    """Sound tickets of the weeks before the change, or those that speak of what is new."""
    from evertune.samples import support_tickets

    tickets = support_tickets.write_tickets(SHIFTED + 1, seed)
    return [
        (str(ticket.message), ticket.true_intent)
        for ticket in tickets
        if ticket.damage is None
        and ticket.message
        and ticket.has_drifted == drifted
        and (drifted or _week_number(ticket, tickets) < SHIFTED)
    ]


def _week_number(ticket: Any, tickets: list[Any]) -> int:
    return int((ticket.written - tickets[0].written).days // 7 + 1)


def _draw_rows(rows: list[tuple[str, str]], count: int, random: Any) -> list[tuple[str, str]]:
    return [rows[index] for index in random.choice(len(rows), count, replace=len(rows) < count)]


def _observe_rows(predictor: Any, rows: list[tuple[str, str]]) -> Any:
    from evertune.config import load_recipe
    from evertune.monitoring import observations

    return observations.observe_rows(
        predictor, load_recipe(RECIPE), [text for text, _ in rows], [label for _, label in rows]
    )
