"""The model card, in Hugging Face's format: what a reader must know before using the model, without a text of a row."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.objectives import load_objective
from evertune.records import dump_settings
from evertune.report.formatting import is_number
from evertune.runtime.files import write_atomic

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from evertune.config import Recipe

Json = dict[str, Any]
EXAMPLES = {  # of an input, by its kind
    "string": '"some text"',
    "strings": '["some", "words"]',
    "image": 'base64.b64encode(open("a.png", "rb").read())',
}
LISTED = 100  # labels, or slices, that are named
ROWS = {
    "test": "all test rows",
    "test_clean": "test rows without leaks",
    "fresh": "fresh test rows",
    "history": "test rows that the champion knew of",
    "new_labels": "labels that the champion does not know",
}
HELD = "It is not in use: evidence for it is missing. `evertune history {file}` tells what became of it."
STANDS = {
    "promoted": "It became the champion by this decision. `evertune history {file}` tells whether it still is.",
    "waiting": "It waits for a person: `evertune approve {file} --version {version}` gives it the place.",
    "held": HELD,
    "rejected": "It is not in use: there is evidence of harm.",
    "unchanged": HELD,
}


def write_card(path: Path, recipe: "Recipe", outcome: Json, details: Json, origin: Json) -> Path:
    """Write the card of a run's model.

    Args:
        outcome: `plain(Outcome)`; details: what `evaluate` wrote; origin: as `origins.told`.
    Raises:
        OSError: the folder cannot be written.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = origin["base_model"]
    data = ModelCardData(
        model_name=outcome["model"],
        pipeline_tag=recipe.objective.type,
        tags=["evertune"],
        language=base["languages"] or None,
        base_model=base["name"] if base["hub"] else None,
        metrics=list(_known_metrics(details)) or None,
        eval_results=list(_eval_results(recipe, outcome, details)) or None,
    )
    text = "\n\n".join(f"## {title}\n\n{part}" for title, part in _render_sections(recipe, outcome, details, origin))
    model_card = ModelCard(
        f"---\n{data.to_yaml()}\n---\n\n# {_card_title(outcome)}\n\n{_render_intro(recipe, outcome)}\n\n{text}\n"
    )
    write_atomic(path, str(model_card))
    return path


def _render_sections(recipe: "Recipe", outcome: Json, details: Json, origin: Json) -> Iterator[tuple[str, str]]:
    yield "How it got here", _render_decision(recipe, outcome)
    yield "Use", _render_usage(recipe, outcome)
    yield "Base model", _render_base(origin)
    yield "Data", _render_data(outcome, origin)
    yield "Metrics", _render_metrics(details)
    if details.get("slices"):
        yield "Slices", _render_slices(details)
    yield "Limits", _render_limits(recipe, origin)
    yield "Lineage", _render_lineage(outcome, origin)


def _card_title(outcome: Json) -> str:
    version = "" if outcome["version"] is None else f" version {outcome['version']}"
    return f"{outcome['model']}{version}"


def _render_intro(recipe: "Recipe", outcome: Json) -> str:
    return (
        f"A {recipe.objective.type} model, fine-tuned ({recipe.training.method}) and judged by Evertune from the "
        f"recipe `{recipe.file}`. This card tells how things stood at the end of the run `{outcome['run_id']}`."
    )


def _render_decision(recipe: "Recipe", outcome: Json) -> str:
    word = "waiting" if outcome["waiting"] else outcome["decision"]
    heads = ("Test", "On", "Passed", "Rows", "Difference or interval", "p")
    rows = [
        [
            check["test"],
            check.get("on"),
            {True: "yes", False: "no"}.get(check.get("passed")),
            check.get("rows"),
            _format_estimate(check),
            check.get("p"),
        ]
        for check in outcome["evidence"]
    ]
    stands = STANDS[word].format(file=recipe.file, version=outcome["version"])
    return "\n\n".join([f"**{word}**: {_plain_text(outcome['reason'])}", stands, *_markdown_table(heads, rows)])


def _format_estimate(check: Json) -> str:
    interval = _format_interval((None, check.get("low"), check.get("high")))
    return f"{_plain_text(check['estimate'])} ({interval})" if is_number(check.get("estimate")) else interval


def _render_usage(recipe: "Recipe", outcome: Json) -> str:
    objective = load_objective(recipe.objective.type)
    example = ", ".join(f'"{role}": [{EXAMPLES[objective.COLUMNS[role]]}]' for role in objective.INPUTS)
    model_uri = (
        f"models:/{outcome['model']}/{outcome['version']}" if outcome["version"] else f"runs:/{outcome['run_id']}/model"
    )
    return (
        "The champion over a file:\n\n"
        f"```sh\nevertune score {recipe.file} --input rows.csv --output scores.csv\n```\n\n"
        "This version, wherever MLflow's store can be reached (Evertune need not be installed):\n\n"
        f'```python\nimport mlflow\nimport pandas as pd\n\nmodel = mlflow.pyfunc.load_model("{model_uri}")\n'
        f"model.predict(pd.DataFrame({{{example}}}))\n```"
    )


def _render_base(origin: Json) -> str:
    base = origin["base_model"]
    spoken = ", ".join(map(_plain_text, base["languages"])) or "not stated"
    return (
        f"`{_plain_text(base['name'])}`. Its own card states: licence "
        f"{_plain_text(base['license'] or 'not stated')}, languages "
        f"{spoken}. Under which licence this model may be used is for its owners to say."
    )


