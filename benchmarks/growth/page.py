"""The section of docs/reference/benchmarks.md on growth: what a day costs as the history gets longer."""

import statistics
from collections.abc import Iterator
from typing import Any

AROUND = 5  # days before and after, over which the median is taken
ASKED = (10, 50, 100, 200, 500, 1000)
STEPS = ("ingest", "validate", "tokenize", "finetune", "evaluate", "promote")


def section(found: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = found["machine"]
    yield "## What a day costs after many days\n"
    yield "```console\n$ GROWTH_FOLDER=/some/folder make bench NAME=growth\n```\n"
    yield f"{found['rows']} rows a day, a run a day, a model of one layer, one training step. Each seventh version"
    yield "is promoted"
    yield "by hand. Numbers are medians of the days around. *Processor* counts the seconds of this process."
    yield "Prefect's server"
    yield "and the two helper processes (Great Expectations, the parity check) cost the same each day and are not"
    yield "counted."
    yield "[Growth](../explanation/growth.md) says what is bounded.\n"
    yield (f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
           f"Python {machine['python']}, torch {machine['torch']}.\n")  # fmt: skip
    for arm in ("replay", "all"):
        if days := found.get(arm):
            yield from _table(arm, days)


def _table(arm: str, days: list[dict[str, Any]]) -> Iterator[str]:
    last = days[-1]["day"]
    yield f"`train_on: {arm}`, {last:,} days:\n"
    yield f"| day | processor | {' | '.join(STEPS)} | database, MB | corpus, MB | disk, MB | files |"
    yield "|---" * (len(STEPS) + 6) + "|"
    for day in [*(one for one in ASKED if one < last), last]:
        some = [one for one in days if abs(one["day"] - day) <= AROUND]
        cells = [f"**{_median(some, 'cpu'):.2f}**"]
        cells += [f"{statistics.median(one['seconds'].get(step, 0) for one in some):.2f}" for step in STEPS]
        [that] = [one for one in days if one["day"] == day]
        sizes = that["bytes"]
        cells += [f"{sizes[name] / 1e6:.1f}" for name in ("database", "corpus", "all")]
        yield f"| {day} | {' | '.join(cells)} | {that['files']:,} |"
    yield ""


def _median(days: list[dict[str, Any]], name: str) -> float:
    return statistics.median(one[name] for one in days)
