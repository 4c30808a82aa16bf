"""The table of docs/reference/methods.md: what each way of tuning reaches and costs."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.methods.arms import ARMS, SETS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "methods.md"
START, END = "<!-- made by `make bench NAME=methods` -->", "<!-- end of it -->"

NAMES = {"full", "lora", "dora", "adalora", "ia3", "prefix", "prompt", "p-tuning"}  # of `training.method`


def write(found: dict[str, Any]) -> None:
    """Put the tables between their marks in the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text("\n".join([before + START + "\n", *section(found), END]) + after, encoding="utf-8")


def section(found: dict[str, Any]) -> Iterator[str]:
    """The tables' lines."""
    machine = found["machine"]
    yield "MiniLM-L6. Each training is a process of its own with one thread, two at most at once. Numbers are means"
    yield "over"
    yield "seeds, in brackets the lowest and highest.\n"
    yield "| column | meaning |\n|---|---|"
    yield "| trained | share of the weights that learn |"
    yield "| typos | the metric on the test rows that typos change, before and after |"
    yield "| seconds | the training's, of the processor |"
    yield "| memory | the process' peak |"
    yield "| weights | the bundle's |\n"
    yield (f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
           f"Python {machine['python']}, torch {machine['torch']}.\n")  # fmt: skip
    for data, told in SETS.items():
        yield from _table(data, told, found)


def _table(data: str, told: Any, found: dict[str, Any]) -> Iterator[str]:
    runs = {name: _runs(found["runs"], data, name) for name in ARMS}
    if not runs["full"]:
        return
    epochs = next(one.partition("=")[2] for one in told.changes if one.startswith("training.epochs"))
    yield f"**{data}**: {told.train}, {epochs} epochs, official test rows, whole.\n"
    below = "points below `full` with as many epochs"
    heads = ["method", "trained", "seeds", f"`{told.metric}`", below, "typos", "seconds"]
    yield f"| {' | '.join([*heads, 'memory, MB', 'weights, MB'])} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, made in runs.items():
        if made:
            yield _line(name, made, _beside(runs, name))
    yield ""
    yield from _race(found["speeds"].get(data), runs)


def _runs(known: dict[str, Any], data: str, name: str) -> dict[int, dict[str, Any]]:
    """What is known of an arm, by seed."""
    return {int(key.split("; ")[2]): one for key, one in known.items() if key.startswith(f"{data}; {name}; ")}


def _beside(runs: dict[str, dict[int, dict[str, Any]]], name: str) -> dict[int, dict[str, Any]]:
    """The runs of `full` with as many epochs."""
    _, _, epochs = name.rpartition(", ")
    return runs["full"] if not epochs.endswith("epochs") else runs[f"full, {epochs}"]


def _line(name: str, made: dict[int, dict[str, Any]], full: dict[int, dict[str, Any]]) -> str:
    values = [one["metric"] for one in made.values()]
    both = [seed for seed in made if seed in full]
    gap = statistics.mean(full[seed]["metric"] - made[seed]["metric"] for seed in both) if both else None
    mean = {key: statistics.mean(one[key] for one in made.values()) for key in (
        "trained", "metric", "before typos", "typos", "processor", "peak", "weights"
    )}  # fmt: skip
    below = "" if gap is None or made is full else f"{100 * gap:+.2f}"
    cells = [
        f"`{name}`" if name in NAMES else name, f"{mean['trained']:.1%}", str(len(made)),
        f"**{mean['metric']:.4f}** ({min(values):.4f} to {max(values):.4f})", below,
        f"{mean['before typos']:.3f} to {mean['typos']:.3f}", f"{mean['processor']:.0f}", f"{mean['peak']:,.0f}",
        f"{mean['weights']:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _race(took: dict[str, float] | None, runs: dict[str, dict[int, dict[str, Any]]]) -> Iterator[str]:
    """How much faster the student answers than its teacher, and what it keeps."""
    student, teacher = runs["student, distilled"], runs["full"]
    both = [seed for seed in student if seed in teacher]
    if took is None or not both:
        return
    kept = statistics.mean(student[seed]["metric"] / teacher[seed]["metric"] for seed in both)
    times = took["full"] / took["student, distilled"]
    yield f"The distilled student of 3 layers keeps {kept:.1%} of its teacher's metric and answers {times:.2f} times as"
    yield "fast (one process, by turns; 95% and 1.7 times were asked).\n"
