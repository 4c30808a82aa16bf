"""Damage that an export does to rows, for a data contract to find."""

from random import Random

KINDS = (
    "empty_message",
    "duplicate_id",
    "unknown_label",
    "mojibake",
    "missing_label",
    "too_long",
    "control_characters",
    "missing_message",
)
_CONTROLS = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x1b"
_ACCENTED = (" I\u00b4m waiting for my €20.", " \u2013 thanks, Zoë", " It\u2019s about 35 €, thanks.", " Grüße, José")
_LOG_LINES = (
    "{stamp} ERROR checkout.js:{n} Uncaught TypeError: cannot read properties of undefined (reading 'total')",
    "{stamp} WARN  session {n} expired, retrying in {n} ms",
    "{stamp} INFO  GET /api/v2/orders/{n} 200 {n}ms",
    "    at renderBasket (bundle.min.js:1:{n})",
    "{stamp} ERROR POST /api/v2/orders/{n}/confirm 504 upstream timed out",
)


def damage_message(kind: str, message: str, rng: Random) -> str | None:
    """Return the message with this kind of damage; kinds that damage another column leave it unchanged."""
    if kind == "empty_message":
        return rng.choice(("", "", " ", "\n"))
    if kind == "missing_message":
        return None
    if kind == "mojibake":
        return _break_encoding(message, rng)
    if kind == "control_characters":
        return _insert_controls(message, rng)
    return _append_log(message, rng) if kind == "too_long" else message


def misspell_label(label: str, rng: Random) -> str:
    """Return the label with a typo, one letter missing or two swapped: `refund_requst`."""
    index = rng.choice([i for i in range(1, len(label) - 1) if label[i].isalpha() and label[i] != label[i + 1]])
    if rng.random() < 0.6:
        return label[:index] + label[index + 1 :]
    return label[:index] + label[index + 1] + label[index] + label[index + 2 :]


def _break_encoding(message: str, rng: Random) -> str:
    text = message.replace("'", "\u00b4") + rng.choice(_ACCENTED)
    if rng.random() < 0.5:
        return text.encode("utf-8").decode("cp1252", errors="replace")
    return text.encode("cp1252", errors="replace").decode("utf-8", errors="replace")


def _insert_controls(message: str, rng: Random) -> str:
    for _ in range(rng.randrange(1, 4)):
        index = rng.randrange(len(message) + 1)
        message = message[:index] + rng.choice(_CONTROLS) + message[index:]
    return message


def _append_log(message: str, rng: Random) -> str:
    lines = [message, "Here is what my browser shows:"]
    length = 0
    target = rng.randrange(4500, 9000)
    while length < target:
        stamp = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}.{rng.randrange(1000):03}"
        lines.append(rng.choice(_LOG_LINES).replace("{stamp}", stamp).replace("{n}", str(rng.randrange(100, 99999))))
        length += len(lines[-1]) + 1
    return "\n".join(lines)
