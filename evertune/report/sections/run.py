"""The page's sections on the run; each is empty where there is nothing to say, and is then left out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evertune.report.html import (
    Html,
    add_heading,
    build_facts,
    build_note,
    build_table,
    draw_bar,
    embed_picture,
    escape,
    format_count,
    format_number,
    format_value,
    is_number,
    join_parts,
)
from evertune.report.sections.drift_tests import render_tests

Json = dict[str, Any]
LINEAGE = {
    "model": "model",
    "version": "version",
    "champion_version": "champion after this run",
    "run_id": "MLflow run",
}
JUDGED = {
    "test_clean": "test, without leaks",
    "fresh": "test, fresh",
    "history": "test, history",
    "new_labels": "test, labels that the champion does not know",
}


def render_training(outcome: Json, history: list[Json], pictures: Mapping[str, Path]) -> Html:
    """How long it was trained, loss by step, and the validations."""
    validations = [entry for entry in history if "eval_loss" in entry]
    names = list(dict.fromkeys(name for entry in validations for name in entry if name.startswith("eval_")))
    rows = [
        [format_count(entry.get("step")), *(format_number(entry.get(name)) for name in names)] for entry in validations
    ]
    heads = ["Step", *(name.removeprefix("eval_") for name in names)]
    return join_parts(
        build_facts(_training_facts(outcome.get("training") or {})),
        embed_picture(pictures, "loss_curve", "Loss and validation metric by step."),
        add_heading("Validations", build_table(heads, rows)),
    )


def _training_facts(training: Json) -> Iterator[tuple[str, Html]]:
    """Numbers of the training; tokens by split, and how many a second."""
    for name, value in training.items():
        if isinstance(value, dict):
            yield from ((f"{split} {name}", format_count(times)) for split, times in value.items())
        else:
            yield name, format_value(value)
    tokens = (training.get("tokens") or {}).get("train")
    seconds = training.get("seconds")
    if is_number(tokens) and is_number(seconds) and seconds > 0:
        yield "train tokens a second", format_count(tokens * training.get("epochs", 1) / seconds)


def render_data(outcome: Json, details: Json, origin: Json) -> Html:
    """Rows new, accepted and refused and why, the rows of each split, and whether the new ones are of another kind."""
    rows = outcome["rows"]
    snapshot = outcome["snapshot"].get("rows")
    reasons = {reason: times for reason, times in (rows.get("reasons") or {}).items() if times}
    refused = sum(reasons.values())
    reason_rows = [
        [escape(reason), draw_bar(times / refused, format_count(times))]
        for reason, times in sorted(reasons.items(), key=lambda item: -item[1])
    ]
    sizes = {**(snapshot if isinstance(snapshot, dict) else {}), **(details.get("rows") or {})}
    splits = [[escape(JUDGED.get(name, name)), format_count(size)] for name, size in sizes.items()]
    return join_parts(
        build_facts((name, format_count(rows.get(name))) for name in ("new", "accepted", "refused")),
        add_heading("Why rows were refused", build_table(("Reason", "Rows"), reason_rows, kind="fit")),
        add_heading("Rows of the snapshot", build_table(("Split", "Rows"), splits, kind="fit")),
        add_heading("Drift of the new rows", _render_drift(origin.get("drift"))),
    )


def _render_drift(result: Json | None) -> Html:
    """What a look at the new test rows found; nothing where there was none."""
    if result is None:
        return Html("")
    word = "They are of another kind" if result["drifted"] else "No drift was found"
    old, new = (result["rows"][side] for side in ("reference", "current"))
    level = result["level"]
    explanation = (
        f"{word}: {result['reason']}. {new:,} test rows that came since version {result['version']}, then the "
        "champion, "
        f"beside {old:,} older ones; p is corrected for the number of tests. This is information: it decided nothing, "
        "no trigger hears of it, and it spends none of the checks that the recipe's false alarms are meant for. Where "
        f"nothing has changed, such a look finds something with probability {level:.2g}."
    )
    return join_parts(build_note(explanation), render_tests(result))


def render_lineage(outcome: Json, origin: Json) -> Html:
    """From the version back to the source files: run, recipe, code, base model, snapshot, and what was read."""
    base = origin.get("base_model") or {}
    named = [(label, escape(outcome[key])) for key, label in LINEAGE.items() if outcome.get(key) is not None]
    snapshot = {key: value for key, value in outcome["snapshot"].items() if not isinstance(value, dict)}
    origin_facts = {
        "recipe": origin.get("recipe"),
        "recipe, fingerprint": origin.get("recipe_fingerprint"),
        "code": origin.get("code"),
        "base model": base.get("name"),
        "its licence": base.get("license"),
        "base model, digest": (origin.get("environment") or {}).get("base_model"),
    }
    return join_parts(
        build_facts(
            [
                *named,
                *((f"snapshot {key}", escape(value)) for key, value in snapshot.items()),
                *((name, escape(value)) for name, value in origin_facts.items() if value),
            ]
        ),
        add_heading("Sources of the snapshot", _render_sources(origin)),
        build_note("The model card is README.md, beside this page."),
    )


def _render_sources(origin: Json) -> Html:
    """What was read, the newest first, with the digest of its content as it was read last."""
    rows = [
        [
            escape(source["source"]),
            format_count(source["rows"]),
            escape(" to ".join(source["days"] or ["\N{EN DASH}"])),
            format_value(source["digest"]),
        ]
        for source in origin.get("sources") or ()
    ]
    older = origin.get("others") or {}
    rest = f"{older.get('rows', 0):,} more rows are from {older.get('sources', 0):,} older sources."
    listed = build_table(("Source", "Rows", "Dates", "Digest"), rows)
    return join_parts(listed, build_note(rest)) if older.get("sources") else listed


def render_cost(outcome: Json, origin: Json) -> Html:
    """Seconds of each step, and the machine that spent them."""
    machine = origin.get("environment") or {}
    machine_keys = {
        "processors": "cpus",
        "threads": "threads",
        "arithmetic": "arithmetic",
        "host": "host",
        "platform": "platform",
        "python": "python",
    }
    libraries = ", ".join(f"{name} {version}" for name, version in (machine.get("libraries") or {}).items())
    machine_facts = [
        (name, format_value(machine[key])) for name, key in machine_keys.items() if machine.get(key) is not None
    ]
    step_table = render_seconds(outcome)
    return (
        join_parts(step_table, add_heading("Machine", build_facts([*machine_facts, ("libraries", escape(libraries))])))
        if step_table
        else step_table
    )


def render_seconds(outcome: Json) -> Html:
    """Seconds of each step, and of all."""
    step_seconds = {step: value for step, value in (outcome.get("seconds") or {}).items() if is_number(value)}
    longest = max(step_seconds.values(), default=0) or 1
    rows = [
        [escape(step), draw_bar(value / longest, _format_tenths(value), "quiet")]
        for step, value in step_seconds.items()
    ]
    total = [Html("<b>all</b>"), Html(f'<b class="value">{_format_tenths(sum(step_seconds.values()))}</b>')]
    return build_table(("Step", "Seconds"), [*rows, total] if rows else [], kind="fit")


def _format_tenths(value: float) -> Html:
    return escape(f"{value:,.1f}")
