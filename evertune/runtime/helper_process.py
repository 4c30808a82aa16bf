"""Work in a separate process, on another core, which imports its modules before the work arrives."""

import contextlib
import gc
import importlib
import logging
import os
import pickle
import site
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import evertune
from evertune.runtime import ipc

logger = logging.getLogger(__name__)
R = TypeVar("R")
_waiting: "list[subprocess.Popen[bytes]]" = []  # started by `start_helper`, one at most
_busy: "list[subprocess.Popen[bytes]]" = []  # at work, or finishing what nobody waits for


def start_helper(*modules: str) -> None:
    """Start the helper process now, unless one is waiting; it imports these modules and ends when this process ends."""
    if not _waiting:
        _waiting.append(_start_process(*modules))


def run_in_helper(
    work: Callable[[], R], meanwhile: Sequence[str] = (), afterwards: Callable[[], object] | None = None
) -> R:
    """Run the work in the waiting helper process, or in this one if there is none, and return its result.

    Args:
        work: safe to repeat; a `functools.partial` of something that can be pickled, with a result that can be.
        meanwhile: modules that this process will need; they are imported while the helper works.
        afterwards: called in the helper after it has answered. Its errors are not reported, and nothing may depend on
            it.
    Raises:
        Exception: whatever the work raises.
    """
    if not _waiting:
        return work()
    process = _waiting.pop()
    _busy.append(process)
    with ThreadPoolExecutor(1) as reader:  # its thread ends once the answer is read
        future = reader.submit(_ask_process, process, pickle.dumps((work, afterwards)))
        try:
            for name in meanwhile:
                importlib.import_module(name)
            answer = future.result()
        except BaseException:  # Ctrl-C too: the answer is not needed any more
            end_processes()
            raise
    if answer is None:  # killed, perhaps by the system for its memory
        end_processes()
        logger.warning(
            "a helper process ended with status %s; its work is repeated in this process", process.returncode
        )
        return work()
    result, error = pickle.loads(answer)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def end_processes() -> None:
    """End all helper processes."""
    for processes in (_waiting, _busy):
        while processes:
            _end_process(processes.pop())


def build_environment() -> dict[str, str]:
    """Return the environment of a process that imports the same Evertune as this one, in any working folder."""
    library = str(Path(evertune.__file__).parent.parent)
    paths = [] if library in site.getsitepackages() else [library]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _start_process(*modules: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "evertune.runtime.helper_process", *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=build_environment(),
        start_new_session=True,
    )


def _ask_process(process: "subprocess.Popen[bytes]", message: bytes) -> bytes | None:
    """Return the answer to a message; None if the process died."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(len(message).to_bytes(8) + message)
        process.stdin.flush()
    size = int.from_bytes(process.stdout.read(8))
    answer = process.stdout.read(size)
    return answer if size and len(answer) == size else None


def _end_process(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def main(*modules: str) -> None:
    """Import the modules, wait for work on standard input, and answer with `(result, error)` on standard output."""
    output = os.dup(1)
    os.dup2(2, 1)  # what the work prints must not mix with the answer
    gc.disable()  # imports leave no garbage: collecting takes a fifth of their time
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    size = int.from_bytes(sys.stdin.buffer.read(8))
    if size:  # 0 if the parent ended without sending work
        message = sys.stdin.buffer.read(size)
        ipc.watch_parent(stdin=True)
        work, afterwards = pickle.loads(message)
        answer = _do_work(work)
        with os.fdopen(output, "wb") as pipe:
            pipe.write(len(answer).to_bytes(8) + answer)
        if afterwards is not None:
            afterwards()
    gc.freeze()


def _do_work(work: Callable[[], object]) -> bytes:
    try:
        return pickle.dumps((work(), None))
    except Exception as error:
        error.add_note(traceback.format_exc())
        try:
            answer = pickle.dumps((None, error))
            pickle.loads(answer)
        except Exception:  # a library's own error class that cannot be pickled
            answer = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
        return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