def _render_data(outcome: Json, origin: Json) -> str:
    dates = origin["dates"]
    splits = [
        [name, size, *dates.get(name, [None, None])] for name, size in (outcome["snapshot"].get("rows") or {}).items()
    ]
    sources = [[source["source"], source["rows"], *(source["days"] or [None, None])] for source in origin["sources"]]
    older = origin["others"]
    row_counts = outcome["rows"]
    refusals = outcome["rows"].get("reasons") or {}
    refused = ", ".join(f"{_plain_text(reason)} ({times:,})" for reason, times in refusals.items() if times)
    parts = [
        *_markdown_table(("Split", "Rows", "From", "To"), splits),
        *_markdown_table(("Source", "Rows", "From", "To"), sources),
        *([f"{older['rows']:,} more rows are from {older['sources']:,} older sources."] if older["sources"] else []),
        f"Since the last decision {row_counts['new']:,} rows came, {row_counts['accepted']:,} were accepted and "
        f"{row_counts['refused']:,} refused{f': {refused}' if refused else ''}.",
    ]
    return "\n\n".join(parts)


def _render_metrics(details: Json) -> str:
    challenger = details.get("challenger") or {}
    champion = details.get("champion") or {}
    rows = [
        [
            name,
            value,
            _format_interval(challenger.get("intervals", {}).get(name)),
            champion.get("metrics", {}).get("test", {}).get(name),
        ]
        for name, value in _known_metrics(details).items()
    ]
    chief = details.get("metric")
    row_sets = [
        [ROWS[name], details.get("rows", {}).get(name), scores.get(chief)]
        for name, scores in (challenger.get("metrics") or {}).items()
        if name in ROWS
    ]
    intro = "On the test rows, with the interval at the gate's confidence; the champion is the version in use before."
    heads = ("Metric", "This model", "Interval", "Champion")
    return "\n\n".join([intro, *_markdown_table(heads, rows), *_markdown_table(("On", "Rows", str(chief)), row_sets)])


def _render_slices(details: Json) -> str:
    slices = sorted(details["slices"].items(), key=lambda item: _known_or(item[1]["challenger"], 2.0))
    rows = [
        [
            name,
            entry["rows"],
            entry["challenger"],
            _format_interval(entry.get("intervals", {}).get("challenger")),
            entry["champion"],
        ]
        for name, entry in slices[:LISTED]
    ]
    intro = f"{details.get('slice_metric') or details['metric']} on parts of the test rows, the lowest first."
    return "\n\n".join([intro, *_markdown_table(("Slice", "Rows", "This model", "Interval", "Champion"), rows)])


def _render_limits(recipe: "Recipe", origin: Json) -> str:
    import yaml

    rules = dump_settings(recipe.contract)
    level = recipe.monitor.level
    contract = (
        f":\n\n```yaml\n{yaml.safe_dump(rules, allow_unicode=True).strip()}\n```" if rules else "; it has the defaults."
    )
    return (
        f"{_render_labels(origin['labels'])}"
        "Nothing is known of rows outside of the recipe's contract, which were neither trained nor tested on"
        f"{contract}\n\n"
        f"Drift: `evertune monitor {recipe.file}` compares rows that come with the test rows. A check with no change "
        f"tells of one with probability {level:.2g}; with fewer than {recipe.monitor.min_rows} rows it says nothing."
    )


def _render_labels(labels: Sequence[str]) -> str:
    """Which labels the model chooses among; nothing where it chooses none."""
    if not labels:
        return ""
    named = ", ".join(f"`{_plain_text(label)}`" for label in labels[:LISTED])
    more = f" and {len(labels) - LISTED:,} more" if len(labels) > LISTED else ""
    return f"It knows {len(labels):,} labels and never says another, whatever it is shown: {named}{more}.\n\n"


def _render_lineage(outcome: Json, origin: Json) -> str:
    snapshot = outcome["snapshot"]
    facts = {
        "Snapshot": f"{snapshot['version']}, `{snapshot['fingerprint']}`",
        "Recipe": f"`{origin['recipe_fingerprint']}`",
        "Code": f"`{origin['code']}`",
        "MLflow run": f"`{outcome['run_id']}`",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _known_metrics(details: Json) -> dict[str, float]:
    values = (details.get("challenger") or {}).get("metrics", {}).get("test", {})
    return {name: value for name, value in values.items() if is_number(value)}


def _eval_results(recipe: "Recipe", outcome: Json, details: Json) -> "Iterator[EvalResult]":
    from huggingface_hub import EvalResult

    for name, value in _known_metrics(details).items():
        yield EvalResult(
            task_type=recipe.objective.type,
            dataset_type=recipe.name,
            dataset_name=f"{recipe.name} corpus",
            dataset_split="test",
            dataset_revision=outcome["snapshot"]["fingerprint"],
            metric_type=name,
            metric_value=value,
        )


def _format_interval(interval: Sequence[float | None] | None) -> str:
    _, low, high = interval or (None, None, None)
    if low == high:  # unknown, or all rows are alike, of which resamples tell nothing
        return ""
    if low is None or high is None:
        return (
            f"at least {_plain_text(low)}"
            if low is not None
            else f"at most {_plain_text(high)}"
            if high is not None
            else ""
        )
    return f"{_plain_text(low)} to {_plain_text(high)}"


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table as one part; none where there are no rows."""
    lines = [heads, ["---"] * len(heads), *([_plain_text(cell) for cell in row] for row in rows)]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)] if rows else []


def _plain_text(value: Any) -> str:
    """A value that neither breaks a table nor becomes markup."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if is_number(value) else ""
    if isinstance(value, int):
        return f"{value:,}"
    return " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def _known_or(value: float | None, default: float) -> float:
    return value if is_number(value) else default
