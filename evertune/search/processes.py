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
from evertune.runtime import helper_process
from evertune.runtime.files import write_atomic
from evertune.search.work import Order, run_trials

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


def run_processes(order: Order, jobs: int) -> None:
    """Do the work in so many processes; one that is killed leaves its trial to the others.

    Raises:
        EvertuneError: as `work`; the other processes are ended.
        TrainingError: all processes were killed.
        RuntimeError: what nobody expected, with the name of the log.
    """
    if jobs == 1:
        run_trials(order)
        return
    path = order.own.model / f"order-{os.getpid()}.json"
    write_atomic(path, to_json(order))
    with _start_workers(path, jobs) as workers:
        alive = list(workers)
        while alive:
            time.sleep(LOOK)
            for worker in [worker for worker in alive if worker.process.poll() is not None]:
                alive.remove(worker)
                _check_exit(worker, len(alive))
    path.unlink()


def to_json(order: Order) -> str:
    """The order as it is written for the processes."""
    return str(_make_adapter().dump_json(order).decode())


def from_json(text: str) -> Order:
    """The order that was written."""
    order: Order = _make_adapter().validate_json(text)
    return order


def _make_adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Order)


def _check_exit(worker: Worker, others: int) -> None:
    if worker.reader is not None:
        worker.reader.join()
    status = worker.process.returncode
    if worker.failed is not None and worker.failed["ours"]:
        raise getattr(errors, worker.failed["kind"])(worker.failed["text"])
    if status > 0 or worker.failed is not None:
        raise RuntimeError(f"a process of the search ended with status {status}; {worker.log} says why")
    if status < 0:
        if not others:
            raise TrainingError(
                f"the processes of the search ended by signal {-status}; mostly that is the system, out of memory: "
                "give fewer --jobs and run again: it goes on"
            )
        logger.warning("a process of the search was ended by signal %d; the others go on with its trial", -status)


@contextlib.contextmanager
def _start_workers(order_path: Path, jobs: int) -> Iterator[list[Worker]]:
    """Processes in sessions of their own: Ctrl-C reaches this one alone, which ends the others."""
    cores = len(os.sched_getaffinity(0))
    threads = {"OMP_NUM_THREADS": str(max(1, cores // jobs)), "OMP_WAIT_POLICY": "PASSIVE"}
    workers: list[Worker] = []
    try:
        for number in range(1, jobs + 1):
            log = order_path.with_name(f"process-{number}.txt")
            with log.open("wb") as stderr:
                process = subprocess.Popen(
                    [sys.executable, "-m", "evertune.search.worker", str(order_path)],
                    env={**threads, **helper_process.build_environment()},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )
            workers.append(Worker(process, log))
            workers[-1].reader = threading.Thread(target=_forward_messages, args=(workers[-1],), daemon=True)
            workers[-1].reader.start()
        yield workers
    finally:
        for worker in workers:
            _stop_worker(worker)


def _forward_messages(worker: Worker) -> None:
    """Pass on what the process says, until it is gone."""
    for line in worker.process.stdout or ():
        match json.loads(line):
            case {"log": [name, level, text]}:
                logging.getLogger(name).log(level, "%s", text)
            case {"failed": failure}:
                worker.failed = failure


def _stop_worker(worker: Worker) -> None:
    """It ends once nobody holds its standard input, and its own processes with it."""
    if worker.process.stdin is not None:
        worker.process.stdin.close()
    try:
        worker.process.wait(GRACE)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()
    if worker.reader is not None:
        worker.reader.join()
    if worker.process.stdout is not None:
        worker.process.stdout.close()
