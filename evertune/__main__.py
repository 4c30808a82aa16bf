"""`python -m evertune`."""

from evertune.cli import main

main()
