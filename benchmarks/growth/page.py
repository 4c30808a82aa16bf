"""The section of docs/reference/benchmarks.md on growth: what a day costs as the history gets longer."""

import statistics
from collections.abc import Iterator
from typing import Any

AROUND = 5  # days before and after, over which the median is taken
ASKED = (10, 50, 100, 200, 500, 1000)
STEPS = ("ingest", "validate", "tokenize", "finetune", "evaluate", "promote")


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = results["machine"]
    yield "## What a day costs after many days\n"
    yield "```console\n$ GROWTH_FOLDER=/some/folder make bench NAME=growth\n```\n"
    yield f"{results['rows']} rows a day, a run a day, a model of one layer, one training step. Each seventh version"
    yield "is promoted by hand. Numbers are medians of the days around. *Processor* counts the seconds of this"
    yield "process. Prefect's server and the two helper processes (Great Expectations, the parity check) cost the"
    yield "same each day and are not counted. [Growth](../explanation/growth.md) says what is bounded.\n"
    yield (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}.\n"
    )
    for arm in ("replay", "all"):
        if days := results.get(arm):
            yield from _render_table(arm, days)


def _render_table(arm: str, days: list[dict[str, Any]]) -> Iterator[str]:
    last = days[-1]["day"]
    yield f"`train_on: {arm}`, {last:,} days:\n"
    yield f"| day | processor | {' | '.join(STEPS)} | database, MB | corpus, MB | disk, MB | files |"
    yield "|---" * (len(STEPS) + 6) + "|"
    for day in [*(number for number in ASKED if number < last), last]:
        near_days = [entry for entry in days if abs(entry["day"] - day) <= AROUND]
        cells = [f"**{_median_value(near_days, 'cpu'):.2f}**"]
        cells += [f"{statistics.median(entry['seconds'].get(step, 0) for entry in near_days):.2f}" for step in STEPS]
        [exact_day] = [entry for entry in days if entry["day"] == day]
        sizes = exact_day["bytes"]
        cells += [f"{sizes[name] / 1e6:.1f}" for name in ("database", "corpus", "all")]
        yield f"| {day} | {' | '.join(cells)} | {exact_day['files']:,} |"
    yield ""


def _median_value(days: list[dict[str, Any]], name: str) -> float:
    return statistics.median(entry[name] for entry in days)
