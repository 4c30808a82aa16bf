"""Real servers for messages: an SMTP and an HTTP sink on free ports, and addresses that hold secrets."""

import base64
import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

USER = "night-watch"
PASSWORD = "hunter2hunter2"
TOKEN = "T0kenInThePath"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass
class Sink:
    """What arrived.

    Args:
        address: the Apprise URL that leads here; it holds secrets.
        logins: user names and passwords that were given.
    """

    address: str
    status: int = 200
    titles: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)


def secrets_in(*said: str | bytes) -> list[str]:
    """The secrets that stand in texts or files."""
    texts = [one if isinstance(one, str) else one.decode("utf-8", "replace") for one in said]
    return [secret for secret in (PASSWORD, TOKEN, BASIC) if any(secret in text for text in texts)]


@contextlib.contextmanager
def http_sink(status: int = 200) -> Iterator[Sink]:
    """A webhook that answers with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == f"/{TOKEN}"
            sink.logins.append(base64.b64decode(self.headers["Authorization"].split()[1]).decode())
            sink.titles.append(said["title"])
            sink.bodies.append(said["message"])
            self.send_response(sink.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        sink = Sink(f"json://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/{TOKEN}", status)
        yield sink


@contextlib.contextmanager
def smtp_sink() -> Iterator[Sink]:
    """A mail server that wants a login and takes every letter."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 sink")
            while line := self.rfile.readline().decode().strip():
                command = line[:4].upper()
                if command == "EHLO":
                    self._say("250-sink\r\n250 AUTH PLAIN")
                elif command == "AUTH":
                    sink.logins.append(base64.b64decode(line.split()[2]).decode().strip("\0").replace("\0", ":"))
                    self._say("235 welcome")
                elif command == "DATA":
                    self._say("354 go on")
                    self._take()
                else:
                    self._say("250 fine")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def _take(self) -> None:
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line)
            letter = message_from_bytes(b"".join(lines), policy=policy.default)
            body = letter.get_body(("plain", "html"))
            assert body is not None
            sink.titles.append(str(letter["Subject"]))
            sink.bodies.append(str(body.get_content()))
            self._say("250 taken")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        server.daemon_threads = True
        names = "from=evertune@example.org&to=team@example.org&smtp=127.0.0.1"
        sink = Sink(f"mailto://{USER}:{PASSWORD}@example.org:{server.server_address[1]}?{names}")
        yield sink


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield
    server.shutdown()
