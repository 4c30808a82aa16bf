"""`evertune trace`: from a version back to rows, recipe, code, and the people who moved it."""

from typing import Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import format_metric, make_console, print_table

MACHINE = ("platform", "python", "cpus", "threads", "arithmetic", "base_model")


@click.command()
@options.recipe
@click.option("--version", type=int, help="Registered version. Default: the champion.")
@options.as_json
def trace(recipe: str, version: int | None, as_json: bool) -> None:
    """Tell which rows, recipe and code made a version, who or what promoted it, and what it replaced."""
    from evertune.audit import trace as tracing
    from evertune.config import load_recipe
    from evertune.errors import RegistryError
    from evertune.registry.versions import versions
    from evertune.runtime.home import home_of

    loaded = load_recipe(recipe, for_data=False)
    home = home_of(loaded)
    chosen_version = version if version is not None else versions.find_champion(home, loaded.registered_name)
    if chosen_version is None:
        raise RegistryError(f"{loaded.registered_name} has no champion yet; name one with --version")
    record = tracing.trace_version(loaded, home, chosen_version)
    if as_json:
        show_json(record)
    else:
        _show_record(make_console(stderr=False), record)


def _show_record(screen: Any, record: dict[str, Any]) -> None:
    model = record["model"]
    run = record["run"]
    rows = record["rows"]
    aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    lines = [
        ["model", f"{model['name']}, version {model['version']}{aliases}, registered {model['registered']}"],
        ["run", f"{model['run_id']}, {run['started']} to {run['ended']}, by {run['who']}" if run["started"] else ""],
        ["code", model["code"]],
        ["bundle", model["bundle"]],
        *([["descends from", _describe_descent(model)]] if _describe_descent(model) else []),
        [
            "recipe",
            f"{record['recipe'].get('name')}: {_summarize_recipe(record['recipe'])}" if record["recipe"] else "",
        ],
        ["libraries", ", ".join(f"{name} {value}" for name, value in _list_libraries(record["environment"]))],
        ["snapshot", _describe_snapshot(rows)],
        ["rows", ", ".join(f"{count:,} {split}" for split, count in rows.get("splits", {}).items())],
        *([["forgotten since", _format_counts(rows["forgotten"])]] if rows.get("forgotten") else []),
        *(
            [
                "its forebears have seen",
                f"version {ancestor['version']}: {_format_counts(ancestor['forgotten'])}, forgotten since",
            ]
            for ancestor in rows.get("descent", ())
            if ancestor["forgotten"]
        ),
        [
            "machine",
            ", ".join(f"{name} {record['environment'][name]}" for name in MACHINE if name in record["environment"]),
        ],
        ["replaced", _describe_replaced(record)],
    ]
    print_table(screen, ["", ""], lines)
    if sources := rows.get("sources"):
        screen.print("\nsources")
        print_table(
            screen,
            ["source", "rows", "digest"],
            [[source["source"], f"{source['rows']:,}", source["digest"]] for source in sources],
        )
    screen.print("\ndecisions and moves")
    print_table(
        screen,
        ["time (UTC)", "what", "who", "why"],
        [
            [
                entry["time"][:16].replace("T", " "),
                entry.get("verdict") or _describe_move(entry),
                entry["who"],
                entry.get("reason"),
            ]
            for entry in sorted([*record["decisions"], *record["moves"]], key=lambda entry: entry["time"])
        ],
    )
    _show_evidence(screen, record)


def _show_evidence(screen: Any, record: dict[str, Any]) -> None:
    evidence_lists = [decision["evidence"] for decision in record["decisions"] if decision.get("evidence")]
    if evidence_lists:
        screen.print("\nevidence")
        print_table(
            screen,
            ["test", "on", "rows", "challenger", "champion", "p", "passed"],
            [
                [
                    check["test"],
                    check.get("on"),
                    check.get("rows"),
                    *(format_metric(check.get(key)) for key in ("challenger", "champion", "p")),
                    {True: "yes", False: "no"}.get(check.get("passed"), ""),
                ]
                for check in evidence_lists[-1]
            ],
        )


def _summarize_recipe(recipe: dict[str, Any]) -> str:
    training = recipe.get("training") or {}
    return ", ".join(
        [
            str(recipe.get("base_model")),
            *(f"{name} {training.get(name)}" for name in ("epochs", "learning_rate", "tokens_per_batch", "seed")),
        ]
    )


def _list_libraries(environment: dict[str, Any]) -> list[tuple[str, Any]]:
    return list((environment.get("libraries") or {}).items())


def _describe_descent(model: dict[str, Any]) -> str:
    """The versions, or the other model, that it has its weights or what it was taught from."""
    teacher_name = (
        f"version {model['teacher_version']}" if model["teacher_version"] else f"a model of digest {model['teacher']}"
    )
    return ", ".join(
        [
            *([f"version {model['of']}, as a variant: {model['variant']}"] if model["of"] else []),
            *([f"version {model['start']}, the champion that training started from"] if model["start"] else []),
            *([f"{teacher_name}, its teacher"] if model["teacher"] else []),
        ]
    )


def _describe_snapshot(rows: dict[str, Any]) -> str:
    if rows["snapshot"] is None:
        return str(rows["problem"])
    return f"{rows['snapshot']}, fingerprint {rows['fingerprint']}{_describe_rows_state(rows)}"


def _describe_rows_state(rows: dict[str, Any]) -> str:
    if "problem" in rows:
        return f"; {rows['problem']}"
    if rows["forgotten"] and all(count == rows["forgotten"].get(split, 0) for split, count in rows["gone"].items()):
        return ", all its rows are there but those that were forgotten"
    return ", its rows are still those" if rows["unchanged"] else ", but its rows are NOT those any more"


def _format_counts(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in rows.items())


def _describe_replaced(record: dict[str, Any]) -> str:
    """The versions in whose place it came."""
    version = record["model"]["version"]
    before = [move["from"] for move in record["moves"] if move["to"] == version]
    if not before:
        return "nothing: it was never champion"
    return ", ".join(
        "nothing: it was the first champion" if previous is None else f"version {previous}" for previous in before
    )


def _describe_move(entry: dict[str, Any]) -> str:
    if entry["event"] in {"moved", "external"}:
        return f"champion: version {entry['from'] or 'none'} to {entry['to']}"
    return str(entry["event"])
