"""One process of a search, started by `processes`: `-m evertune.search.worker ORDER`."""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TypedDict

from evertune.errors import EvertuneError
from evertune.runtime import ipc


class Failure(TypedDict):
    """The error that ended a process: name of its class, its message, and whether it is one of `evertune.errors`."""

    kind: str
    text: str
    ours: bool


def main(order: str) -> None:
    """Run trials until all have ended, and report on standard output.

    Args:
        order: path of the order's file.
    """
    ipc.watch_parent(stdin=True)
    send = ipc.reserve_stdout()
    _forward_logs(send)
    from evertune.search.work import SearchOrder, run_trials

    try:
        run_trials(SearchOrder.from_json(Path(order).read_text(encoding="utf-8")))
    except Exception as error:
        traceback.print_exc()
        send(failed=Failure(kind=type(error).__name__, text=str(error), ours=isinstance(error, EvertuneError)))
        os._exit(1)  # threads that send metrics would block a normal exit


def _forward_logs(send: ipc.Tell) -> None:
    """Send the log of the trials, but only warnings of their trainings, several of which run at a time."""
    logging.basicConfig(level=logging.WARNING)
    logger = logging.getLogger("evertune")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.addHandler(ipc.LogSender(send))
    logging.getLogger("evertune.search").setLevel(logging.INFO)


if __name__ == "__main__":
    main(sys.argv[1])
