"""The model card, in Hugging Face's format: what a reader must know before using the model, without a text of a row."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.objectives import module
from evertune.records import settled
from evertune.report.html import known
from evertune.runtime.files import write_atomic

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from evertune.config import Recipe

Json = dict[str, Any]
EXAMPLES = {  # of an input, by its kind
    "string": '"some text"', "strings": '["some", "words"]', "image": 'base64.b64encode(open("a.png", "rb").read())',
}  # fmt: skip
LISTED = 100  # labels, or slices, that are named
ROWS = {
    "test": "all test rows", "test_clean": "test rows without leaks", "fresh": "fresh test rows",
    "history": "test rows that the champion knew of", "new_labels": "labels that the champion does not know",
}  # fmt: skip
HELD = "It is not in use: evidence for it is missing. `evertune history {file}` tells what became of it."
STANDS = {
    "promoted": "It became the champion by this decision. `evertune history {file}` tells whether it still is.",
    "waiting": "It waits for a person: `evertune approve {file} --version {version}` gives it the place.",
    "held": HELD, "rejected": "It is not in use: there is evidence of harm.", "unchanged": HELD,
}  # fmt: skip


def card(path: Path, recipe: "Recipe", outcome: Json, details: Json, origin: Json) -> Path:
    """Write the card of a run's model.

    Args:
        outcome: `plain(Outcome)`; details: what `evaluate` wrote; origin: as `origins.told`.
    Raises:
        OSError: the folder cannot be written.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = origin["base_model"]
    data = ModelCardData(
        model_name=outcome["model"], pipeline_tag=recipe.objective.type, tags=["evertune"],
        language=base["languages"] or None, base_model=base["name"] if base["hub"] else None,
        metrics=list(_measured(details)) or None, eval_results=list(_results(recipe, outcome, details)) or None,
    )  # fmt: skip
    text = "\n\n".join(f"## {title}\n\n{part}" for title, part in _sections(recipe, outcome, details, origin))
    made = ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {_title(outcome)}\n\n{_first(recipe, outcome)}\n\n{text}\n")
    write_atomic(path, str(made))
    return path


def _sections(recipe: "Recipe", outcome: Json, details: Json, origin: Json) -> Iterator[tuple[str, str]]:
    yield "How it got here", _decided(recipe, outcome)
    yield "Use", _use(recipe, outcome)
    yield "Base model", _base(origin)
    yield "Data", _data(outcome, origin)
    yield "Metrics", _metrics(details)
    if details.get("slices"):
        yield "Slices", _slices(details)
    yield "Limits", _limits(recipe, origin)
    yield "Lineage", _lineage(outcome, origin)


def _title(outcome: Json) -> str:
    version = "" if outcome["version"] is None else f" version {outcome['version']}"
    return f"{outcome['model']}{version}"


def _first(recipe: "Recipe", outcome: Json) -> str:
    return (
        f"A {recipe.objective.type} model, fine-tuned ({recipe.training.method}) and judged by Evertune from the "
        f"recipe `{recipe.file}`. This card tells how things stood at the end of the run `{outcome['run_id']}`."
    )


def _decided(recipe: "Recipe", outcome: Json) -> str:
    word = "waiting" if outcome["waiting"] else outcome["decision"]
    heads = ("Test", "On", "Passed", "Rows", "Difference or interval", "p")
    rows = [
        [one["test"], one.get("on"), {True: "yes", False: "no"}.get(one.get("passed")), one.get("rows"), _found(one),
         one.get("p")]
        for one in outcome["evidence"]
    ]  # fmt: skip
    stands = STANDS[word].format(file=recipe.file, version=outcome["version"])
    return "\n\n".join([f"**{word}**: {_plain(outcome['reason'])}", stands, *_table(heads, rows)])


def _found(one: Json) -> str:
    between = _between((None, one.get("low"), one.get("high")))
    return f"{_plain(one['estimate'])} ({between})" if known(one.get("estimate")) else between


def _use(recipe: "Recipe", outcome: Json) -> str:
    objective = module(recipe.objective.type)
    example = ", ".join(f'"{role}": [{EXAMPLES[objective.COLUMNS[role]]}]' for role in objective.INPUTS)
    where = (
        f"models:/{outcome['model']}/{outcome['version']}" if outcome["version"] else f"runs:/{outcome['run_id']}/model"
    )
    return (
        "The champion over a file:\n\n"
        f"```sh\nevertune score {recipe.file} --input rows.csv --output scores.csv\n```\n\n"
        "This version, wherever MLflow's store can be reached (Evertune need not be installed):\n\n"
        f'```python\nimport mlflow\nimport pandas as pd\n\nmodel = mlflow.pyfunc.load_model("{where}")\n'
        f"model.predict(pd.DataFrame({{{example}}}))\n```"
    )


def _base(origin: Json) -> str:
    base = origin["base_model"]
    spoken = ", ".join(map(_plain, base["languages"])) or "not stated"
    return (
        f"`{_plain(base['name'])}`. Its own card states: licence {_plain(base['license'] or 'not stated')}, languages "
        f"{spoken}. Under which licence this model may be used is for its owners to say."
    )


