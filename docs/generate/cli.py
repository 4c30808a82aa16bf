"""docs/reference/cli.md: every command with its usage, options and an example, from the click commands themselves."""

# ruff: noqa: E501 (a cell of a table is one line)

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

GLOBAL = """
## Options of every command

`--debug` and `--version` stand before the command; `--help` stands anywhere.

```console
$ evertune --debug run recipe.yaml
$ evertune --version
```

"""

HELP = {"--prefect-file": "File with the deployments to register."}  # options without a help text
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
    "forget": 'evertune forget my-model.yaml --id C-4711 --reason "request of 3 May" --dry-run',
    "clean": "evertune clean my-model.yaml --yes",
    "quarantine": "evertune quarantine my-model.yaml --export refused.csv",
}


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([HEAD, *_overview(), GLOBAL + "\n".join(_options(cli)), "", *_commands()])


def _overview() -> Iterator[str]:
    yield "| command | does | `--json` |\n|---|---|---|"
    for name, (_, text) in COMMANDS.items():
        json = "yes" if any("--json" in one.opts for one in _command(name).params) else ""
        yield f"| [`evertune {name}`](#evertune-{name}) | {text} | {json} |"


def _commands() -> Iterator[str]:
    for name in COMMANDS:
        command = _command(name)
        arguments = [
            one.make_metavar(click.Context(command)) for one in command.params if isinstance(one, click.Argument)
        ]
        yield f"## `evertune {name}`\n\n{_sentences(command)}\n"
        yield f"```text\nevertune {' '.join([name, *arguments, '[OPTIONS]'])}\n```\n"
        yield from _options(command)
        yield f"\n{NOTES[name]}" if name in NOTES else ""
        yield f"\nExample:\n\n```console\n$ {EXAMPLES[name]}\n```\n"


def _command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, name
    return found


def _sentences(command: click.Command) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or ""))


def _options(command: click.Command) -> Iterator[str]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    yield "| option | value | default | meaning |\n|---|---|---|---|"
    for option in options:
        names = ", ".join(f"`{one}`" for one in option.opts)
        told = (option.help or HELP[option.opts[0]]).replace("|", "\\|")
        again = " Repeatable." if option.multiple and not re.search("often|epeat", told) else ""
        yield f"| {names} | {_value(option)} | {_default(option)} | {told}{again} |"
    if not options:
        yield "| none | | | |"


def _value(option: click.Option) -> str:
    kind = option.type
    if option.is_flag:
        return ""
    if isinstance(kind, click.Choice):
        return " or ".join(f"`{one}`" for one in kind.choices)
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        word = "whole number" if isinstance(kind, click.IntRange) else "number"
        low = "" if kind.min is None else f", {'>' if kind.min_open else '≥'} {kind.min}"
        return word + low + ("" if kind.max is None else f", ≤ {kind.max}")
    names = {"integer": "whole number", "float": "number", "path": "path", "text": "text"}
    return (
        f"`{option.metavar}`"
        if option.metavar
        else names[kind.name.replace("filename", "path").replace("file", "path")]
    )


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    value = option.default
    if option.is_flag or option.multiple or value is None or "UNSET" in repr(value).upper():
        return ""
    return f"`{value}`"
