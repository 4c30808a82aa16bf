"""`evertune trace`: from a version back to rows, recipe, code, and the people who moved it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import click

from evertune.cli import common
from evertune.cli.terminal import format_metric, make_console, print_table
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.audit.trace import RowsTrace, VersionTrace
    from evertune.registry.decisions.ledger import Entry
    from evertune.registry.tracking.runs import Environment
    from evertune.registry.versions.versions import ModelFacts

PASSED: dict[bool | None, str] = {True: "yes", False: "no"}
MACHINE = ("platform", "python", "cpus", "threads", "arithmetic", "base_model")


@click.command()
@common.recipe
@common.version
@common.as_json
def trace(recipe: str, version: int | None, as_json: bool) -> None:
    """Show which rows, recipe and code made a version, who or what promoted it, and what it replaced."""
    from evertune.audit import trace as tracing
    from evertune.config import load_recipe

    loaded = load_recipe(recipe, for_data=False)
    context = open_context(loaded)
    chosen_version = common.choose_version(context, version)
    record = tracing.trace_version(context, chosen_version)
    if as_json:
        common.show_json(record)
    else:
        _show_record(make_console(stderr=False), record)


def _show_record(screen: "Console", record: "VersionTrace") -> None:
    print_table(screen, ["", ""], _list_facts(record))
    if sources := record["rows"].get("sources"):
        screen.print("\nsources")
        print_table(
            screen,
            ["source", "rows", "digest"],
            [[source["source"], f"{source['rows']:,}", source["digest"]] for source in sources],
        )
    screen.print("\ndecisions and moves")
    events = sorted([*record["decisions"], *record["moves"]], key=lambda event: event["time"])
    print_table(
        screen,
        ["time (UTC)", "what", "who", "why"],
        [
            [
                event["time"][:16].replace("T", " "),
                event.get("verdict") or _describe_move(event),
                event["who"],
                event.get("reason"),
            ]
            for event in events
        ],
    )
    _show_evidence(screen, record)


def _list_facts(record: "VersionTrace") -> list[list[str | None]]:
    """Name and value of each fact; those that do not apply are left out."""
    model = record["model"]
    run = record["run"]
    rows = record["rows"]
    environment = record["environment"]
    machine: Mapping[str, object] = environment
    aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    lines: list[list[str | None]] = [
        ["model", f"{model['name']}, version {model['version']}{aliases}, registered {model['registered']}"],
        ["run", f"{model['run_id']}, {run['started']} to {run['ended']}, by {run['who']}" if run["started"] else ""],
        ["code", model["code"]],
        ["bundle", model["bundle"]],
    ]
    if descent := _describe_descent(model):
        lines.append(["descends from", descent])
    recipe = record["recipe"]
    lines += [
        ["recipe", f"{recipe.get('name')}: {_summarize_recipe(recipe)}" if recipe else ""],
        ["libraries", ", ".join(f"{name} {value}" for name, value in _list_libraries(environment))],
        ["snapshot", _describe_snapshot(rows)],
        ["rows", _format_counts(rows.get("splits", {}))],
    ]
    if rows.get("forgotten"):
        lines.append(["forgotten since", _format_counts(rows["forgotten"])])
    for ancestor in rows.get("descent", ()):
        if ancestor["forgotten"]:
            counts = _format_counts(ancestor["forgotten"])
            lines.append(["forgotten since", f"{counts}, which version {ancestor['version']} has seen (an ancestor)"])
    lines += [
        ["machine", ", ".join(f"{name} {machine[name]}" for name in MACHINE if name in machine)],
        ["replaced", _describe_replaced(record)],
    ]
    return lines


def _show_evidence(screen: "Console", record: "VersionTrace") -> None:
    """Print the tests behind the newest decision that has any."""
    evidence_lists = [decision["evidence"] for decision in record["decisions"] if decision.get("evidence")]
    if not evidence_lists:
        return
    screen.print("\nevidence")
    print_table(
        screen,
        ["test", "on", "rows", "challenger", "champion", "p", "passed"],
        [
            [
                check["test"],
                check.get("on"),
                check.get("rows"),
                format_metric(check.get("challenger")),
                format_metric(check.get("champion")),
                format_metric(check.get("p")),
                PASSED.get(check.get("passed"), ""),
            ]
            for check in evidence_lists[-1]
        ],
    )


def _summarize_recipe(recipe: Mapping[str, object]) -> str:
    training = cast(Mapping[str, object], recipe.get("training") or {})
    return ", ".join(
        [
            str(recipe.get("base_model")),
            *(f"{name} {training.get(name)}" for name in ("epochs", "learning_rate", "tokens_per_batch", "seed")),
        ]
    )


def _list_libraries(environment: "Environment") -> list[tuple[str, str]]:
    return list((environment.get("libraries") or {}).items())


def _describe_descent(model: "ModelFacts") -> str:
    """The versions, or the other model, that its weights or its teacher's answers come from."""
    origins = []
    if model["of"]:
        origins.append(f"version {model['of']}, of which it is a compressed variant ({model['variant']})")
    if model["start"]:
        origins.append(f"version {model['start']}, the champion that training started from")
    if model["teacher"]:
        version = model["teacher_version"]
        teacher = f"version {version}" if version else f"a model with digest {model['teacher']}"
        origins.append(f"{teacher}, its teacher")
    return ", ".join(origins)


def _describe_snapshot(rows: "RowsTrace") -> str:
    if rows["snapshot"] is None:
        return str(rows["problem"])
    return f"{rows['snapshot']}, fingerprint {rows['fingerprint']}{_describe_rows_state(rows)}"


def _describe_rows_state(rows: "RowsTrace") -> str:
    if "problem" in rows:
        return f"; {rows['problem']}"
    if rows["forgotten"] and all(count == rows["forgotten"].get(split, 0) for split, count in rows["gone"].items()):
        return "; rows unchanged since training, except for those that were forgotten"
    return "; rows unchanged since training" if rows["unchanged"] else "; rows have CHANGED since training"


def _format_counts(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in rows.items())


def _describe_replaced(record: "VersionTrace") -> str:
    """The versions that it replaced as champion."""
    version = record["model"]["version"]
    before = [move["from"] for move in record["moves"] if move["to"] == version]
    if not before:
        return "nothing (it was never champion)"
    return ", ".join(
        "nothing (it was the first champion)" if previous is None else f"version {previous}" for previous in before
    )


def _describe_move(entry: "Entry") -> str:
    if entry["event"] in {"moved", "external"}:
        return f"champion: version {entry['from'] or 'none'} to {entry['to']}"
    return str(entry["event"])
