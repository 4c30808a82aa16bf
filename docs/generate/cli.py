"""Generates docs/reference/cli.md: usage, options and an example of every command, from the click commands."""

# ruff: noqa: E501 (a table cell must stay on one line)

import inspect
import re
from collections.abc import Iterator

import click

from evertune.cli import COMMANDS, cli

HEAD = """# Command line

`evertune` works on recipes. `python -m evertune` does the same.

```console
$ evertune COMMAND RECIPE [OPTIONS]
$ evertune COMMAND --help
```

This page is generated from the commands. See also [exit codes](exit-codes.md) and [JSON output](json-output.md).

## Overview
"""

GLOBAL_OPTIONS = """
## Options of every command

`--debug` and `--version` stand before the command; `--help` stands anywhere.

```console
$ evertune --debug run recipe.yaml
$ evertune --version
```

"""

# Help for options that have none of their own.
OPTION_HELP = {"--prefect-file": "File with the deployments to register."}
NOTES = {
    "new": "It tries the contract that it is about to write. The recipe names the rows that are refused now, and its `tolerance` lets them pass.",
    "check": "It looks at up to 10,000 rows, evenly spaced over every source (of a source of many files, at 16 of them). It judges them as a run "
    "with an empty corpus would, and keeps nothing. With more rows its shares are estimates.",
    "run": "One run of a recipe works at a time. With nothing new it says `unchanged` before it imports torch or starts Prefect.",
    "up": "The servers listen on 127.0.0.1 only. Prefect's server asks for the key in the file `prefect-key` of the home; MLflow's asks for none.",
    "score": "The output has all rows in their order, with all columns of the input, and beside them the prediction, `model_version` and `problem`. A "
    "column of the input with one of these names becomes `input_NAME`.",
    "history": "It only reads the ledger. A move that others made through MLflow is in it after the next run, promotion or rollback.",
    "rollback": "A second rollback goes back one further, never to the version that was left.",
    "reproduce": "Exit code 4 means that the new model is not the same. [Audit](../explanation/audit.md#reproduce-train-it-again) says what is guaranteed.",
    "forget": "[Audit](../explanation/audit.md#forget-remove-a-persons-rows) lists what goes, what stays and what is out of reach.",
    "clean": "[Growth](../explanation/growth.md) says what is bounded and what stays for ever.",
    "search": "[Search](../explanation/search.md) explains what a trial is.",
    "compress": "[Compression](../explanation/compression.md) explains the methods and the limits.",
    "monitor": "[Drift](../explanation/drift.md) explains the tests.",
    "backtest": "[Backtest](../explanation/backtest.md) explains the policies.",
    "gate try": "It needs a backtest of the same recipe, apart from its gate. It trains nothing and reads no source.",
}
EXAMPLES = {
    "new": "evertune new my-model --data my.csv --text message --label intent",
    "check": "evertune check my-model.yaml",
    "run": "evertune run my-model.yaml --set training.epochs=2",
    "search": "evertune search my-model.yaml --set 'training.learning_rate={search: [1e-4, 1e-3], log: true}' --trials 12",
    "up": "evertune up --port 4201 --mlflow-port 5001",
    "score": "evertune score my-model.yaml --input new.csv --output labelled.csv",
    "history": "evertune history my-model.yaml",
    "report": "evertune report my-model.yaml --open",
    "trace": "evertune trace my-model.yaml --version 3",
    "compress": "evertune compress my-model.yaml --method int8 --speedup 1.2",
    "reproduce": "evertune reproduce my-model.yaml --version 3",
    "promote": 'evertune promote my-model.yaml --version 3 --reason "the new intents matter more"',
    "approve": 'evertune approve my-model.yaml --version 4 --reason "checked the report"',
    "reject": 'evertune reject my-model.yaml --version 4 --reason "too slow on long texts"',
    "rollback": 'evertune rollback my-model.yaml --reason "complaints since Monday"',
    "monitor": "evertune monitor my-model.yaml --input this-week.csv",
    "backtest": "evertune backtest my-model.yaml --every week --policies never,always,gated",
    "gate try": "evertune gate try my-model.yaml --set evaluation.gate.caution=12 --gates proof,thresholds",
    "forget": 'evertune forget my-model.yaml --id C-4711 --reason "request of 3 May" --dry-run',
    "clean": "evertune clean my-model.yaml --yes",
    "review": "evertune review tickets.yaml --export doubtful.csv",
    "quarantine": "evertune quarantine my-model.yaml --export refused.csv",
}


