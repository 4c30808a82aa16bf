"""Messages to people through Apprise, which speaks e-mail, Slack, Teams, webhooks and a hundred others; each once."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any

from evertune.home import Home, read_json, write_json
from evertune.notices import Notice

UNKNOWN = "Apprise cannot read this address; https://appriseit.com lists the forms of all services"
KEPT = 200  # keys of notices that were sent
STATUS = re.compile(r"error=(\d{3})\b")
SYSTEM = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")  # the operating system's own words
URL_LOGS = ("apprise", "urllib3")  # they log addresses, at low levels


def kind(address: str) -> str | None:
    """What an address leads to, such as `Slack` or `E-Mail`; None where Apprise cannot read it."""
    with _quiet():
        found = list(_apprise(address))
    return str(found[0].service_name) if found else None


def send(address: str, notice: Notice, timeout: float) -> str | None:
    """Send a notice; None, or why it was not sent, in words that hold nothing of the address.

    Args:
        timeout: seconds; a service that has not answered by then is left to itself.
    """
    done: list[bool] = []
    with _quiet() as log:
        service = _apprise(address)
        if not len(service):
            return UNKNOWN
        how = {"title": notice.title, "body": notice.body, "notify_type": notice.tone, "body_format": "text"}
        worker = threading.Thread(target=_try, args=(service, how, done), daemon=True)
        worker.start()
        worker.join(timeout)
        if not done:
            return f"no answer within {timeout:g} s"
        return None if done[0] else _why(log.getvalue())


def told(home: Home, key: str) -> bool:
    """Whether the notice with this key was sent."""
    return key in (read_json(home.model / "told.json") or [])


def note(home: Home, key: str) -> None:
    """Remember that the notice with this key was sent.

    Raises:
        OSError: the disk is full or not writable.
    """
    with home.lock("told"):
        known = read_json(home.model / "told.json") or []
        write_json(home.model / "told.json", [*known, key][-KEPT:])


def _apprise(address: str) -> Any:
    import apprise

    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Evertune", app_desc="Evertune", app_url=""))
    service.add(address)
    return service


def _try(service: Any, how: dict[str, Any], done: list[bool]) -> None:
    try:
        done.append(bool(service.notify(**how)))
    except Exception:  # of any service's code; a traceback could show the address
        done.append(False)


def _why(log: str) -> str:
    """A reason for people; only what cannot hold a secret is taken from the log."""
    if status := STATUS.search(log):
        return f"it answered with status {status[1]}"
    if words := SYSTEM.search(log):
        return f"not reached: {words[1].strip().lower()}"
    return "it did not take the message; is the address, with user and password, right?"


@contextlib.contextmanager
def _quiet() -> Iterator[StringIO]:
    """Nothing that Apprise or its HTTP library log gets further than to the text that is given."""
    log = StringIO()
    handler = logging.StreamHandler(log)
    loggers = [logging.getLogger(name) for name in URL_LOGS]
    before = [(one.propagate, one.level, one.handlers) for one in loggers]
    for one in loggers:
        one.propagate, one.handlers = False, [handler]
        one.setLevel(logging.DEBUG if one.name == "apprise" else logging.CRITICAL)
    try:
        yield log
    finally:
        for one, (propagate, level, handlers) in zip(loggers, before, strict=True):
            one.propagate, one.handlers = propagate, handlers
            one.setLevel(level)
