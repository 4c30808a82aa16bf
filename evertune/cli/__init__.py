"""The command line: the only part of the package that stands above the flows and calls them."""

from evertune.cli.app import COMMANDS, cli, main

__all__ = ["COMMANDS", "cli", "main"]
