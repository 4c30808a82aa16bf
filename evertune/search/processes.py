"""Run a search in this process, or in several that take trials from the same journal."""

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
from typing import TYPE_CHECKING

from evertune import errors
from evertune.errors import TrainingError
from evertune.runtime import helper_process
from evertune.runtime.files import write_atomic
from evertune.search.work import SearchOrder, run_trials

if TYPE_CHECKING:
    from evertune.search.worker import Failure

logger = logging.getLogger(__name__)
LOOK = 0.2  # seconds between two checks of the processes
GRACE = 10.0  # seconds that a process gets to end by itself


@dataclass
class Worker:
    """A process of the search, the file with its standard error, and the error that it reported."""

    process: "subprocess.Popen[bytes]"
    log: Path
    failed: "Failure | None" = None
    reader: threading.Thread | None = field(default=None, repr=False)


def run_processes(order: SearchOrder, jobs: int) -> None:
    """Run the trials in `jobs` processes; if one is killed, the others resume its trial.

    Raises:
        EvertuneError: as `run_trials`; the other processes are ended.
        TrainingError: all processes were killed.
        RuntimeError: an unexpected error; the message names the log.
    """
    if jobs == 1:
        run_trials(order)
        return
    path = order.search_home.model / f"order-{os.getpid()}.json"
    write_atomic(path, order.to_json())
    with _start_workers(path, jobs) as workers:
        alive = list(workers)
        while alive:
            time.sleep(LOOK)
            ended = [worker for worker in alive if worker.process.poll() is not None]
            for worker in ended:
                alive.remove(worker)
                _check_exit(worker, len(alive))
    path.unlink()


def _check_exit(worker: Worker, others: int) -> None:
    if worker.reader is not None:
        worker.reader.join()
    status = worker.process.returncode
    if worker.failed is not None and worker.failed["ours"]:
        raise getattr(errors, worker.failed["kind"])(worker.failed["text"])
    if status > 0 or worker.failed is not None:
        raise RuntimeError(f"a process of the search ended with status {status}; see {worker.log}")
    if status < 0:
        if not others:
            raise TrainingError(
                f"all processes of the search were killed, the last one by signal {-status}; the system is probably "
                "out of memory: set fewer --jobs and run again to resume the search"
            )
        logger.warning("a process of the search was killed by signal %d; another one resumes its trial", -status)


@contextlib.contextmanager
def _start_workers(order_path: Path, jobs: int) -> Iterator[list[Worker]]:
    """Start processes in sessions of their own: Ctrl-C reaches only this process, which ends the others."""
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
            worker = Worker(process, log)
            workers.append(worker)
            worker.reader = threading.Thread(target=_forward_messages, args=(worker,), daemon=True)
            worker.reader.start()
        yield workers
    finally:
        for worker in workers:
            _stop_worker(worker)


def _forward_messages(worker: Worker) -> None:
    """Relay what the process logs until it has ended, and keep the error that it reports."""
    for line in worker.process.stdout or ():
        match json.loads(line):
            case {"log": [name, level, text]}:
                logging.getLogger(name).log(level, "%s", text)
            case {"failed": failure}:
                worker.failed = failure


def _stop_worker(worker: Worker) -> None:
    """Close the process's standard input, which ends it and its own processes; kill it if it does not end."""
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
