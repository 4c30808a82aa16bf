"""The section of docs/reference/benchmarks.md on what a flow spends beside its work."""

from collections.abc import Iterator
from typing import Any

REACH = {("warm server", "besides training and evaluation"): 10.0, ("no server", "nothing new"): 2.0}


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    yield "## What a flow spends beside training and evaluation\n"
    yield "```console\n$ make bench NAME=overhead\n```\n"
    yield f"The quickstart with a short training, median of {results['repeats']} whole processes, the arms by turns;"
    yield "then a run with nothing new. The import of torch and transformers counts where it happens: in"
    yield "`tokenize`, or, without a server, while the server starts. Seconds.\n"
    arms = results["arms"]
    yield f"| part | {' | '.join(arms)} | to reach |"
    yield f"|---|{'---|' * len(arms)}---|"
    for part in next(iter(arms.values())):
        target = ", ".join(f"{arm}: {value:.0f}" for (arm, name), value in REACH.items() if name == part)
        cells = [f"{arm[part]:.0%}" if part == "share" else f"{arm[part]:.1f}" for arm in arms.values()]
        yield f"| {part} | {' | '.join(cells)} | {target} |"
    yield ""


def render_deployment(results: dict[str, Any]) -> Iterator[str]:
    """The lines on a night with nothing new."""
    yield "## A night with nothing new, as a deployment's flow\n"
    yield "```console\n$ make bench NAME=deployment\n```\n"
    yield "`evertune up`, then `prefect deployment run 'retrain/support-intents'` over a home in which the"
    yield f"quickstart has run; median of {results['repeats']} runs. Seconds.\n"
    yield "| part | seconds | to reach |\n|---|---|---|"
    for part, seconds in results["parts"].items():
        yield f"| {part} | {seconds:.1f} | {'4' if part == 'in the flow' else ''} |"
    yield ""
