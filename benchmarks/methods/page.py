"""The table of docs/reference/methods.md: what each way of tuning reaches and costs."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.methods.arms import ARMS, SETS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "methods.md"
START = "<!-- made by `make bench NAME=methods` -->"
END = "<!-- end of it -->"

NAMES = {"full", "lora", "dora", "adalora", "ia3", "prefix", "prompt", "p-tuning"}  # of `training.method`


def write_page(results: dict[str, Any]) -> None:
    """Put the tables between their marks in the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text("\n".join([before + START + "\n", *render_section(results), END]) + after, encoding="utf-8")


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The tables' lines."""
    machine = results["machine"]
    yield "MiniLM-L6. Each training is a process of its own with one thread, two at most at once. Numbers are means"
    yield "over seeds, in brackets the lowest and highest.\n"
    yield "| column | meaning |\n|---|---|"
    yield "| trained | share of the weights that learn |"
    yield "| typos | the metric on the test rows that typos change, before and after |"
    yield "| seconds | the training's, of the processor |"
    yield "| memory | the process' peak |"
    yield "| weights | the bundle's |\n"
    yield (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}.\n"
    )
    for data, data_set in SETS.items():
        yield from _render_table(data, data_set, results)


def _render_table(data: str, data_set: Any, results: dict[str, Any]) -> Iterator[str]:
    runs = {name: _select_runs(results["runs"], data, name) for name in ARMS}
    if not runs["full"]:
        return
    epochs = next(change.partition("=")[2] for change in data_set.changes if change.startswith("training.epochs"))
    yield f"**{data}**: {data_set.train}, {epochs} epochs, official test rows, whole.\n"
    below = "points below `full` with as many epochs"
    heads = ["method", "trained", "seeds", f"`{data_set.metric}`", below, "typos", "seconds"]
    yield f"| {' | '.join([*heads, 'memory, MB', 'weights, MB'])} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, arm_runs in runs.items():
        if arm_runs:
            yield _render_line(name, arm_runs, _full_runs(runs, name))
    yield ""
    yield from _render_race(results["speeds"].get(data), runs)


def _select_runs(runs: dict[str, Any], data: str, name: str) -> dict[int, dict[str, Any]]:
    """What is known of an arm, by seed."""
    return {int(key.split("; ")[2]): run for key, run in runs.items() if key.startswith(f"{data}; {name}; ")}


def _full_runs(runs: dict[str, dict[int, dict[str, Any]]], name: str) -> dict[int, dict[str, Any]]:
    """The runs of `full` with as many epochs."""
    _, _, epochs = name.rpartition(", ")
    return runs["full"] if not epochs.endswith("epochs") else runs[f"full, {epochs}"]


def _render_line(name: str, arm_runs: dict[int, dict[str, Any]], full: dict[int, dict[str, Any]]) -> str:
    values = [run["metric"] for run in arm_runs.values()]
    seeds = [seed for seed in arm_runs if seed in full]
    gap = statistics.mean(full[seed]["metric"] - arm_runs[seed]["metric"] for seed in seeds) if seeds else None
    mean = {
        key: statistics.mean(run[key] for run in arm_runs.values())
        for key in ("trained", "metric", "before typos", "typos", "processor", "peak", "weights")
    }
    below = "" if gap is None or arm_runs is full else f"{100 * gap:+.2f}"
    cells = [
        f"`{name}`" if name in NAMES else name,
        f"{mean['trained']:.1%}",
        str(len(arm_runs)),
        f"**{mean['metric']:.4f}** ({min(values):.4f} to {max(values):.4f})",
        below,
        f"{mean['before typos']:.3f} to {mean['typos']:.3f}",
        f"{mean['processor']:.0f}",
        f"{mean['peak']:,.0f}",
        f"{mean['weights']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _render_race(seconds: dict[str, float] | None, runs: dict[str, dict[int, dict[str, Any]]]) -> Iterator[str]:
    """How much faster the student answers than its teacher, and what it keeps."""
    student = runs["student, distilled"]
    teacher = runs["full"]
    seeds = [seed for seed in student if seed in teacher]
    if seconds is None or not seeds:
        return
    kept_share = statistics.mean(student[seed]["metric"] / teacher[seed]["metric"] for seed in seeds)
    times = seconds["full"] / seconds["student, distilled"]
    yield (
        f"The distilled student of 3 layers keeps {kept_share:.1%} of its teacher's metric and answers "
        f"{times:.2f} times as"
    )
    yield "fast (one process, by turns; 95% and 1.7 times were asked).\n"