def page() -> str:
    """Return the page as Markdown."""
    overview = render_overview()
    global_options = "\n".join(render_options(cli))
    return "\n".join([HEAD, *overview, GLOBAL_OPTIONS + global_options, "", *render_commands()])


def render_overview() -> Iterator[str]:
    """Yield the lines of the table of all commands."""
    yield "| command | does | `--json` |\n|---|---|---|"
    for name, command in list_commands():
        has_json = any("--json" in parameter.opts for parameter in command.params)
        summary = COMMANDS[name.split()[0]][1]
        yield f"| [`evertune {name}`](#evertune-{name.replace(' ', '-')}) | {summary} | {'yes' if has_json else ''} |"


def render_commands() -> Iterator[str]:
    """Yield a section for each command: help, usage, options, notes and an example."""
    for name, command in list_commands():
        context = click.Context(command)
        arguments = [
            parameter.make_metavar(context) for parameter in command.params if isinstance(parameter, click.Argument)
        ]
        usage = " ".join([name, *arguments, "[OPTIONS]"])
        yield f"## `evertune {name}`\n\n{format_help(command)}\n"
        yield f"```text\nevertune {usage}\n```\n"
        yield from render_options(command)
        yield f"\n{NOTES[name]}" if name in NOTES else ""
        yield f"\nExample:\n\n```console\n$ {EXAMPLES[name]}\n```\n"


def list_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name; of a group its commands, such as `gate try`."""
    for name in COMMANDS:
        command = load_command(name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", inner) for part, inner in command.commands.items())
        else:
            yield name, command


def load_command(name: str) -> click.Command:
    """Return the click command of this name."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    return command


def format_help(command: click.Command) -> str:
    """Return a command's help with each paragraph on one line."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or ""))


def render_options(command: click.Command) -> Iterator[str]:
    """Yield the lines of the table of a command's options."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    yield "| option | value | default | meaning |\n|---|---|---|---|"
    for option in options:
        yield render_option(option)
    if not options:
        yield "| none | | | |"


def render_option(option: click.Option) -> str:
    """Return the table row of an option."""
    names = ", ".join(f"`{name}`" for name in option.opts)
    meaning = (option.help or OPTION_HELP[option.opts[0]]).replace("|", "\\|")
    if option.multiple and not re.search("often|epeat", meaning):  # many help texts say it themselves
        meaning += " Repeatable."
    return f"| {names} | {describe_value(option)} | {format_default(option)} | {meaning} |"


def describe_value(option: click.Option) -> str:
    """Return what values an option takes, or "" for a flag."""
    value_type = option.type
    if option.is_flag:
        return ""
    if isinstance(value_type, click.Choice):
        return " or ".join(f"`{choice}`" for choice in value_type.choices)
    if isinstance(value_type, (click.IntRange, click.FloatRange)):
        return describe_range(value_type)
    if option.metavar:
        return f"`{option.metavar}`"
    type_names = {
        "integer": "whole number",
        "float": "number",
        "path": "path",
        "file": "path",
        "filename": "path",
        "text": "text",
    }
    return type_names[value_type.name]


def describe_range(value_type: click.IntRange | click.FloatRange) -> str:
    """Return the kind of number and its bounds, such as "number, > 0, ≤ 1"."""
    description = "whole number" if isinstance(value_type, click.IntRange) else "number"
    if value_type.min is not None:
        description += f", {'>' if value_type.min_open else '≥'} {value_type.min}"
    if value_type.max is not None:
        description += f", ≤ {value_type.max}"
    return description


def format_default(option: click.Option) -> str:
    """Return an option's default, "required", or "" where a default would tell nothing."""
    if option.required:
        return "required"
    value = option.default
    is_unset = value is None or "UNSET" in repr(value).upper()  # some click versions mark "no default" by an object
    if option.is_flag or option.multiple or is_unset:
        return ""
    return f"`{value}`"
