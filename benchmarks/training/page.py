"""The sections of docs/reference/benchmarks.md on the speed of training and on what is learned at that speed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "training.svg"
NAMES = {
    "a": "(a) tutorial loop",
    "b": "(b) Trainer",
    "c": "(c) Trainer, tuned",
    "d": "(d) Evertune",
}
REACH = {("conll2003", "d/a"): 25, ("conll2003", "d/b"): 8, ("conll2003", "d/c"): 2}
SHARE = {"conll2003": 0.45, "imdb": 0.45}
LEAST = -0.003


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """How fast the four loops are."""
    machine = results["machine"]
    sets = {name: part for name, part in results.items() if name != "machine"}
    _draw_picture(sets)
    yield "## How fast a model trains\n"
    yield "```console\n$ make bench NAME=training\n```\n"
    yield "Four loops train MiniLM-L6 on the same rows, in one process and in turn. Numbers are medians of the"
    yield "rounds.\n"
    yield "| loop | what it is |\n|---|---|"
    yield "| (a) | a tutorial loop: each row padded to 128 tokens (IMDB: 256), 16 rows a step, fp32, AdamW |"
    yield "| (b) | the Hugging Face Trainer: dynamic padding, 16 rows a step |"
    yield "| (c) | (b) with bf16, grouped lengths and its best batch size |"
    yield "| (d) | what `evertune run` trains with |\n"
    yield "Tokens are real ones, without padding. The share is of this machine's bf16 matrix peak (2,048 x 2,048,"
    yield "best of all rounds); operations are counted for real tokens only.\n"
    yield (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}; revision {machine['revision']}.\n"
    )
    yield f"![Real tokens a second by loop](../pictures/{PICTURE.name})\n"
    yield "| data | loop | rows/s | real tokens/s | share of the peak | peak memory, MB |\n|---|---|---|---|---|---|"
    for name, part in sets.items():
        for loop, speed in part["loops"].items():
            cells = [
                name,
                NAMES[loop],
                f"{speed['rows']:.1f}",
                f"{speed['tokens']:,.0f}",
                f"{speed['share of bf16 peak']:.1%}",
            ]
            yield f"| {' | '.join([*cells, format(speed['peak memory, MB'], ',.0f')])} |"
    yield "\n| data | ratio | measured | to reach |\n|---|---|---|---|"
    for name, part in sets.items():
        for ratio, value in part["ratios"].items():
            yield f"| {name} | ({ratio[0]}) over ({ratio[2]}) | **{value:.2f}** | {REACH.get((name, ratio), '')} |"
        share = part["loops"]["d"]["share of bf16 peak"]
        yield f"| {name} | (d), share of the peak | **{share:.1%}** | {SHARE.get(name, '')} |"
    yield (
        "\nBatch sizes tried for (c), real tokens/s: "
        + "; ".join(
            f"{name}: " + ", ".join(f"{size} rows {value:,.0f}" for size, value in part["search"].items())
            for name, part in sets.items()
        )
        + ". (d) over the best of these: "
        + ", ".join(
            f"{name} {part['loops']['d']['tokens'] / max(part['search'].values()):.2f}" for name, part in sets.items()
        )
        + ".\n"
    )


def render_learning(results: dict[str, Any]) -> Iterator[str]:
    """What the loops reach."""
    yield "## What is learned at that speed\n"
    yield "```console\n$ make bench NAME=learning\n```\n"
    yield "Loops (b) and (d) of above, the same epochs, official test split, three seeds."
    yield "`benchmarks/training/rows.py` has the settings, and says where not all rows are taken.\n"
    yield "| data | metric | seed | (b) | (d) | (d) less (b) | to reach |\n|---|---|---|---|---|---|---|"
    runs = results["runs"]
    for name, seed in dict.fromkeys((key.split()[0], key.split()[2]) for key in runs):
        b, d = (runs.get(f"{name} {loop} {seed}") for loop in "bd")
        if b and d:
            cells = [name, f"`{d['setting']['metric']}`", seed, *(f"{run['metric']:.4f}" for run in (b, d))]
            yield f"| {' | '.join([*cells, format(d['metric'] - b['metric'], '+.4f'), ''])} |"
    for name, mean in results["means"].items():
        cells = [name, "", "mean", f"{mean['b']:.4f}", f"{mean['d']:.4f}", f"**{mean['d - b']:+.4f}**", f"{LEAST}"]
        yield f"| {' | '.join(cells)} |"
    if missing := sorted({key.split()[0] for key in runs} - set(results["means"])):
        yield f"\nNot all seeds have been run on {', '.join(missing)}."
    yield ""


def _draw_picture(sets: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "evertune"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(sets), figsize=(9, 2.6), layout="constrained")
    for axis, (name, part) in zip(axes, sets.items(), strict=True):
        loops = list(part["loops"])[::-1]
        values = [part["loops"][loop]["tokens"] for loop in loops]
        bars = axis.barh([NAMES[loop] for loop in loops], values, color=["#2563eb", *["#94a3b8"] * 3])
        axis.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=8)
        axis.set(title=name, xlim=(0, 1.25 * max(values)), xticks=[])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        if axis is not axes[0]:
            axis.set_yticks([])
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    pyplot.close(figure)
