"""The report of a run: what was decided, on what evidence, and what changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evertune.report.formatting import format_count, format_interval, format_number, format_pvalue
from evertune.report.sections.classes import Classes, build_classes, build_confusions
from evertune.report.sections.evidence import build_evidence, build_robustness
from evertune.report.sections.metrics import (
    Baseline,
    Slices,
    build_baseline,
    build_metrics,
    build_row_sets,
    build_slices,
    describe_word_baseline,
)
from evertune.report.sections.readiness import Readiness, build_readiness
from evertune.report.sections.rows import Changed, Gallery, build_changed, build_gallery, build_samples
from evertune.report.sections.run import (
    Cost,
    Data,
    Lineage,
    Training,
    build_cost,
    build_data,
    build_lineage,
    build_resources,
    build_training,
)
from evertune.report.templating import write_page
from evertune.report.view import Head, Picture, Table, Tile, embed_picture

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunPage:
    """Every section of the page; a section without content is left out."""

    evidence: Table
    metrics: Table
    row_sets: Table
    baseline: Baseline | None
    word_baseline: str | None
    slices: Slices
    robustness: Table
    classes: Classes
    per_class: Picture | None
    changed: Changed
    samples: Table
    gallery: Gallery | None
    confusion: Picture | None
    confusions: Table
    calibration: Picture | None
    training: Training
    loss_curve: Picture | None
    data: Data
    lineage: Lineage
    cost: Cost
    resources: Table
    readiness: Readiness | None


def write_run_page(
    path: Path, outcome: Json, details: Json, history: list[Json], pictures: Mapping[str, Path], origin: Json
) -> Path:
    """Write the report as one self-contained HTML file.

    Args:
        outcome: a plain `Outcome`; details: what `evaluate` wrote; history: metrics by step.
        pictures: PNGs by name, as `draw_pictures` draws them.
        origin: as `describe_origin` returns it; with `drift`, what was found in the new rows, `zero_shot`, what the
            base model reaches, `word_baseline`, what a simple model reaches, `resources`, what both models take, and
            `readiness`, the tests of the ML Test Score.
    Raises:
        OSError: a picture cannot be read, or the page cannot be written.
    """
    page = _build_page(outcome, details, history, pictures, origin)
    return write_page(path, "run.html.j2", _build_head(outcome, details), page)


def _build_head(outcome: Json, details: Json) -> Head:
    version = "" if outcome.get("version") is None else f" version {outcome['version']}"
    name = outcome["model"] + version
    return Head(
        title=f"{name}: {outcome['decision']}",
        colour=outcome["decision"],
        subject=name,
        headline=outcome["decision"].capitalize(),
        sentence=outcome["reason"],
        tiles=_build_tiles(outcome, details),
        run_id=outcome.get("run_id"),
    )


def _build_page(
    outcome: Json, details: Json, history: list[Json], pictures: Mapping[str, Path], origin: Json
) -> RunPage:
    return RunPage(
        evidence=build_evidence(outcome),
        metrics=build_metrics(details),
        row_sets=build_row_sets(details),
        baseline=build_baseline(origin.get("zero_shot")),
        word_baseline=describe_word_baseline(origin.get("word_baseline")),
        slices=build_slices(details),
        robustness=build_robustness(details),
        classes=build_classes(details),
        per_class=embed_picture(pictures, "per_class"),
        changed=build_changed(details),
        samples=build_samples(details),
        gallery=build_gallery(details),
        confusion=embed_picture(pictures, "confusion"),
        confusions=build_confusions(details),
        calibration=embed_picture(pictures, "calibration"),
        training=build_training(outcome, history),
        loss_curve=embed_picture(pictures, "loss_curve"),
        data=build_data(outcome, details, origin),
        lineage=build_lineage(outcome, origin),
        cost=build_cost(outcome, origin),
        resources=build_resources(origin.get("resources")),
        readiness=build_readiness(origin.get("readiness")),
    )


def _build_tiles(outcome: Json, details: Json) -> list[Tile]:
    tiles = [*_score_tiles(details), *_evidence_tiles(outcome)]
    counts = outcome["rows"]
    accepted, refused = (format_count(counts.get(name)) or "\N{EN DASH}" for name in ("accepted", "refused"))
    tiles.append(Tile("rows ingested", format_count(counts.get("new")), f"{accepted} accepted, {refused} refused"))
    if sizes := details.get("rows"):
        leaked = f"{details['leaked']:,} leaked" if details.get("leaked") else "none leaked"
        tiles.append(Tile("test rows", format_count(sizes.get("test")), leaked))
    return tiles


def _evidence_tiles(outcome: Json) -> list[Tile]:
    """Return how much better the challenger is, how sure that is, and what could be lost; none without a champion."""
    checks = {(check["test"], check.get("on")): check for check in outcome.get("evidence") or ()}
    gain = checks.get(("expected", None)) or checks.get(("proof", None))
    metric = checks.get(("harm", "all"))
    if gain is None or gain.get("p") is None or metric is None:
        return []
    could_lose = max(0.0, -metric["low"]) if metric.get("low") is not None else None
    return [
        Tile("better by", format_number(metric["estimate"], signed=True), f"{metric['metric']}, all test rows"),
        Tile("how sure", f"p {format_pvalue(gain['p'])}", f"promoted at {format_pvalue(gain['threshold'])} or less"),
        Tile("could be lost", format_number(could_lose), f"{metric['metric']}, lower bound"),
    ]


def _score_tiles(details: Json) -> list[Tile]:
    metric = details.get("metric")
    tiles = []
    for model in ("challenger", "champion"):
        if scores := details.get(model):
            _, low, high = scores.get("intervals", {}).get(metric) or (None, None, None)
            value = format_number(scores["metrics"].get("test", {}).get(metric))
            tiles.append(Tile(f"{model}, {metric}", value, format_interval(low, high)))
    return tiles
