"""Messages to people through Apprise, which speaks e-mail, Slack, Teams, webhooks and a hundred others; each once."""

import logging
import re
import threading
from typing import Any

from evertune.notify.notices import Notice
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

UNKNOWN = "Apprise cannot read this address; https://appriseit.com lists the forms of all services"
KEPT = 200  # keys of notices that were sent
STATUS = re.compile(r"error=(\d{3})\b")
SYSTEM = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")  # the operating system's own words
HEARD: dict[int, list[str]] = {}  # what Apprise logs while it sends, by thread; it holds addresses


def find_service_name(address: str) -> str | None:
    """What an address leads to, such as `Slack` or `E-Mail`; None where Apprise cannot read it."""
    services = list(_open_service(address))
    return str(services[0].service_name) if services else None


def send_notice(address: str, notice: Notice, timeout: float) -> str | None:
    """Send a notice; None, or why it was not sent, in words that hold nothing of the address.

    Args:
        timeout: seconds; a service that has not answered by then is left to itself.
    """
    service = _open_service(address)
    problems = list[str | None]()
    if not len(service):
        return UNKNOWN
    message = {"title": notice.title, "body": notice.body, "notify_type": notice.tone, "body_format": "text"}
    worker = threading.Thread(target=_try_sending, args=(service, message, problems), daemon=True)
    worker.start()
    worker.join(timeout)
    return problems[0] if problems else f"no answer within {timeout:g} s"


def was_sent(home: Home, key: str) -> bool:
    """Whether the notice with this key was sent."""
    return key in (read_json(home.model / "told.json") or [])


def note_sent(home: Home, key: str) -> None:
    """Remember that the notice with this key was sent.

    Raises:
        OSError: the disk is full or not writable.
    """
    with home.lock("told"):
        sent_keys = read_json(home.model / "told.json") or []
        write_json(home.model / "told.json", [*sent_keys, key][-KEPT:])


def _open_service(address: str) -> Any:
    import apprise

    _silence_logs()
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Evertune", app_desc="Evertune", app_url=""))
    service.add(address)
    return service


def _silence_logs() -> None:
    """Nothing that Apprise and its HTTP library log is shown, for good: who answers too late logs later."""
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    logging.getLogger("apprise").setLevel(logging.DEBUG)
    logging.getLogger("apprise").addFilter(_keep_record)


def _keep_record(record: logging.LogRecord) -> bool:
    if record.thread in HEARD:
        HEARD[record.thread].append(record.getMessage())
    return False


def _try_sending(service: Any, message: dict[str, Any], problems: list[str | None]) -> None:
    log_lines = HEARD.setdefault(threading.get_ident(), [])
    try:
        is_sent = bool(service.notify(**message))
    except Exception:  # of any service's code; a traceback could show the address
        is_sent = False
    del HEARD[threading.get_ident()]
    problems.append(None if is_sent else _explain_failure("\n".join(log_lines)))


def _explain_failure(log: str) -> str:
    """A reason for people; only what cannot hold a secret is taken from the log."""
    if status := STATUS.search(log):
        return f"it answered with status {status[1]}"
    if match := SYSTEM.search(log):
        return f"not reached: {match[1].strip().lower()}"
    return "it did not take the message; is the address, with user and password, right?"
