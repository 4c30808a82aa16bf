"""The model card, in Hugging Face's format: what to know before using the model. It holds no text of a row."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.objectives import load_objective
from evertune.records import dump_settings
from evertune.report.formatting import is_number, known_or
from evertune.report.templating import load_markdown_environment
from evertune.runtime.files import write_atomic

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

    from evertune.config import Recipe

Json = dict[str, Any]
Cell = str | float | None
EXAMPLES = {  # of an input, by its kind
    "string": '"some text"',
    "strings": '["some", "words"]',
    "image": 'base64.b64encode(open("a.png", "rb").read())',
}
PASSED = {True: "yes", False: "no", None: None}
LISTED = 100  # labels, or slices, that are named
ROW_SETS = {
    "test": "all test rows",
    "test_clean": "test rows without leaks",
    "fresh": "fresh test rows",
    "history": "older test rows",
    "new_labels": "labels new to the champion",
}


@dataclass(frozen=True, slots=True)
class MarkdownTable:
    """A table, which the card leaves out where it has no rows."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class ModelCardView:
    """What the card says, section by section.

    Args:
        decision: `promoted`, `held`, `rejected`, `unchanged`, or `waiting` where a person is asked.
        example: arguments of a data frame with one row.
        reasons: why rows were refused, and how many for each reason.
        labels: at most `LISTED` of them.
        contract: as YAML; empty where it has the defaults.
    """

    title: str
    task: str
    method: str
    recipe: str
    run_id: str

    decision: str
    reason: str
    version: int | None
    evidence: MarkdownTable

    model_uri: str
    example: str

    base_model: str
    base_license: str
    base_languages: str

    splits: MarkdownTable
    sources: MarkdownTable
    older_sources: int
    older_rows: int
    new_rows: int
    accepted_rows: int
    refused_rows: int
    reasons: str

    metrics: MarkdownTable
    row_sets: MarkdownTable
    slices: MarkdownTable | None
    slice_metric: str | None

    labels: Sequence[str]
    label_count: int
    contract: str
    false_alarm_rate: str
    min_rows: int

    snapshot_version: int
    snapshot_fingerprint: str
    recipe_fingerprint: str
    code: str


def write_card(path: Path, recipe: "Recipe", outcome: Json, details: Json, origin: Json) -> Path:
    """Write the card of a run's model.

    Args:
        outcome: a plain `Outcome`; details: what `evaluate` wrote; origin: as `describe_origin` returns it.
    Raises:
        OSError: the folder cannot be written.
    """
    from huggingface_hub import ModelCard

    metadata = _build_metadata(recipe, outcome, details, origin).to_yaml()
    template = load_markdown_environment().get_template("model_card.md.j2")
    text = template.render(view=_build_view(recipe, outcome, details, origin))
    text = re.sub(r"\n{3,}", "\n\n", text)  # a table that is left out leaves blank lines
    write_atomic(path, str(ModelCard(f"---\n{metadata}\n---\n\n{text}")))
    return path


def _build_metadata(recipe: "Recipe", outcome: Json, details: Json, origin: Json) -> "ModelCardData":
    from huggingface_hub import ModelCardData

    base = origin["base_model"]
    return ModelCardData(
        model_name=outcome["model"],
        pipeline_tag=recipe.objective.type,
        tags=["evertune"],
        language=base["languages"] or None,
        base_model=base["name"] if base["hub"] else None,
        metrics=list(_known_metrics(details)) or None,
        eval_results=list(_eval_results(recipe, outcome, details)) or None,
    )


