"""The whole flow: what of its wall time is neither training nor evaluation, by part, with a warm server and without."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import describe_machine, prefect_server, run_evertune

REPEATS = 3
# The quickstart, cut short: what is measured here does not depend on how long it trains. It is promoted, so that the
# parity check runs as it does every night.
RUN = (
    "run",
    "configs/support_intents.yaml",
    "--set",
    "training.epochs=0.2",
    "--set",
    "evaluation.gate.minimum.accuracy=0.2",
    "--json",
)


def measure() -> dict[str, Any]:
    """Medians over whole processes, the arms by turns: a first run in a new home, then a run with nothing new."""
    measured: dict[str, list[dict[str, Any]]] = {"warm server": [], "no server": []}
    with tempfile.TemporaryDirectory() as folder, prefect_server(Path(folder)) as url:
        for _ in range(REPEATS):
            for arm, server in (("warm server", url), ("no server", None)):
                measured[arm].append(_measure_both(server))
    arms = {
        arm: {part: statistics.median(run[part] for run in runs) for part in runs[0]} for arm, runs in measured.items()
    }
    return {"machine": describe_machine(), "repeats": REPEATS, "arms": arms, "runs": measured}


def _measure_both(server: str | None) -> dict[str, float]:
    """Seconds of a first run by part, and of a second one.

    Raises:
        RuntimeError: the first was not promoted, or the second found something to do.
    """
    with tempfile.TemporaryDirectory() as folder:
        first = run_evertune(Path(folder), *RUN, server=server)
        again = run_evertune(Path(folder), *RUN, server=server)
    if (first["decision"], again["decision"]) != ("promoted", "unchanged"):
        raise RuntimeError(f"expected promoted and unchanged, got {first['decision']} and {again['decision']}")
    steps = first["seconds"]
    training = first["training"]["seconds"]
    parts = {
        **{name: steps[name] for name in ("ingest", "validate", "tokenize")},
        "finetune, besides training": steps["finetune"] - training,
        "promote, with the parity check": steps["promote"],
        "start, report, end": first["wall"] - sum(steps.values()),
    }
    overhead = sum(parts.values())
    return {
        **parts,
        "besides training and evaluation": overhead,
        "training": training,
        "evaluation": steps["evaluate"],
        "whole": first["wall"],
        "share": overhead / first["wall"],
        "nothing new": again["wall"],
    }
