"""The section of docs/reference/benchmarks.md on gates over many histories."""

from collections.abc import Iterator
from typing import Any

TITLES = {
    "tickets": "The sample corpus: a drift in week 9, a quarter of the labels wrong in week 11",
    "movielens": "MovieLens, 2005 to 2016: does a viewer give four stars or more",
    "iid": "Banking77, AG News and Financial PhraseBank, the same in every window",
    "gradual": "The same corpora, their labels shifting from window to window",
    "new-class": "The same, one label appearing in window 7",
    "noise": "The same, 40% of the labels wrong in windows 6 and 9",
    "season": "The same, two halves of the labels taking turns",
    "all": "All histories",
}


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = results["machine"]
    yield "## Gates over many histories\n"
    yield "```console\n$ make bench NAME=policies\n```\n"
    yield f"Histories of twelve windows, and a model at the end of each from window {results['start']} on: the first"
    yield f"{results['layers']} layers of MiniLM, {results['epochs']} epochs. Each gate is replayed over the same"
    yield "models. Accuracy and the worth of a promotion are measured on clean rows that no model has learned. *Wrong*"
    yield "are promotions of a model that is truly worse over the next three windows, *lost* is what they cost in"
    yield "points."
    yield "[Backtest](../explanation/backtest.md) explains the policies.\n"
    yield (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}.\n"
    )
    for name, kind in results["kinds"].items():
        yield from _render_table(TITLES[name], kind)


def _render_table(title: str, kind: dict[str, Any]) -> Iterator[str]:
    count = kind["histories"]
    yield f"**{title}** ({count} {'history' if count == 1 else 'histories'}):\n"
    yield "| policy | mean accuracy | points below `always` (95% interval) | wrong | points lost |"
    yield "|---|---|---|---|---|"
    for policy, row in kind["policies"].items():
        below, low, high = row["below always"]
        scatter = f" ({low:.2f} to {high:.2f})" if count > 1 else ""
        gap = "" if policy == "always" else f"{below:.2f}{scatter}"
        wrong = f"{row['wrong']} of {row['promotions']}"
        yield f"| `{policy}` | {row['metric']:.2f} | {gap} | {wrong} | {row['lost']:.2f} |"
    yield ""
