"""The section of docs/reference/benchmarks.md on the speed of training on a GPU."""

from collections.abc import Iterator
from typing import Any

from benchmarks.training import page as training_page

NAMES = {**training_page.NAMES, "e": "(d) with `training.compile`"}


def render_section(results: dict[str, Any]) -> Iterator[str]:
    """The section's lines."""
    machine = results["machine"]
    yield "## How fast a model trains on a GPU\n"
    yield "```console\n$ make bench NAME=gpu\n```\n"
    yield "The loops of `make bench NAME=training` with larger models, made from their configurations with random"
    yield "weights: BERT-base, and a decoder of Llama's shape with a billion weights that learns by LoRA and"
    yield "classifies. (c) takes the best batch size of those tried, (d) as many tokens a step.\n"
    yield "The share is of the bf16 matrix peak (8,192 x 8,192, measured between the loops). Operations are counted"
    yield "for real tokens only, none for the gradients of frozen weights. Memory is what tensors took at once.\n"
    yield (
        f"Machine: {machine['gpu']}, {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, "
        f"torch {machine['torch']}; revision {machine['revision']}.\n"
    )
    yield "| model and data | loop | rows/s | real tokens/s | share of the peak | peak memory, MB | (d) over it |"
    yield "|---" * 7 + "|"
    for name, part in results["cases"].items():
        ours = part["loops"].get("d", {}).get("tokens")
        for loop, speed in part["loops"].items():
            cells = [name, NAMES[loop], f"{speed['rows']:,.1f}", f"{speed['tokens']:,.0f}"]
            cells += [f"{speed['share of bf16 peak']:.1%}", f"{speed['peak memory, MB']:,.0f}"]
            yield f"| {' | '.join(cells)} | {'' if ours is None else format(ours / speed['tokens'], '.2f')} |"
    yield (
        "\nBatch sizes tried for (c), real tokens/s: "
        + "; ".join(
            f"{name}: " + ", ".join(f"{size} rows {value:,.0f}" for size, value in part["search"].items())
            for name, part in results["cases"].items()
        )
        + ". Matrix peak, TFLOP/s: "
        + ", ".join(f"{name} {part['peak'] / 1e12:,.0f}" for name, part in results["cases"].items())
        + ".\n"
    )
