"""The run's report: one HTML page that says what was decided, on what evidence, and what changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evertune.report.html import Html, count, join, number, span, text, tiles
from evertune.report.sections import models, run
from evertune.report.sections.gallery import gallery
from evertune.report.style import STYLE
from evertune.runtime.files import write_atomic

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing is fetched, nothing runs
Json = dict[str, Any]
Pictures = Mapping[str, Path]


def page(path: Path, outcome: Json, details: Json, history: list[Json], pictures: Pictures, origin: Json) -> Path:
    """Write the report as one self-contained HTML file: no script, no network, every value escaped.

    Args:
        outcome: `plain(Outcome)`; details: what `evaluate` wrote; history: metrics by step.
        pictures: PNGs by name, as `pictures` draws them; they are inlined.
        origin: as `origins.told`; `drift` in it is what was found of the new rows, `zero_shot` what the base model
            reaches.
    Raises:
        OSError: a picture cannot be read, or the page cannot be written.
    """
    title = f"{outcome['model']}{_version(outcome)}: {outcome['decision']}"
    hero = Html(f"{_hero(outcome)}{_tiles(outcome, details)}")
    return write(path, title, hero, _sections(outcome, details, history, pictures, origin), _run(outcome))


def write(path: Path, title: str, hero: Html, sections: Mapping[str, Html], of: str) -> Path:
    """Write a page of sections; those that are empty are left out.

    Args:
        of: what the last line says that the page belongs to, markup.
    Raises:
        OSError: the page cannot be written.
    """
    sections = {name: part for name, part in sections.items() if part}
    links = "".join(f'<a href="#{_anchor(name)}">{name}</a>' for name in sections)
    blocks = "".join(
        f'<section id="{_anchor(name)}"><h2>{name}</h2>{part}</section>' for name, part in sections.items()
    )
    write_atomic(path, (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><main>{hero}<nav>{links}</nav>{blocks}</main>"
        f"<footer>Written by Evertune{of}.</footer></body></html>\n"
    ))  # fmt: skip
    return path


def _sections(outcome: Json, details: Json, history: list[Json], pictures: Pictures, origin: Json) -> dict[str, Html]:
    """Every section by its heading, in the page's order; some may be empty."""
    return {
        "Evidence": models.evidence(outcome),
        "Metrics": join(models.metrics(details), models.untrained(origin.get("zero_shot"))),
        "Slices": models.slices(details),
        "Robustness": models.robustness(details),
        "Classes": models.classes(details, pictures),
        "Changed rows": models.changed(details),
        "Samples": models.samples(details),
        "Pictures": gallery(details),
        "Confusion": models.confusion(details, pictures),
        "Calibration": models.calibration(pictures),
        "Training": run.training(outcome, history, pictures),
        "Data": run.data(outcome, details, origin),
        "Lineage": run.lineage(outcome, origin),
        "Cost": run.cost(outcome, origin),
    }


def _hero(outcome: Json) -> Html:
    decision = text(outcome["decision"])
    return Html(
        f'<header class="hero {decision}"><p class="where">{text(outcome["model"] + _version(outcome))}</p>'
        f"<h1><b>{decision.capitalize()}</b>: {text(outcome['reason'])}</h1></header>"
    )


def _tiles(outcome: Json, details: Json) -> Html:
    """The few numbers that a reader looks for first."""
    found = [*_scores(details), ("rows taken in", count(outcome["rows"].get("new")), _refused(outcome))]
    if rows := details.get("rows"):
        leaked = f"{count(details.get('leaked'))} of them leaked"
        found.append(("test rows", count(rows.get("test")), leaked if details.get("leaked") else "none of them leaked"))
    return tiles(found)


def _scores(details: Json) -> list[tuple[str, Html, str]]:
    metric = details.get("metric")
    tiles: list[tuple[str, Html, str]] = []
    for model in ("challenger", "champion"):
        if judged := details.get(model):
            _, low, high = judged.get("intervals", {}).get(metric) or (None, None, None)
            value = number(judged["metrics"].get("test", {}).get(metric))
            tiles.append((f"{model}, {metric}", value, span(low, high)))
    return tiles


def _refused(outcome: Json) -> str:
    return f"{count(outcome['rows'].get('accepted'))} accepted, {count(outcome['rows'].get('refused'))} refused"


def _version(outcome: Json) -> str:
    return "" if outcome.get("version") is None else f" version {outcome['version']}"


def _run(outcome: Json) -> str:
    return f" for run {text(outcome['run_id'])}" if outcome.get("run_id") else ""


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
