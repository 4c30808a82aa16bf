"""The run's report: one HTML page that says what was decided, on what evidence, and what changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evertune.report.html import Html, build_tiles, escape, format_count, format_interval, format_number, join_parts
from evertune.report.sections import models, run
from evertune.report.sections.gallery import render_gallery
from evertune.report.style import STYLE
from evertune.runtime.files import write_atomic

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing is fetched, nothing runs
Json = dict[str, Any]
Pictures = Mapping[str, Path]


def write_run_page(
    path: Path, outcome: Json, details: Json, history: list[Json], pictures: Pictures, origin: Json
) -> Path:
    """Write the report as one self-contained HTML file: no script, no network, every value escaped.

    Args:
        outcome: `plain(Outcome)`; details: what `evaluate` wrote; history: metrics by step.
        pictures: PNGs by name, as `pictures` draws them; they are inlined.
        origin: as `origins.told`; `drift` in it is what was found of the new rows, `zero_shot` what the base model
            reaches.
    Raises:
        OSError: a picture cannot be read, or the page cannot be written.
    """
    title = f"{outcome['model']}{_version_suffix(outcome)}: {outcome['decision']}"
    hero = Html(f"{_render_hero(outcome)}{_render_tiles(outcome, details)}")
    return write_page(
        path, title, hero, _render_sections(outcome, details, history, pictures, origin), _run_suffix(outcome)
    )


def write_page(path: Path, title: str, hero: Html, sections: Mapping[str, Html], origin_note: str) -> Path:
    """Write a page of sections; those that are empty are left out.

    Args:
        of: what the last line says that the page belongs to, markup.
    Raises:
        OSError: the page cannot be written.
    """
    sections = {name: part for name, part in sections.items() if part}
    links = "".join(f'<a href="#{_make_anchor(name)}">{name}</a>' for name in sections)
    blocks = "".join(
        f'<section id="{_make_anchor(name)}"><h2>{name}</h2>{part}</section>' for name, part in sections.items()
    )
    write_atomic(
        path,
        (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f"<body><main>{hero}<nav>{links}</nav>{blocks}</main>"
            f"<footer>Written by Evertune{origin_note}.</footer></body></html>\n"
        ),
    )
    return path


def _render_sections(
    outcome: Json, details: Json, history: list[Json], pictures: Pictures, origin: Json
) -> dict[str, Html]:
    """Every section by its heading, in the page's order; some may be empty."""
    return {
        "Evidence": models.render_evidence(outcome),
        "Metrics": join_parts(models.render_metrics(details), models.render_zero_shot(origin.get("zero_shot"))),
        "Slices": models.render_slices(details),
        "Robustness": models.render_robustness(details),
        "Classes": models.render_classes(details, pictures),
        "Changed rows": models.render_changed(details),
        "Samples": models.render_samples(details),
        "Pictures": render_gallery(details),
        "Confusion": models.render_confusion(details, pictures),
        "Calibration": models.render_calibration(pictures),
        "Training": run.render_training(outcome, history, pictures),
        "Data": run.render_data(outcome, details, origin),
        "Lineage": run.render_lineage(outcome, origin),
        "Cost": run.render_cost(outcome, origin),
    }


def _render_hero(outcome: Json) -> Html:
    decision = escape(outcome["decision"])
    return Html(
        f'<header class="hero {decision}"><p class="where">{escape(outcome["model"] + _version_suffix(outcome))}</p>'
        f"<h1><b>{decision.capitalize()}</b>: {escape(outcome['reason'])}</h1></header>"
    )


def _render_tiles(outcome: Json, details: Json) -> Html:
    """The few numbers that a reader looks for first."""
    items = [
        *_score_tiles(details),
        ("rows taken in", format_count(outcome["rows"].get("new")), _describe_refused(outcome)),
    ]
    if rows := details.get("rows"):
        leaked = f"{format_count(details.get('leaked'))} of them leaked"
        items.append(
            ("test rows", format_count(rows.get("test")), leaked if details.get("leaked") else "none of them leaked")
        )
    return build_tiles(items)


def _score_tiles(details: Json) -> list[tuple[str, Html, str]]:
    metric = details.get("metric")
    items: list[tuple[str, Html, str]] = []
    for model in ("challenger", "champion"):
        if scores := details.get(model):
            _, low, high = scores.get("intervals", {}).get(metric) or (None, None, None)
            value = format_number(scores["metrics"].get("test", {}).get(metric))
            items.append((f"{model}, {metric}", value, format_interval(low, high)))
    return items


def _describe_refused(outcome: Json) -> str:
    return (
        f"{format_count(outcome['rows'].get('accepted'))} accepted, "
        f"{format_count(outcome['rows'].get('refused'))} refused"
    )


def _version_suffix(outcome: Json) -> str:
    return "" if outcome.get("version") is None else f" version {outcome['version']}"


def _run_suffix(outcome: Json) -> str:
    return f" for run {escape(outcome['run_id'])}" if outcome.get("run_id") else ""


def _make_anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
