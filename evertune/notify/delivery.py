"""Send notices, each once, through Apprise: e-mail, Slack, Teams, webhooks and a hundred other services."""

import logging
import re
import threading
from typing import TYPE_CHECKING, TypedDict

from evertune.notify.notices import Notice, Tone
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import apprise

UNKNOWN = "Apprise cannot read this address; see https://appriseit.com for the address format of each service"
MAX_SENT = 200  # keys of sent notices that are kept
STATUS = re.compile(r"error=(\d{3})\b")
SYSTEM = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")  # an error message of the operating system
LOGGED: dict[int, list[str]] = {}  # what Apprise logs while it sends, by thread; it may show addresses


class Message(TypedDict):
    """A notice as Apprise takes it."""

    title: str
    body: str
    notify_type: Tone
    body_format: str


def find_service_name(address: str) -> str | None:
    """Return the service of an address, such as `Slack` or `E-Mail`; None if Apprise cannot read the address."""
    services = list(_open_service(address))
    return str(services[0].service_name) if services else None


def send_notice(address: str, notice: Notice, timeout: float) -> str | None:
    """Send a notice and return None, or why it was not sent, in words that show nothing of the address.

    Args:
        address: an Apprise URL.
        timeout: seconds; a service that has not answered by then is not waited for.
    """
    service = _open_service(address)
    problems = list[str | None]()
    if not len(service):
        return UNKNOWN
    message: Message = {"title": notice.title, "body": notice.body, "notify_type": notice.tone, "body_format": "text"}
    worker = threading.Thread(target=_try_sending, args=(service, message, problems), daemon=True)
    worker.start()
    worker.join(timeout)
    return problems[0] if problems else f"no answer within {timeout:g} s"


def was_sent(home: Home, key: str) -> bool:
    """Return whether the notice with this key was sent."""
    return key in (read_json(home.model / "told.json") or [])


def note_sent(home: Home, key: str) -> None:
    """Record that the notice with this key was sent.

    Raises:
        OSError: the disk is full or not writable.
    """
    with home.lock("told"):
        sent_keys = read_json(home.model / "told.json") or []
        write_json(home.model / "told.json", [*sent_keys, key][-MAX_SENT:])


def _open_service(address: str) -> "apprise.Apprise":
    import apprise

    _silence_logs()
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Evertune", app_desc="Evertune", app_url=""))
    service.add(address)
    return service


def _silence_logs() -> None:
    """Never show what Apprise and its HTTP library log; a late answer is logged after the call."""
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    logging.getLogger("apprise").setLevel(logging.DEBUG)
    logging.getLogger("apprise").addFilter(_keep_record)


def _keep_record(record: logging.LogRecord) -> bool:
    if record.thread in LOGGED:
        LOGGED[record.thread].append(record.getMessage())
    return False


def _try_sending(service: "apprise.Apprise", message: Message, problems: list[str | None]) -> None:
    log_lines = LOGGED.setdefault(threading.get_ident(), [])
    try:
        is_sent = bool(service.notify(**message))
    except Exception:  # raised by the code of a service; a traceback could show the address
        is_sent = False
    del LOGGED[threading.get_ident()]
    problems.append(None if is_sent else _explain_failure("\n".join(log_lines)))


def _explain_failure(log: str) -> str:
    """Return the reason for people, with nothing of the log that could hold a secret."""
    status = STATUS.search(log)
    if status:
        return f"the service answered with status {status[1]}"
    system_error = SYSTEM.search(log)
    if system_error:
        return f"the service was not reached: {system_error[1].strip().lower()}"
    return "the service refused the message; check the address, with its user and password"
