"""The section of docs/reference/benchmarks.md on trainings in several processes."""

from collections.abc import Iterator
from typing import Any


def section(found: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine, threads = found["machine"], found["threads"]
    yield "## Two processes on one machine\n"
    yield "```console\n$ make bench NAME=processes\n```\n"
    yield f"One process with {threads} threads, and two that share them, take the same {found['steps']} steps of"
    yield "4,096 tokens"
    yield "(MiniLM-L6, the quickstart's tickets), in turn. Numbers are medians. Two processes on one CPU are a test:"
    yield "`training.processes` is for several GPUs and machines.\n"
    yield (f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
           f"Python {machine['python']}, torch {machine['torch']}.\n")  # fmt: skip
    yield "| `training.processes` | seconds a step | to the first checkpoint |\n|---|---|---|"
    for arm, seconds in found["seconds a step"].items():
        yield f"| {arm} | {seconds:.2f} | {found['seconds to the first checkpoint'][arm]:.1f} |"
    yield f"\nSpeed of two over one: **{found['speed, two processes over one']:.2f}**\n"
