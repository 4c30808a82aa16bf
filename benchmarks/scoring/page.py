"""The benchmark page's section on scoring."""

from collections.abc import Iterator
from typing import Any


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = results["machine"]
    yield "## Scoring a file\n"
    yield "```console\n$ make bench NAME=scoring\n```\n"
    yield "The test texts of each data set are scored from a JSON Lines file to another. Loading the model counts,"
    yield "imports do not. Numbers are medians of alternating runs in one process. `transformers.pipeline` has its"
    yield "best batch size, in its default precision and in bf16 (`benchmarks/scoring/run.py` has the search)."
    yield "Evertune has the gate's precision.\n"
    yield f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), torch {machine['torch']}."
    yield ""
    yield "| task | rows | arm | rows/s | Evertune over it |\n|---|---|---|---|---|"
    for name, task in results["tasks"].items():
        for arm, speed in task["rows/s"].items():
            shown = f"{arm} ({task['precision']})" if arm == "evertune" else arm
            yield f"| {name} | {task['rows']:,} | {shown} | {speed:,.0f} | {task['ratio'][arm]:.2f} |"
    yield "\nWhole processes over all rows, imports and the start of Prefect's server counted:\n"
    yield "| task | rows | pipeline, s | `evertune score`, s | ratio |\n|---|---|---|---|---|"
    for name, task in results["tasks"].items():
        processes = task["processes"]
        seconds = processes["seconds"]
        cells = [
            f"{processes['rows']:,}",
            f"{seconds['pipeline']:.1f}",
            f"{seconds['evertune']:.1f}",
            f"{processes['ratio']:.2f}",
        ]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
