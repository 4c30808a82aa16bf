"""What a run was made of: its training, its data, its origin and its cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evertune.report.formatting import format_count, format_number, format_tenths, format_value, is_number
from evertune.report.sections.evidence import build_drift_tests
from evertune.report.view import Cell, Chief, Fact, Table, interval, make_bar, number, text

Json = dict[str, Any]
SPLITS = {
    "test_clean": "test, without leaks",
    "fresh": "test, fresh",
    "history": "test, older",
    "new_labels": "test, labels new to the champion",
}
MACHINE = {
    "processors": "cpus",
    "threads": "threads",
    "arithmetic": "arithmetic",
    "host": "host",
    "platform": "platform",
    "python": "python",
}


@dataclass(frozen=True, slots=True)
class Training:
    """How the challenger was trained."""

    facts: list[Fact]
    validations: Table


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether the new rows differ from the older ones.

    Args:
        level: probability of a false alarm; version: of the champion that the rows were seen through.
        current, reference: number of new and of older rows.
    """

    is_found: bool
    reason: str
    level: str
    version: int
    current: str | None
    reference: str | None
    tests: Table


@dataclass(frozen=True, slots=True)
class Data:
    """Which rows came, which were refused, and which the snapshot holds."""

    facts: list[Fact]
    reasons: Table
    splits: Table
    drift: Drift | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the version comes from.

    Args:
        older_sources, older_rows: those that are not listed.
    """

    facts: list[Fact]
    sources: Table
    older_sources: int
    older_rows: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of each step, and the machine that spent them."""

    steps: Table
    machine: list[Fact]


def build_training(outcome: Json, history: list[Json]) -> Training:
    """Return the numbers of the training and its validations.

    Args:
        history: metrics by step.
    """
    validations = [entry for entry in history if "eval_loss" in entry]
    names = list(dict.fromkeys(name for entry in validations for name in entry if name.startswith("eval_")))
    columns = [text("Step"), *(number(name.removeprefix("eval_")) for name in names)]
    rows = [
        [format_count(entry.get("step")), *(format_number(entry.get(name)) for name in names)] for entry in validations
    ]
    return Training(list(_training_facts(outcome.get("training") or {})), Table(columns, rows))


def _training_facts(training: Json) -> Iterator[Fact]:
    """Yield the numbers of the training; tokens by split, and how many a second."""
    for name, value in training.items():
        if isinstance(value, dict):
            yield from (Fact(f"{split} {name}", format_count(times)) for split, times in value.items())
        else:
            yield Fact(name, format_value(value))
    tokens = (training.get("tokens") or {}).get("train")
    seconds = training.get("seconds")
    if is_number(tokens) and is_number(seconds) and seconds > 0:
        yield Fact("train tokens a second", format_count(tokens * training.get("epochs", 1) / seconds))


def build_data(outcome: Json, details: Json, origin: Json) -> Data:
    """Return the rows new, accepted and refused and why, the rows of each split, and whether the new ones drift."""
    counts = outcome["rows"]
    facts = [Fact(name, format_count(counts.get(name))) for name in ("new", "accepted", "refused")]
    reasons = {reason: times for reason, times in (counts.get("reasons") or {}).items() if times}
    refused = sum(reasons.values())
    reason_rows = [
        [reason, make_bar(times / refused, format_count(times))]
        for reason, times in sorted(reasons.items(), key=lambda item: -item[1])
    ]
    snapshot = outcome["snapshot"].get("rows")
    sizes = {**(snapshot if isinstance(snapshot, dict) else {}), **(details.get("rows") or {})}
    split_rows = [[SPLITS.get(name, name), format_count(size)] for name, size in sizes.items()]
    return Data(
        facts,
        Table((text("Reason"), number("Rows")), reason_rows, fit=True),
        Table((text("Split"), number("Rows")), split_rows, fit=True),
        _build_drift(origin.get("drift")),
    )


