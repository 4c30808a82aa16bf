"""`evertune trace`: from a version back to rows, recipe, code, and the people who moved it."""

from typing import Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, number, table

MACHINE = ("platform", "python", "cpus", "threads", "arithmetic", "base_model")


@click.command()
@options.recipe
@click.option("--version", type=int, help="Registered version. Default: the champion.")
@options.as_json
def trace(recipe: str, version: int | None, as_json: bool) -> None:
    """Tell which rows, recipe and code made a version, who or what promoted it, and what it replaced."""
    from evertune.audit import trace as tracing
    from evertune.config import load
    from evertune.errors import RegistryError
    from evertune.registry.versions import versions as models
    from evertune.runtime.home import home_of

    loaded = load(recipe, for_data=False)
    home = home_of(loaded)
    wanted = version if version is not None else models.champion(home, loaded.registered_name)
    if wanted is None:
        raise RegistryError(f"{loaded.registered_name} has no champion yet; name one with --version")
    found = tracing.trace(loaded, home, wanted)
    if as_json:
        show_json(found)
    else:
        _show(console(stderr=False), found)


def _show(screen: Any, found: dict[str, Any]) -> None:
    model, run, rows = found["model"], found["run"], found["rows"]
    aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    lines = [
        ["model", f"{model['name']}, version {model['version']}{aliases}, registered {model['registered']}"],
        ["run", f"{model['run_id']}, {run['started']} to {run['ended']}, by {run['who']}" if run["started"] else ""],
        ["code", model["code"]],
        ["bundle", model["bundle"]],
        *([["descends from", _descent(model)]] if _descent(model) else []),
        ["recipe", f"{found['recipe'].get('name')}: {_recipe(found['recipe'])}" if found["recipe"] else ""],
        ["libraries", ", ".join(f"{name} {value}" for name, value in _libraries(found["environment"]))],
        ["snapshot", _snapshot(rows)],
        ["rows", ", ".join(f"{count:,} {split}" for split, count in rows.get("splits", {}).items())],
        *([["forgotten since", _counts(rows["forgotten"])]] if rows.get("forgotten") else []),
        *(
            ["its forebears have seen", f"version {one['version']}: {_counts(one['forgotten'])}, forgotten since"]
            for one in rows.get("descent", ())
            if one["forgotten"]
        ),
        [
            "machine",
            ", ".join(f"{name} {found['environment'][name]}" for name in MACHINE if name in found["environment"]),
        ],
        ["replaced", _replaced(found)],
    ]
    table(screen, ["", ""], lines)
    if sources := rows.get("sources"):
        screen.print("\nsources")
        table(
            screen,
            ["source", "rows", "digest"],
            [[one["source"], f"{one['rows']:,}", one["digest"]] for one in sources],
        )
    screen.print("\ndecisions and moves")
    table(screen, ["time (UTC)", "what", "who", "why"], [
        [one["time"][:16].replace("T", " "), one.get("verdict") or _move(one), one["who"], one.get("reason")]
        for one in sorted([*found["decisions"], *found["moves"]], key=lambda one: one["time"])
    ])  # fmt: skip
    _evidence(screen, found)


def _evidence(screen: Any, found: dict[str, Any]) -> None:
    told = [one["evidence"] for one in found["decisions"] if one.get("evidence")]
    if told:
        screen.print("\nevidence")
        table(screen, ["test", "on", "rows", "challenger", "champion", "p", "passed"], [
            [one["test"], one.get("on"), one.get("rows"), *(number(one.get(key)) for key in
             ("challenger", "champion", "p")), {True: "yes", False: "no"}.get(one.get("passed"), "")]
            for one in told[-1]
        ])  # fmt: skip


def _recipe(recipe: dict[str, Any]) -> str:
    training = recipe.get("training") or {}
    return ", ".join([str(recipe.get("base_model")), *(f"{name} {training.get(name)}" for name in
                     ("epochs", "learning_rate", "tokens_per_batch", "seed"))])  # fmt: skip


def _libraries(environment: dict[str, Any]) -> list[tuple[str, Any]]:
    return list((environment.get("libraries") or {}).items())


def _descent(model: dict[str, Any]) -> str:
    """The versions, or the other model, that it has its weights or what it was taught from."""
    taught = (
        f"version {model['teacher_version']}" if model["teacher_version"] else f"a model of digest {model['teacher']}"
    )
    return ", ".join([
        *([f"version {model['of']}, as a variant: {model['variant']}"] if model["of"] else []),
        *([f"version {model['start']}, the champion that training started from"] if model["start"] else []),
        *([f"{taught}, its teacher"] if model["teacher"] else []),
    ])  # fmt: skip


def _snapshot(rows: dict[str, Any]) -> str:
    if rows["snapshot"] is None:
        return str(rows["problem"])
    return f"{rows['snapshot']}, fingerprint {rows['fingerprint']}{_still(rows)}"


def _still(rows: dict[str, Any]) -> str:
    if "problem" in rows:
        return f"; {rows['problem']}"
    if rows["forgotten"] and all(count == rows["forgotten"].get(split, 0) for split, count in rows["gone"].items()):
        return ", all its rows are there but those that were forgotten"
    return ", its rows are still those" if rows["unchanged"] else ", but its rows are NOT those any more"


def _counts(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in rows.items())


def _replaced(found: dict[str, Any]) -> str:
    """The versions in whose place it came."""
    version = found["model"]["version"]
    before = [one["from"] for one in found["moves"] if one["to"] == version]
    if not before:
        return "nothing: it was never champion"
    return ", ".join("nothing: it was the first champion" if one is None else f"version {one}" for one in before)


def _move(entry: dict[str, Any]) -> str:
    if entry["event"] in {"moved", "external"}:
        return f"champion: version {entry['from'] or 'none'} to {entry['to']}"
    return str(entry["event"])
