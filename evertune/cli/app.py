"""`evertune`: the group of commands, and how an error becomes a message and an exit status.

Commands are imported when they are called, so that `evertune --help` answers at once.
"""

import atexit
import gc
import importlib
import logging
import os
import sys
from typing import Any

import click

from evertune import __version__
from evertune.cli.errors import explain_error

COMMANDS = {
    "new": ("evertune.cli.new", "Look at data and write a recipe for it."),
    "check": ("evertune.cli.check", "Find every error of a recipe, and show a sample of its rows."),
    "run": ("evertune.cli.run", "Take in fresh rows, fine-tune a challenger, promote it on evidence."),
    "search": ("evertune.cli.search", "Find the best values of a recipe's open fields."),
    "up": ("evertune.cli.server.up", "Start Prefect, MLflow and a worker here, with the deployments."),
    "score": ("evertune.cli.score", "Predict a file with the champion."),
    "history": ("evertune.cli.decisions", "Show every decision and alias change of a model."),
    "report": ("evertune.cli.report", "Write a model's whole history as one HTML page."),
    "trace": ("evertune.cli.trace", "Tell which rows, recipe and code made a version, and who promoted it."),
    "compress": ("evertune.cli.compress", "Make a smaller or faster variant of a version, and compare."),
    "reproduce": ("evertune.cli.reproduce", "Train a version again from its record, and compare."),
    "promote": ("evertune.cli.decisions", "Make a version champion by hand."),
    "approve": ("evertune.cli.decisions", "Make a waiting version champion."),
    "reject": ("evertune.cli.decisions", "Turn a waiting version down."),
    "rollback": ("evertune.cli.decisions", "Make the champion's predecessor champion again."),
    "monitor": ("evertune.cli.monitor", "Look for drift in rows that the champion was not trained on."),
    "backtest": ("evertune.cli.backtest", "Replay the past under several retraining policies."),
    "forget": ("evertune.cli.forget", "Remove a person's rows from everything that is kept."),
    "clean": ("evertune.cli.clean", "List what no run needs any more, and remove it."),
    "quarantine": ("evertune.cli.quarantine", "Show refused rows, export them, put mended rows back."),
}


class LazyCommands(click.Group):
    """A group whose commands are imported when they are called: click's documented hook for lazy loading."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None where there is no such."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; a mistyped one is told with the nearest that there is."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            if near := get_close_matches(args[0], COMMANDS, 1):
                raise click.UsageError(f"{error.message} Did you mean {near[0]}?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="evertune")
@click.option("--debug", is_flag=True, help="Show tracebacks and all log lines.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Continuous fine-tuning that never ships a worse model.

    Exit status: 0 the flow ended, whatever the gate decided; 2 a config error, 3 a data error, 4 a training error,
    5 a registry error, 130 interrupted.
    """
    ctx.obj = {"debug": debug}
    _prepare_environment()
    logging.basicConfig(
        level=logging.INFO if debug else logging.CRITICAL, format="%(name)s: %(message)s", stream=sys.stderr
    )


def _prepare_environment() -> None:
    """What the libraries read when they are imported; what the user has set stands."""
    for name, value in {
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",  # those that libraries draw unasked; ours are asked for
        "TRANSFORMERS_VERBOSITY": "error",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # Threads that spin while they wait make two processes on one machine six times slower (docs/decisions).
        "OMP_WAIT_POLICY": "PASSIVE",
    }.items():
        os.environ.setdefault(name, value)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with the documented status."""
    debug = "--debug" in (sys.argv if arguments is None else arguments)
    gc.set_threshold(100_000)  # looking through what large imports leave, again and again, took a fifth of their time
    atexit.register(gc.freeze)  # and once more at the end took three seconds
    try:
        sys.exit(cli.main(args=arguments, prog_name="evertune", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; the next run goes on from the last finished step", err=True)
        _flush_and_exit(130)
    except Exception as error:
        if debug:
            raise
        text, status = explain_error(error)
        click.echo(f"error: {text}", err=True)
        _flush_and_exit(status)


def _flush_and_exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)


def show_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, default=str))
