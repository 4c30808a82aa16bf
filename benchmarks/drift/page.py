"""The section of docs/reference/benchmarks.md on drift: false alarms and power, with a picture of both."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "drift.svg"


def section(found: dict[str, Any]) -> Iterator[str]:
    """The section's lines; the picture is drawn beside them."""
    machine = found["machine"]
    _draw(found)
    yield "## False alarms and power of the drift tests\n"
    yield "```console\n$ make bench NAME=drift\n```\n"
    yield "The quickstart's champion looks at windows of the same kind of tickets. Each window and its reference"
    yield "come from"
    yield "corpora of their own seeds. Then some rows are of later weeks, in which customers write about the app."
    yield f"{found['rows']} rows are compared with {found['reference']}, in {found['tries']} windows a share.\n"
    yield (f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
           f"Python {machine['python']}, torch {machine['torch']}.\n")  # fmt: skip
    yield "![False alarms by level, and power by share of changed rows](../pictures/drift.svg)\n"
    yield "| stated rate | false alarms | of | 95% of the binomial |\n|---|---|---|---|"
    for level, (alarms, low, high) in found["alarms"].items():
        yield f"| {level} | **{alarms}** | {found['windows']} | {low} to {high} |"
    yield "\n| share of changed rows | told as drift at 0.05 |\n|---|---|"
    for share, power in found["power"].items():
        yield f"| {float(share):.0%} | **{power:.0%}** |"
    yield ""


def _draw(found: dict[str, Any]) -> None:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "evertune"
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = sorted(found["null"])
    left.plot(values, [(place + 1) / len(values) for place in range(len(values))], color="#2563eb")
    left.plot([0, 1], [0, 1], color="#6b7178", linewidth=0.8)
    left.set(xlabel="stated rate", ylabel="share of null windows told as drift")
    shares = [float(share) for share in found["power"]]
    right.plot([0, *shares], [found["alarms"]["0.05"][0] / found["windows"], *found["power"].values()], marker="o",
               color="#2563eb")  # fmt: skip
    right.axhline(0.8, color="#6b7178", linewidth=0.8)
    right.set(xlabel="share of changed rows", ylabel="told as drift at 0.05", ylim=(0, 1.03))
    PICTURE.parent.mkdir(exist_ok=True)
    FigureCanvasSVG(figure).print_svg(PICTURE, metadata={"Date": None})
