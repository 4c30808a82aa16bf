"""The ingest benchmark's section of docs/reference/benchmarks.md."""

import itertools
from collections.abc import Iterator
from typing import Any

RULE = "|---"
REACH = 100_000  # rows a second, from a million rows on
MEMORY = 2 * 2**30


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    yield "## From a file to the accepted corpus\n"
    yield "```console\n$ make bench NAME=ingest\n```\n"
    yield "The input is a CSV of generated short texts with id, label and timestamp: 6 to 14 words, 2% near"
    yield "duplicates, 1% bad ones. Each arm runs in a process of its own, by turns. Seconds are medians, from"
    yield "before imports to the end. Peak is the largest resident set of the whole process.\n"
    yield "Evertune reads, versions, judges, compares, splits and commits. The other arm reads, checks the same"
    yield "over the whole frame, and writes accepted and refused rows.\n"
    machine = results["machine"]
    yield f"Machine: {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}.\n"
    yield "| rows | arm | seconds | rows/s | processor seconds | peak, GB | seconds of pandas + GX over it |"
    yield RULE * 7 + "|"
    for size in results["sizes"]:
        pandas_seconds = size["arms"]["pandas and Great Expectations"]["seconds"]
        for name, arm in size["arms"].items():
            cells = [f"{size['rows']:,}", name, f"{arm['seconds']:.1f}", f"{arm['rows_per_second']:,.0f}"]
            cells += [
                f"{arm['cpu_seconds']:.1f}",
                f"{arm['peak_bytes'] / 2**30:.2f}",
                f"{pandas_seconds / arm['seconds']:.2f}",
            ]
            yield f"| {' | '.join(cells)} |"
    yield ""
    yield from _render_growth(results["sizes"])


def _render_growth(sizes: list[dict[str, Any]]) -> Iterator[str]:
    """How both grow from one size to the next."""
    yield "| from | to | rows, times | arm | seconds, times | peak, times |"
    yield RULE * 6 + "|"
    for small, large in itertools.pairwise(sizes):
        for name, arm in large["arms"].items():
            before = small["arms"][name]
            cells = [f"{small['rows']:,}", f"{large['rows']:,}", f"{large['rows'] / small['rows']:.0f}", name]
            cells += [f"{arm[key] / before[key]:.1f}" for key in ("seconds", "peak_bytes")]
            yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"To reach, from a million rows on: {REACH:,} rows/s, and at most {MEMORY / 2**30:.0f} GB.\n"
