"""The section of docs/reference/benchmarks.md on trainings in several processes."""

from collections.abc import Iterator
from typing import Any


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = results["machine"]
    threads = results["threads"]
    yield "## Two processes on one machine\n"
    yield "```console\n$ make bench NAME=processes\n```\n"
    yield f"One process with {threads} threads, and two that share them, take the same {results['steps']} steps of"
    yield "4,096 tokens (MiniLM-L6, the quickstart's tickets), in turn. Numbers are medians. Two processes on one"
    yield "CPU are a test: `training.processes` is for several GPUs and machines.\n"
    yield (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}.\n"
    )
    yield "| `training.processes` | seconds a step | to the first checkpoint |\n|---|---|---|"
    for arm, seconds in results["seconds a step"].items():
        yield f"| {arm} | {seconds:.2f} | {results['seconds to the first checkpoint'][arm]:.1f} |"
    yield f"\nSpeed of two over one: **{results['speed, two processes over one']:.2f}**\n"