def _build_view(recipe: "Recipe", outcome: Json, details: Json, origin: Json) -> ModelCardView:
    base = origin["base_model"]
    older = origin["others"]
    counts = outcome["rows"]
    snapshot = outcome["snapshot"]
    version = outcome["version"]
    return ModelCardView(
        title=outcome["model"] if version is None else f"{outcome['model']} version {version}",
        task=recipe.objective.type,
        method=str(recipe.training.method),
        recipe=recipe.file,
        run_id=outcome["run_id"],
        decision="waiting" if outcome["waiting"] else outcome["decision"],
        reason=outcome["reason"],
        version=version,
        evidence=_evidence_table(outcome["evidence"]),
        model_uri=f"models:/{outcome['model']}/{version}" if version else f"runs:/{outcome['run_id']}/model",
        example=_example_row(recipe),
        base_model=base["name"],
        base_license=base["license"] or "not stated",
        base_languages=", ".join(base["languages"]) or "not stated",
        splits=_split_table(snapshot.get("rows") or {}, origin["dates"]),
        sources=_source_table(origin["sources"]),
        older_sources=older["sources"],
        older_rows=older["rows"],
        new_rows=counts["new"],
        accepted_rows=counts["accepted"],
        refused_rows=counts["refused"],
        reasons=_list_reasons(counts.get("reasons") or {}),
        metrics=_metric_table(details),
        row_sets=_row_set_table(details),
        slices=_slice_table(details["slices"]) if details.get("slices") else None,
        slice_metric=details.get("slice_metric") or details.get("metric"),
        labels=origin["labels"][:LISTED],
        label_count=len(origin["labels"]),
        contract=_dump_contract(recipe),
        false_alarm_rate=f"{recipe.monitor.level:.2g}",
        min_rows=recipe.monitor.min_rows,
        snapshot_version=snapshot["version"],
        snapshot_fingerprint=snapshot["fingerprint"],
        recipe_fingerprint=origin["recipe_fingerprint"],
        code=origin["code"],
    )


def _evidence_table(evidence: Sequence[Json]) -> MarkdownTable:
    rows: list[list[Cell]] = [
        [
            check["test"],
            check.get("on"),
            PASSED[check.get("passed")],
            check.get("rows"),
            _format_estimate(check),
            check.get("p"),
        ]
        for check in evidence
    ]
    return MarkdownTable(("Test", "On", "Passed", "Rows", "Difference or interval", "p"), rows)


def _format_estimate(check: Json) -> str:
    interval = _format_interval((None, check.get("low"), check.get("high")))
    return f"{check['estimate']:.4f} ({interval})" if is_number(check.get("estimate")) else interval


def _format_interval(interval: Sequence[float | None] | None) -> str:
    _, low, high = interval or (None, None, None)
    if low == high:  # unknown, or all resamples are alike and tell nothing
        return ""
    if is_number(low) and is_number(high):
        return f"{low:.4f} to {high:.4f}"
    if is_number(low):
        return f"at least {low:.4f}"
    return f"at most {high:.4f}" if is_number(high) else ""


def _example_row(recipe: "Recipe") -> str:
    objective = load_objective(recipe.objective.type)
    return ", ".join(f'"{role}": [{EXAMPLES[objective.COLUMNS[role]]}]' for role in objective.INPUTS)


def _split_table(sizes: Json, dates: Json) -> MarkdownTable:
    rows = [[split, size, *dates.get(split, [None, None])] for split, size in sizes.items()]
    return MarkdownTable(("Split", "Rows", "From", "To"), rows)


def _source_table(sources: Sequence[Json]) -> MarkdownTable:
    rows = [[source["source"], source["rows"], *(source["days"] or [None, None])] for source in sources]
    return MarkdownTable(("Source", "Rows", "From", "To"), rows)


def _list_reasons(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} ({times:,})" for reason, times in reasons.items() if times)


def _metric_table(details: Json) -> MarkdownTable:
    intervals = (details.get("challenger") or {}).get("intervals", {})
    champion = (details.get("champion") or {}).get("metrics", {}).get("test", {})
    rows = [
        [name, value, _format_interval(intervals.get(name)), champion.get(name)]
        for name, value in _known_metrics(details).items()
    ]
    return MarkdownTable(("Metric", "This model", "Interval", "Champion"), rows)


def _row_set_table(details: Json) -> MarkdownTable:
    metric = details.get("metric")
    scores = (details.get("challenger") or {}).get("metrics") or {}
    sizes = details.get("rows", {})
    rows = [[ROW_SETS[name], sizes.get(name), scores[name].get(metric)] for name in scores if name in ROW_SETS]
    return MarkdownTable(("On", "Rows", str(metric)), rows)


def _slice_table(slices: Json) -> MarkdownTable:
    ranked = sorted(slices.items(), key=lambda item: known_or(item[1]["challenger"], 2.0))
    rows = [
        [
            name,
            entry["rows"],
            entry["challenger"],
            _format_interval(entry.get("intervals", {}).get("challenger")),
            entry["champion"],
        ]
        for name, entry in ranked[:LISTED]
    ]
    return MarkdownTable(("Slice", "Rows", "This model", "Interval", "Champion"), rows)


def _dump_contract(recipe: "Recipe") -> str:
    import yaml

    rules = dump_settings(recipe.contract)
    return yaml.safe_dump(rules, allow_unicode=True).strip() if rules else ""


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
