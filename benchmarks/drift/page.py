"""The section of docs/reference/benchmarks.md on drift: false alarms and power, with a picture of both."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "drift.svg"


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines; the picture is drawn beside them."""
    machine = results["machine"]
    _draw_picture(results)
    yield "## False alarms and power of the drift tests\n"
    yield "```console\n$ make bench NAME=drift\n```\n"
    yield "The quickstart's champion looks at windows of the same kind of tickets. Each window and its reference"
    yield "come from corpora of their own seeds. Then some rows are of later weeks, in which customers write about"
    yield f"the app. {results['rows']} rows are compared with {results['reference']}, in {results['tries']} windows"
    yield "a share.\n"
    yield (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}.\n"
    )
    yield "![False alarms by level, and power by share of changed rows](../pictures/drift.svg)\n"
    yield "| stated rate | false alarms | of | 95% of the binomial |\n|---|---|---|---|"
    for level, (alarms, low, high) in results["alarms"].items():
        yield f"| {level} | **{alarms}** | {results['windows']} | {low} to {high} |"
    yield "\n| share of changed rows | told as drift at 0.05 |\n|---|---|"
    for share, power in results["power"].items():
        yield f"| {float(share):.0%} | **{power:.0%}** |"
    yield ""


def _draw_picture(results: dict[str, Any]) -> None:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "evertune"
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    alarm_axes, power_axes = figure.subplots(1, 2)
    values = sorted(results["null"])
    alarm_axes.plot(values, [(index + 1) / len(values) for index in range(len(values))], color="#2563eb")
    alarm_axes.plot([0, 1], [0, 1], color="#6b7178", linewidth=0.8)
    alarm_axes.set(xlabel="stated rate", ylabel="share of null windows told as drift")
    shares = [float(share) for share in results["power"]]
    power_axes.plot(
        [0, *shares],
        [results["alarms"]["0.05"][0] / results["windows"], *results["power"].values()],
        marker="o",
        color="#2563eb",
    )
    power_axes.axhline(0.8, color="#6b7178", linewidth=0.8)
    power_axes.set(xlabel="share of changed rows", ylabel="told as drift at 0.05", ylim=(0, 1.03))
    PICTURE.parent.mkdir(exist_ok=True)
    FigureCanvasSVG(figure).print_svg(PICTURE, metadata={"Date": None})
