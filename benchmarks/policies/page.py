"""The section of docs/reference/benchmarks.md on retraining policies over many histories."""

from collections.abc import Iterator
from typing import Any

TITLES = {
    "tickets": "The sample corpus: twelve weeks, a drift in week 9, a quarter of the labels wrong in week 11",
    "movielens": "MovieLens, 2005 to 2016: does a viewer give four stars or more, from a movie's title and genres",
}
ENOUGH = 0.005  # of the metric: as near as the gated policy should be to the best


def section(found: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = found["machine"]
    yield "## Retraining policies over many histories\n"
    yield "```console\n$ make bench NAME=policies\n```\n"
    yield "`evertune backtest` of one history for each seed; the seed draws the rows and trains. The model is the first"
    yield f"{found['layers']} layers of MiniLM, three epochs. The first one is trained after {found['start']}"
    yield "windows.\n"
    yield "*Wrong* are promotions that made the next window worse, of all promotions. *p* is for fewer of them than"
    yield "with"
    yield "`always` (paired permutations over seeds). [Backtest](../explanation/backtest.md) explains the policies.\n"
    yield (f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
           f"Python {machine['python']}, torch {machine['torch']}.\n")  # fmt: skip
    for name, history in found["histories"].items():
        yield from _table(TITLES[name], history)


def _table(title: str, history: dict[str, Any]) -> Iterator[str]:
    yield f"**{title}** ({history['seeds']} seeds):\n"
    yield "| policy | mean accuracy | points below the best (95% interval) | wrong | p | trainings | recommended |"
    yield "|---|---|---|---|---|---|---|"
    for policy, one in history["policies"].items():
        below, low, high = (100 * value for value in one["below"])
        gap = "best" if policy == history["best"] else f"{below:.2f} ({low:.2f} to {high:.2f})"
        better = "" if policy in {"always", "never"} else f"{one['fewer wrong than always, p']:.4f}"
        promoted = one["promotions"] - history["seeds"]  # the first model of each history has replaced none
        yield (
            f"| `{policy}` | **{one['metric']:.4f}** | {gap} | {one['wrong']} of {promoted} | {better} "
            f"| {one['retrainings']} | {history['recommended'][policy]} of {history['seeds']} |"
        )
    yield f"\n{_verdict(history)}\n"


def _verdict(history: dict[str, Any]) -> str:
    """What the table says of the gated policies."""
    best = history["policies"][history["best"]]["metric"]
    near = [
        f"`{policy}`" for policy in ("gated", "gated-test", "drift")
        if best - history["policies"][policy]["metric"] <= ENOUGH
    ]  # fmt: skip
    if near:
        return f"Within {100 * ENOUGH:.1f} points of the best: {', '.join(near)}."
    return f"No gated policy is within {100 * ENOUGH:.1f} points of the best; `evertune backtest` recommends another."
