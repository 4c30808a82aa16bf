"""Writes docs/reference/benchmarks.md from the results, so that no number in it is typed by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.distributed import page as processes_page
from benchmarks.drift import page as drift_page
from benchmarks.gpu import page as gpu_page
from benchmarks.growth import page as growth_page
from benchmarks.ingest import page as ingest_page
from benchmarks.overhead import page as overhead_page
from benchmarks.policies import page as policies_page
from benchmarks.scoring import page as scoring_page
from benchmarks.training import page as training_page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "benchmarks.md"
RULE = "|---"
QUALITY = ("banking77", "conll2003", "imdb")
REACH = {
    ("configs/ner_conll2003.yaml", "token_f1_weighted"): 0.972,
    ("configs/ner_conll2003.yaml", "entity_f1"): 0.870,
    ("configs/support_banking77.yaml", "accuracy"): 0.92,
    ("configs/sentiment_imdb.yaml", "accuracy"): 0.87,
    ("configs/sentiment_imdb.yaml", "f1_macro"): 0.87,
}
ANSWERS = {"evertune --help": 0.5, "evertune check": 5.0, "evertune run, nothing new": 3.0}

SECTIONS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "training": training_page.render_section,
    "gpu": gpu_page.render_section,
    "learning": training_page.render_learning,
    "overhead": overhead_page.render_section,
    "deployment": overhead_page.render_deployment,
    "scoring": scoring_page.render_section,
    "ingest": ingest_page.render_section,
    "processes": processes_page.render_section,
    "drift": drift_page.render_section,
    "policies": policies_page.render_section,
    "growth": growth_page.render_section,
}


def write_report(results: dict[str, Any]) -> None:
    """Write the page."""
    PAGE.write_text("\n".join(render_lines(results)) + "\n", encoding="utf-8")


def render_lines(results: dict[str, Any]) -> Iterator[str]:
    """The page's lines."""
    yield "# Benchmarks\n"
    yield "Every number on this page was measured. Repeat one measurement, or all of them:\n"
    yield "```console\n$ make bench NAME=training\n$ make bench\n```\n"
    yield "`make bench` writes this page, and `benchmarks/results.json`, which holds each run with its seed and"
    yield "seconds. Seconds come from a shared machine with two cores: compare ratios, not single seconds. *To"
    yield "reach* is the value that was aimed for.\n"
    if quality_results := [results[name] for name in QUALITY if name in results]:
        yield from _render_quality(quality_results)
    if "answers" in results:
        yield from _render_answers(results["answers"])
    if "quickstart" in results:
        yield from _render_quickstart(results["quickstart"])
    for name, section in SECTIONS.items():
        if name in results:
            yield from section(results[name])


def _machine_line(machine: dict[str, Any]) -> str:
    return (
        f"Machine: {machine['cores']} cores of {machine['cpu']} ({machine['capability']}), "
        f"Python {machine['python']}, torch {machine['torch']}.\n"
    )


def _render_quality(results: list[dict[str, Any]]) -> Iterator[str]:
    yield "## What the recipes reach on public data\n"
    yield "```console\n$ make bench NAME=conll2003        # or banking77, imdb\n```\n"
    yield "`evertune run RECIPE --set training.seed=N --force` for each seed, on the whole official test split."
    yield "*Clean* leaves out test rows in or near train rows."
    yield "\n" + _machine_line(results[0]["machine"])
    yield "| recipe | seeds | metric | official split, mean | by seed | to reach | clean, mean |"
    yield RULE * 7 + "|"
    for part in results:
        for metric, value in part["mean"]["test"].items():
            by_seed = ", ".join(f"{run['test'][metric]:.4f}" for run in part["runs"])
            cells = [f"`{part['recipe']}`", len(part["runs"]), f"`{metric}`", f"**{value:.4f}**", by_seed]
            cells += [REACH.get((part["recipe"], metric), ""), f"{part['mean']['test_clean'][metric]:.4f}"]
            yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    yield "| recipe | train tokens, all epochs | epochs | training seconds by seed | whole flow | code |"
    yield RULE * 6 + "|"
    for part in results:
        runs = part["runs"]
        training = part["runs"][0]["training"]
        seconds = ", ".join(format(run["training"]["seconds"], ".0f") for run in runs)
        walls = ", ".join(format(run["wall"], ".0f") for run in runs)
        tokens = training["tokens"]["train"] * training["epochs"]
        code = part["machine"].get("revision", "")[:7]
        yield f"| `{part['recipe']}` | {tokens:,.0f} | {training['epochs']:.1f} | {seconds} | {walls} | {code} |"
    yield ""


def _render_answers(results: dict[str, Any]) -> Iterator[str]:
    yield "## How soon the commands answer\n"
    yield "```console\n$ make bench NAME=answers\n```\n"
    yield "Median of 5 whole processes.\n"
    yield _machine_line(results["machine"])
    yield "| command | seconds | to reach |\n|---|---|---|"
    for name, limit in ANSWERS.items():
        yield f"| `{name}` | {results[name]:.2f} | under {limit} |"
    yield ""


def _render_quickstart(results: dict[str, Any]) -> Iterator[str]:
    yield "## The quickstart, by step\n"
    yield "```console\n$ make bench NAME=quickstart\n```\n"
    yield "The first run, then the second act (`weeks=9`), in a new home. Seconds.\n"
    yield _machine_line(results["machine"])
    steps = list(results["first run"]["seconds"])
    yield f"| run | {' | '.join(steps)} | whole | besides training and evaluation |\n{RULE * (len(steps) + 3)}|"
    for name in ("first run", "second act"):
        part = results[name]
        cells = [f"{name}: {part['decision']}", *(f"{part['seconds'][step]:.1f}" for step in steps)]
        cells += [f"{part['wall']:.0f}", f"{part['besides training and evaluation']:.1f}"]
        yield f"| {' | '.join(cells)} |"
    yield ""
