"""`evertune`: the group of commands, and how an error becomes a message and an exit status.

Commands are imported when they are called, so that `evertune --help` answers at once.
"""

import atexit
import gc
import importlib
import logging
import sys

import click

from evertune import __version__
from evertune.cli.errors import explain_error
from evertune.runtime.environment import prepare_environment

COMMANDS = {
    "new": ("evertune.cli.new", "Inspect data and write a recipe for it."),
    "check": ("evertune.cli.check", "List every error of a recipe, and show how its rows are read."),
    "run": ("evertune.cli.run", "Ingest fresh rows, fine-tune a challenger, promote it on evidence."),
    "search": ("evertune.cli.search", "Find the best values of the fields that a recipe leaves open."),
    "up": ("evertune.cli.server.up", "Start Prefect, MLflow and a worker on this machine."),
    "score": ("evertune.cli.score", "Predict every row of a file with the champion."),
    "history": ("evertune.cli.decisions", "Show every decision and alias change of a model."),
    "report": ("evertune.cli.report", "Write a model's history as one HTML page."),
    "trace": ("evertune.cli.trace", "Show which rows, recipe and code made a version, and who promoted it."),
    "compress": ("evertune.cli.compress", "Make a smaller or faster variant of a version, and compare the two."),
    "reproduce": ("evertune.cli.reproduce", "Train a version again from its record, and compare the two."),
    "promote": ("evertune.cli.decisions", "Make a version champion by hand."),
    "approve": ("evertune.cli.decisions", "Make a version champion that waits for approval."),
    "reject": ("evertune.cli.decisions", "Turn down a version that waits for approval."),
    "rollback": ("evertune.cli.decisions", "Make the previous champion champion again."),
    "monitor": ("evertune.cli.monitor", "Test new rows for drift."),
    "backtest": ("evertune.cli.backtest", "Replay the past under several retraining policies."),
    "gate": ("evertune.cli.gate", "Try another gate on a kept backtest, in seconds."),
    "forget": ("evertune.cli.forget", "Remove a person's rows from everything that Evertune keeps."),
    "clean": ("evertune.cli.clean", "List files that no run needs any more, and remove them."),
    "review": ("evertune.cli.review", "Show accepted rows whose labels are doubtful."),
    "quarantine": ("evertune.cli.quarantine", "Show refused rows, export them, release corrected ones."),
}


class LazyCommands(click.Group):
    """A group whose commands are imported when they are called: click's documented hook for lazy loading."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; the error for a mistyped name suggests the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            if near := get_close_matches(args[0], COMMANDS, 1):
                raise click.UsageError(f"{error.message} Did you mean {near[0]}?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="evertune")
@click.option("--debug", is_flag=True, help="Show tracebacks and all log lines.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Continuous fine-tuning that ships only on evidence.

    Exit status: 0 the command finished, whatever the gate decided; 2 config error, 3 data error or full disk,
    4 training error, 5 registry error, 130 interrupted.
    """
    ctx.obj = {"debug": debug}
    prepare_environment()
    logging.basicConfig(
        level=logging.INFO if debug else logging.CRITICAL, format="%(name)s: %(message)s", stream=sys.stderr
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with the documented status."""
    debug = "--debug" in (sys.argv if arguments is None else arguments)
    gc.set_threshold(100_000)  # at the default, collections took a fifth of the time of large imports
    atexit.register(gc.freeze)  # a last collection at the end took three seconds
    try:
        sys.exit(cli.main(args=arguments, prog_name="evertune", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; the next run continues after the last finished step", err=True)
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
