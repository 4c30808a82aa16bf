"""Forks the parity check's process from one that has its imports behind it: torch and MLflow take five seconds.

The process of `parity_process.py` sees only the packages that were linked for it, in an isolated interpreter without
site-packages. So does the server, which is this file, run in such an interpreter with the same links. A child that it
forks then does what the process does: it imports (what is there already), waits for a model and predicts.

`fork_checks` lets this process start a small client in the place of the real process. It takes the links, the
environment, standard input and error over to the server's child, and ends as that ends; killed, it takes the child with
it. Where other packages are linked than the server has, the real process is started.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Only the standard library: neither the client nor the server can import anything else.
STATUS_BYTES = 4


class ParityServer:
    """The server for the models of plain recipes; it starts when its address is asked for.

    Args:
        folder: for its socket and its links.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its socket; it listens already, and answers when the imports are done."""
        address = str(self._folder / "socket")
        if self._process is None:
            self._process = self._start(address)
        return address

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()  # the end of its input is its end

    def _start(self, address: str) -> "subprocess.Popen[bytes]":
        from evertune.registry.versions import parity, requirements

        names = [f"{name}=={requirements.version(name).partition('+')[0]}" for name in requirements.REQUIREMENTS]
        packages = find_packages(address)
        requirements.link_packages(names, packages)
        script = Path(parity.__file__).with_name("parity_process.py")
        settings = {"HF_HUB_OFFLINE": "1", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "DO_NOT_TRACK": "true"}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(64)
            arguments = ["server", str(listener.fileno()), str(packages), str(script)]
            return subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, *arguments],
                env={**os.environ, **settings, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )


def find_packages(address: str) -> Path:
    """Where the server's links are."""
    return Path(address).with_name("packages")


def fork_checks(find_address: Callable[[], str]) -> None:
    """Let the parity checks of this process, and of those that it forks, have their processes forked by the server."""
    from evertune.registry.versions import parity

    def start(command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        *interpreter, script, packages, answer = command
        address = find_address()
        if list_links(Path(packages)) == list_links(find_packages(address)):
            command = [*interpreter, __file__, "client", address, script, packages, answer]
        return subprocess.Popen(command, **options)

    parity.subprocess = types.SimpleNamespace(**{**vars(subprocess), "Popen": start})


def list_links(packages: Path) -> dict[str, str]:
    """Names and targets."""
    return {path.name: str(path.readlink()) for path in packages.iterdir() if path.is_symlink()}


def run_client(address: str, script: str, packages: str, answer: str) -> None:
    """Hand the job over and end as the server's child ends."""
    job = {"script": script, "packages": packages, "answer": answer}
    job |= {"environment": dict(os.environ), "folder": str(Path.cwd())}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        message = json.dumps(job).encode()
        socket.send_fds(connection, [len(message).to_bytes(STATUS_BYTES, "big")], [0, 2])
        connection.sendall(message)
        status = int.from_bytes(connection.recv(STATUS_BYTES), "big", signed=True)
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


def run_server(descriptor: int, packages: str, script: str) -> None:
    """Import what the process imports, then fork a child for each client until the standard input ends."""
    gc.disable()
    sys.path.insert(0, packages)
    for name in runpy.run_path(script)["MODULES"]:
        importlib.import_module(name)
    gc.freeze()
    listener = socket.socket(fileno=descriptor)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    children: dict[Any, int] = {}  # by connection
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                for pid in children.values():
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                pid = fork_child(connection, [listener.fileno(), *(other.fileno() for other in children)])
                children[connection] = pid
                selector.register(connection, selectors.EVENT_READ)  # it ends when the client ends
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, connection)
            elif key.data is None:
                if key.fileobj in children:
                    os.kill(children[key.fileobj], signal.SIGKILL)
                    selector.unregister(key.fileobj)
            else:
                report_end(children.pop(key.data), key.data)
                if key.data in selector.get_map():
                    selector.unregister(key.data)
                selector.unregister(key.fd)
                os.close(key.fd)
                key.data.close()


def report_end(pid: int, connection: socket.socket) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # the client was killed
        connection.sendall(status.to_bytes(STATUS_BYTES, "big", signed=True))


def fork_child(connection: socket.socket, others: Sequence[int]) -> int:
    """Fork the process of the check; it takes its input and errors from the client."""
    size, descriptors, _, _ = socket.recv_fds(connection, STATUS_BYTES, 2)
    message = b""
    while len(message) < int.from_bytes(size, "big"):
        message += connection.recv(65536)
    job = json.loads(message)
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    for source, target in zip(descriptors, (0, 2), strict=True):
        os.dup2(source, target)
        os.close(source)
    for descriptor in (connection.fileno(), *others):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.path.pop(0)  # the server's own links
    try:
        runpy.run_path(job["script"])["main"](job["packages"], job["answer"])
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        run_client(*sys.argv[2:])
    else:
        run_server(int(sys.argv[2]), *sys.argv[3:])
