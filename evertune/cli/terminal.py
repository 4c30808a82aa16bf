"""Output for people: log lines while a command works, short tables at the end.

All of it goes to standard error, except for results.
"""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"promoted": "green", "held": "yellow", "rejected": "red", "unchanged": "cyan"}


def make_console(stderr: bool = True) -> "Console":
    """Return a rich console. The terminal wraps long lines itself, so that paths can be copied."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


class StepLines(logging.Handler):
    """Prints the library's log as lines with the seconds since the start."""

    def __init__(self, console: "Console") -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._start = time.perf_counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        from rich.markup import escape

        style = {"WARNING": "yellow", "ERROR": "red"}.get(record.levelname, "default")
        seconds = time.perf_counter() - self._start
        self._console.print(f"[dim]{seconds:6.1f} s[/dim]  [{style}]{escape(record.getMessage())}[/{style}]")


def follow_log(console: "Console") -> None:
    """Print what the library and the tasks log, from level INFO on."""
    logger = logging.getLogger("evertune")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [StepLines(console)]


def print_table(console: "Console", columns: Sequence[str], rows: Sequence[Sequence[object]], right: int = 99) -> None:
    """Print rows as a table.

    Args:
        columns: headings; empty ones print no heading line.
        right: index of the first column that is aligned to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    has_headings = any(columns)
    grid = Table(
        box=SIMPLE_HEAD if has_headings else None, show_header=has_headings, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for index, name in enumerate(columns):
        grid.add_column(name, justify="right" if index >= right else "left", overflow="fold", min_width=len(name))
    for row in rows:
        grid.add_row(*["" if value is None else escape(str(value)) for value in row])
    console.print(grid)


def format_rows(count: int) -> str:
    """Return a number of rows in words, such as `1 row` or `2,000 rows`."""
    return f"{count:,} row{'' if count == 1 else 's'}"


def format_metric(value: float | None) -> str:
    """Return a metric with four digits, or `-` if it is undefined."""
    return "-" if value is None else f"{value:.4f}"
