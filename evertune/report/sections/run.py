"""The page's sections on the run; each is empty where there is nothing to say, and is then left out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evertune.report.html import (
    Html,
    bar,
    count,
    facts,
    heading,
    join,
    known,
    note,
    number,
    picture,
    shown,
    table,
    text,
)
from evertune.report.sections.drift_tests import tests

Json = dict[str, Any]
LINEAGE = {
    "model": "model",
    "version": "version",
    "champion_version": "champion after this run",
    "run_id": "MLflow run",
}
JUDGED = {
    "test_clean": "test, without leaks", "fresh": "test, fresh", "history": "test, history",
    "new_labels": "test, labels that the champion does not know",
}  # fmt: skip


def training(outcome: Json, history: list[Json], pictures: Mapping[str, Path]) -> Html:
    """How long it was trained, loss by step, and the validations."""
    judged = [one for one in history if "eval_loss" in one]
    names = list(dict.fromkeys(name for one in judged for name in one if name.startswith("eval_")))
    rows = [[count(one.get("step")), *(number(one.get(name)) for name in names)] for one in judged]
    heads = ["Step", *(name.removeprefix("eval_") for name in names)]
    return join(
        facts(_trained(outcome.get("training") or {})),
        picture(pictures, "loss_curve", "Loss and validation metric by step."),
        heading("Validations", table(heads, rows)),
    )


def _trained(training: Json) -> Iterator[tuple[str, Html]]:
    """Numbers of the training; tokens by split, and how many a second."""
    for name, value in training.items():
        if isinstance(value, dict):
            yield from ((f"{split} {name}", count(times)) for split, times in value.items())
        else:
            yield name, shown(value)
    tokens, spent = (training.get("tokens") or {}).get("train"), training.get("seconds")
    if known(tokens) and known(spent) and spent > 0:
        yield "train tokens a second", count(tokens * training.get("epochs", 1) / spent)


def data(outcome: Json, details: Json, origin: Json) -> Html:
    """Rows new, accepted and refused and why, the rows of each split, and whether the new ones are of another kind."""
    rows, snapshot = outcome["rows"], outcome["snapshot"].get("rows")
    reasons = {reason: times for reason, times in (rows.get("reasons") or {}).items() if times}
    refused = sum(reasons.values())
    why = [
        [text(reason), bar(times / refused, count(times))]
        for reason, times in sorted(reasons.items(), key=lambda item: -item[1])
    ]
    sizes = {**(snapshot if isinstance(snapshot, dict) else {}), **(details.get("rows") or {})}
    splits = [[text(JUDGED.get(name, name)), count(size)] for name, size in sizes.items()]
    return join(
        facts((name, count(rows.get(name))) for name in ("new", "accepted", "refused")),
        heading("Why rows were refused", table(("Reason", "Rows"), why, kind="fit")),
        heading("Rows of the snapshot", table(("Split", "Rows"), splits, kind="fit")),
        heading("Drift of the new rows", _drift(origin.get("drift"))),
    )


def _drift(found: Json | None) -> Html:
    """What a look at the new test rows found; nothing where there was none."""
    if found is None:
        return Html("")
    word = "They are of another kind" if found["drifted"] else "No drift was found"
    old, new = (found["rows"][side] for side in ("reference", "current"))
    level = found["level"]
    said = (
        f"{word}: {found['reason']}. {new:,} test rows that came since version {found['version']}, then the champion, "
        f"beside {old:,} older ones; p is corrected for the number of tests. This is information: it decided nothing, "
        "no trigger hears of it, and it spends none of the checks that the recipe's false alarms are meant for. Where "
        f"nothing has changed, such a look finds something with probability {level:.2g}."
    )
    return join(note(said), tests(found))


def lineage(outcome: Json, origin: Json) -> Html:
    """From the version back to the source files: run, recipe, code, base model, snapshot, and what was read."""
    base = origin.get("base_model") or {}
    named = [(label, text(outcome[key])) for key, label in LINEAGE.items() if outcome.get(key) is not None]
    snapshot = {key: value for key, value in outcome["snapshot"].items() if not isinstance(value, dict)}
    made = {
        "recipe": origin.get("recipe"), "recipe, fingerprint": origin.get("recipe_fingerprint"),
        "code": origin.get("code"), "base model": base.get("name"), "its licence": base.get("license"),
        "base model, digest": (origin.get("environment") or {}).get("base_model"),
    }  # fmt: skip
    return join(
        facts([*named, *((f"snapshot {key}", text(value)) for key, value in snapshot.items()),
               *((name, text(value)) for name, value in made.items() if value)]),
        heading("Sources of the snapshot", _sources(origin)),
        note("The model card is README.md, beside this page."),
    )  # fmt: skip


def _sources(origin: Json) -> Html:
    """What was read, the newest first, with the digest of its content as it was read last."""
    rows = [
        [
            text(one["source"]),
            count(one["rows"]),
            text(" to ".join(one["days"] or ["\N{EN DASH}"])),
            shown(one["digest"]),
        ]
        for one in origin.get("sources") or ()
    ]
    others = origin.get("others") or {}
    rest = f"{others.get('rows', 0):,} more rows are from {others.get('sources', 0):,} older sources."
    listed = table(("Source", "Rows", "Dates", "Digest"), rows)
    return join(listed, note(rest)) if others.get("sources") else listed


def cost(outcome: Json, origin: Json) -> Html:
    """Seconds of each step, and the machine that spent them."""
    machine = origin.get("environment") or {}
    told = {"processors": "cpus", "threads": "threads", "arithmetic": "arithmetic", "host": "host",
            "platform": "platform", "python": "python"}  # fmt: skip
    libraries = ", ".join(f"{name} {version}" for name, version in (machine.get("libraries") or {}).items())
    known_of = [(name, shown(machine[key])) for name, key in told.items() if machine.get(key) is not None]
    spent = seconds(outcome)
    return join(spent, heading("Machine", facts([*known_of, ("libraries", text(libraries))]))) if spent else spent


def seconds(outcome: Json) -> Html:
    """Seconds of each step, and of all."""
    spent = {step: value for step, value in (outcome.get("seconds") or {}).items() if known(value)}
    longest = max(spent.values(), default=0) or 1
    rows = [[text(step), bar(value / longest, _tenths(value), "quiet")] for step, value in spent.items()]
    total = [Html("<b>all</b>"), Html(f'<b class="value">{_tenths(sum(spent.values()))}</b>')]
    return table(("Step", "Seconds"), [*rows, total] if rows else [], kind="fit")


def _tenths(value: float) -> Html:
    return text(f"{value:,.1f}")