def _build_drift(result: Json | None) -> Drift | None:
    if result is None:
        return None
    return Drift(
        result["drifted"],
        result["reason"],
        f"{result['level']:.2g}",
        result["version"],
        format_count(result["rows"]["current"]),
        format_count(result["rows"]["reference"]),
        build_drift_tests(result),
    )


def build_lineage(outcome: Json, origin: Json) -> Lineage:
    """Return the way from the version back to the source files: run, recipe, code, base model, snapshot, sources."""
    base_model = origin.get("base_model") or {}
    snapshot = {f"snapshot {key}": value for key, value in outcome["snapshot"].items() if not isinstance(value, dict)}
    values = {
        "model": outcome.get("model"),
        "version": outcome.get("version"),
        "champion after this run": outcome.get("champion_version"),
        "MLflow run": outcome.get("run_id"),
        **snapshot,
        "recipe": origin.get("recipe"),
        "recipe fingerprint": origin.get("recipe_fingerprint"),
        "code": origin.get("code"),
        "base model": base_model.get("name"),
        "base model licence": base_model.get("license"),
        "base model digest": (origin.get("environment") or {}).get("base_model"),
    }
    others = origin.get("others") or {}
    return Lineage(
        [Fact(name, str(value)) for name, value in values.items() if value is not None and value != ""],
        _source_table(origin.get("sources") or ()),
        others.get("sources", 0),
        others.get("rows", 0),
    )


def _source_table(sources: Sequence[Json]) -> Table:
    """Return what was read, the newest first, with the digest of its content when it was read last."""
    columns = (text("Source"), number("Rows"), interval("Dates"), text("Digest"))
    rows = [
        [
            source["source"],
            format_count(source["rows"]),
            " to ".join(source["days"]) if source["days"] else None,
            format_value(source["digest"]),
        ]
        for source in sources
    ]
    return Table(columns, rows)


def build_cost(outcome: Json, origin: Json) -> Cost:
    """Return the seconds of each step, and the machine that spent them."""
    machine = origin.get("environment") or {}
    facts = [Fact(name, format_value(machine[key])) for name, key in MACHINE.items() if machine.get(key) is not None]
    libraries = ", ".join(f"{name} {version}" for name, version in (machine.get("libraries") or {}).items())
    return Cost(_step_table(outcome), [*facts, Fact("libraries", libraries)])


def _step_table(outcome: Json) -> Table:
    seconds = {step: value for step, value in (outcome.get("seconds") or {}).items() if is_number(value)}
    longest = max(seconds.values(), default=0) or 1
    rows: list[list[Cell]] = [
        [step, make_bar(value / longest, format_tenths(value), quiet=True)] for step, value in seconds.items()
    ]
    if rows:
        rows.append([Chief("total"), format_tenths(sum(seconds.values()))])
    return Table((text("Step"), number("Seconds")), rows, fit=True)


def build_resources(resources: Json | None) -> Table:
    """Return what challenger and champion take to serve and to train, one line a resource."""
    columns = [text("Resource"), number("Challenger")]
    if resources and resources["champion"]:
        columns += [number("Champion"), number("Times the champion's")]
    return Table(columns, [] if not resources else list(_resource_rows(resources)), fit=True)


def _resource_rows(resources: Json) -> Iterator[list[Cell]]:
    latency = "processor time for a row, ms" if resources["clock"] == "processor" else "time for a row on the GPU, ms"
    for name, key, ratio, scale in (
        ("files, MB", "bytes", "size", 1e-6),
        ("weights in memory, MB", "memory", "memory", 1e-6),
        (latency, "seconds", "latency", 1e3),
        ("training, s", "training", "training", 1.0),
    ):
        values = [resources[model][key] for model in ("challenger", "champion") if resources[model]]
        if values[0] is None:
            continue
        row: list[Cell] = [name, *(None if value is None else f"{value * scale:,.1f}" for value in values)]
        if resources["champion"]:
            share = resources["ratios"].get(ratio)
            row.append(None if share is None else f"{share:.2f}")
        yield row