def _data(outcome: Json, origin: Json) -> str:
    dates = origin["dates"]
    splits = [
        [name, size, *dates.get(name, [None, None])] for name, size in (outcome["snapshot"].get("rows") or {}).items()
    ]
    sources = [[one["source"], one["rows"], *(one["days"] or [None, None])] for one in origin["sources"]]
    others = origin["others"]
    came, why = outcome["rows"], outcome["rows"].get("reasons") or {}
    refused = ", ".join(f"{_plain(reason)} ({times:,})" for reason, times in why.items() if times)
    parts = [
        *_table(("Split", "Rows", "From", "To"), splits),
        *_table(("Source", "Rows", "From", "To"), sources),
        *([f"{others['rows']:,} more rows are from {others['sources']:,} older sources."] if others["sources"] else []),
        f"Since the last decision {came['new']:,} rows came, {came['accepted']:,} were accepted and "
        f"{came['refused']:,} refused{f': {refused}' if refused else ''}.",
    ]
    return "\n\n".join(parts)


def _metrics(details: Json) -> str:
    ours, theirs = details.get("challenger") or {}, details.get("champion") or {}
    rows = [
        [
            name,
            value,
            _between(ours.get("intervals", {}).get(name)),
            theirs.get("metrics", {}).get("test", {}).get(name),
        ]
        for name, value in _measured(details).items()
    ]
    chief = details.get("metric")
    sets = [
        [ROWS[name], details.get("rows", {}).get(name), found.get(chief)]
        for name, found in (ours.get("metrics") or {}).items() if name in ROWS
    ]  # fmt: skip
    said = "On the test rows, with the interval at the gate's confidence; the champion is the version in use before."
    heads = ("Metric", "This model", "Interval", "Champion")
    return "\n\n".join([said, *_table(heads, rows), *_table(("On", "Rows", str(chief)), sets)])


def _slices(details: Json) -> str:
    found = sorted(details["slices"].items(), key=lambda item: _or(item[1]["challenger"], 2.0))
    rows = [
        [name, one["rows"], one["challenger"], _between(one.get("intervals", {}).get("challenger")), one["champion"]]
        for name, one in found[:LISTED]
    ]
    said = f"{details.get('slice_metric') or details['metric']} on parts of the test rows, the lowest first."
    return "\n\n".join([said, *_table(("Slice", "Rows", "This model", "Interval", "Champion"), rows)])


def _limits(recipe: "Recipe", origin: Json) -> str:
    import yaml

    rules, level = settled(recipe.contract), recipe.monitor.level
    contract = (
        f":\n\n```yaml\n{yaml.safe_dump(rules, allow_unicode=True).strip()}\n```" if rules else "; it has the defaults."
    )
    return (
        f"{_known(origin['labels'])}"
        "Nothing is known of rows outside of the recipe's contract, which were neither trained nor tested on"
        f"{contract}\n\n"
        f"Drift: `evertune monitor {recipe.file}` compares rows that come with the test rows. A check with no change "
        f"tells of one with probability {level:.2g}; with fewer than {recipe.monitor.min_rows} rows it says nothing."
    )


def _known(labels: Sequence[str]) -> str:
    """Which labels the model chooses among; nothing where it chooses none."""
    if not labels:
        return ""
    named = ", ".join(f"`{_plain(label)}`" for label in labels[:LISTED])
    more = f" and {len(labels) - LISTED:,} more" if len(labels) > LISTED else ""
    return f"It knows {len(labels):,} labels and never says another, whatever it is shown: {named}{more}.\n\n"


def _lineage(outcome: Json, origin: Json) -> str:
    snapshot = outcome["snapshot"]
    facts = {
        "Snapshot": f"{snapshot['version']}, `{snapshot['fingerprint']}`",
        "Recipe": f"`{origin['recipe_fingerprint']}`",
        "Code": f"`{origin['code']}`", "MLflow run": f"`{outcome['run_id']}`",
    }  # fmt: skip
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _measured(details: Json) -> dict[str, float]:
    values = (details.get("challenger") or {}).get("metrics", {}).get("test", {})
    return {name: value for name, value in values.items() if known(value)}


def _results(recipe: "Recipe", outcome: Json, details: Json) -> "Iterator[EvalResult]":
    from huggingface_hub import EvalResult

    for name, value in _measured(details).items():
        yield EvalResult(
            task_type=recipe.objective.type, dataset_type=recipe.name, dataset_name=f"{recipe.name} corpus",
            dataset_split="test", dataset_revision=outcome["snapshot"]["fingerprint"], metric_type=name,
            metric_value=value,
        )  # fmt: skip


def _between(interval: Sequence[float | None] | None) -> str:
    _, low, high = interval or (None, None, None)
    if low == high:  # unknown, or all rows are alike, of which resamples tell nothing
        return ""
    if low is None or high is None:
        return f"at least {_plain(low)}" if low is not None else f"at most {_plain(high)}" if high is not None else ""
    return f"{_plain(low)} to {_plain(high)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table as one part; none where there are no rows."""
    lines = [heads, ["---"] * len(heads), *([_plain(cell) for cell in row] for row in rows)]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)] if rows else []


def _plain(value: Any) -> str:
    """A value that neither breaks a table nor becomes markup."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if known(value) else ""
    if isinstance(value, int):
        return f"{value:,}"
    return " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def _or(value: float | None, other: float) -> float:
    return value if known(value) else other
