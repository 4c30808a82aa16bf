"""The section of docs/reference/benchmarks.md on retraining policies over many histories."""

from collections.abc import Iterator
from typing import Any

TITLES = {
    "tickets": "The sample corpus: twelve weeks, a drift in week 9, a quarter of the labels wrong in week 11",
    "movielens": "MovieLens, 2005 to 2016: does a viewer give four stars or more, from a movie's title and genres",
}
ENOUGH = 0.005  # of the metric: as near as the gated policy should be to the best


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = results["machine"]
    yield "## Retraining policies over many histories\n"
    yield "```console\n$ make bench NAME=policies\n```\n"
    yield "`evertune backtest` of one history for each seed; the seed draws the rows and trains. The model is the"
    yield f"first {results['layers']} layers of MiniLM, three epochs. The first one is trained after"
    yield f"{results['start']} windows.\n"
    yield "*Wrong* are promotions that made the next window worse, of all promotions. *p* is for fewer of them than"
    yield "with `always` (paired permutations over seeds). [Backtest](../explanation/backtest.md) explains the"
    yield "policies.\n"
    yield (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}.\n"
    )
    for name, history in results["histories"].items():
        yield from _render_table(TITLES[name], history)


def _render_table(title: str, history: dict[str, Any]) -> Iterator[str]:
    yield f"**{title}** ({history['seeds']} seeds):\n"
    yield "| policy | mean accuracy | points below the best (95% interval) | wrong | p | trainings | recommended |"
    yield "|---|---|---|---|---|---|---|"
    for policy, scores in history["policies"].items():
        below, low, high = (100 * value for value in scores["below"])
        gap = "best" if policy == history["best"] else f"{below:.2f} ({low:.2f} to {high:.2f})"
        better = "" if policy in {"always", "never"} else f"{scores['fewer wrong than always, p']:.4f}"
        promoted = scores["promotions"] - history["seeds"]  # the first model of each history has replaced none
        yield (
            f"| `{policy}` | **{scores['metric']:.4f}** | {gap} | {scores['wrong']} of {promoted} | {better} "
            f"| {scores['retrainings']} | {history['recommended'][policy]} of {history['seeds']} |"
        )
    yield f"\n{_describe_verdict(history)}\n"


def _describe_verdict(history: dict[str, Any]) -> str:
    """What the table says of the gated policies."""
    best = history["policies"][history["best"]]["metric"]
    near = [
        f"`{policy}`"
        for policy in ("gated", "gated-test", "drift")
        if best - history["policies"][policy]["metric"] <= ENOUGH
    ]
    if near:
        return f"Within {100 * ENOUGH:.1f} points of the best: {', '.join(near)}."
    return f"No gated policy is within {100 * ENOUGH:.1f} points of the best; `evertune backtest` recommends another."
