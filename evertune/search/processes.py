"""The processes of a search: this one, or several that take trials from the same journal."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evertune import errors
from evertune.errors import TrainingError
from evertune.runtime import helper_process as beside
from evertune.runtime.files import write_atomic
from evertune.search.work import Order, work

logger = logging.getLogger(__name__)
LOOK = 0.2  # seconds between two looks at the processes
GRACE = 10.0  # seconds that a process has to end by itself


@dataclass
class Worker:
    """A process at work, the error that it told of, and the file that has what it wrote."""

    process: "subprocess.Popen[bytes]"
    log: Path
    failed: dict[str, Any] | None = None
    reader: threading.Thread | None = field(default=None, repr=False)


def run(order: Order, jobs: int) -> None:
    """Do the work in so many processes; one that is killed leaves its trial to the others.

    Raises:
        EvertuneError: as `work`; the other processes are ended.
        TrainingError: all processes were killed.
        RuntimeError: what nobody expected, with the name of the log.
    """
    if jobs == 1:
        work(order)
        return
    path = order.own.model / f"order-{os.getpid()}.json"
    write_atomic(path, to_json(order))
    with _started(path, jobs) as workers:
        alive = list(workers)
        while alive:
            time.sleep(LOOK)
            for one in [one for one in alive if one.process.poll() is not None]:
                alive.remove(one)
                _ended(one, len(alive))
    path.unlink()


def to_json(order: Order) -> str:
    """The order as it is written for the processes."""
    return str(_adapter().dump_json(order).decode())


def from_json(text: str) -> Order:
    """The order that was written."""
    order: Order = _adapter().validate_json(text)
    return order


def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Order)


def _ended(one: Worker, others: int) -> None:
    if one.reader is not None:
        one.reader.join()
    status = one.process.returncode
    if one.failed is not None and one.failed["ours"]:
        raise getattr(errors, one.failed["kind"])(one.failed["text"])
    if status > 0 or one.failed is not None:
        raise RuntimeError(f"a process of the search ended with status {status}; {one.log} says why")
    if status < 0:
        if not others:
            raise TrainingError(
                f"the processes of the search ended by signal {-status}; mostly that is the system, out of memory: "
                "give fewer --jobs and run again: it goes on"
            )
        logger.warning("a process of the search was ended by signal %d; the others go on with its trial", -status)


@contextlib.contextmanager
def _started(order: Path, jobs: int) -> Iterator[list[Worker]]:
    """Processes in sessions of their own: Ctrl-C reaches this one alone, which ends the others."""
    cores = len(os.sched_getaffinity(0))
    threads = {"OMP_NUM_THREADS": str(max(1, cores // jobs)), "OMP_WAIT_POLICY": "PASSIVE"}
    workers: list[Worker] = []
    try:
        for number in range(1, jobs + 1):
            log = order.with_name(f"process-{number}.txt")
            with log.open("wb") as said:
                process = subprocess.Popen(
                    [sys.executable, "-m", "evertune.search.worker", str(order)],
                    env={**threads, **beside.environment()}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                    start_new_session=True,
                )  # fmt: skip
            workers.append(Worker(process, log))
            workers[-1].reader = threading.Thread(target=_listen, args=(workers[-1],), daemon=True)
            workers[-1].reader.start()
        yield workers
    finally:
        for one in workers:
            _end(one)


def _listen(one: Worker) -> None:
    """Pass on what the process says, until it is gone."""
    for line in one.process.stdout or ():
        match json.loads(line):
            case {"log": [name, level, text]}:
                logging.getLogger(name).log(level, "%s", text)
            case {"failed": failure}:
                one.failed = failure


def _end(one: Worker) -> None:
    """It ends once nobody holds its standard input, and its own processes with it."""
    if one.process.stdin is not None:
        one.process.stdin.close()
    try:
        one.process.wait(GRACE)
    except subprocess.TimeoutExpired:
        one.process.kill()
        one.process.wait()
    if one.reader is not None:
        one.reader.join()
    if one.process.stdout is not None:
        one.process.stdout.close()
