"""Keep secrets out of names and messages."""

import re
from urllib.parse import quote, quote_plus

from evertune.config.base import PLACEHOLDER, expand_variables

USERINFO = re.compile(r"(?<=//)([^/@:\s]*):[^/@\s]*@")


def redact_url(url: str) -> str:
    """Return a recipe's URL with its placeholders unfilled, and a literal password replaced by `***`."""
    return USERINFO.sub(lambda match: match[0] if "${" in match[0] else f"{match[1]}:***@", url)


def redact_message(message: str, url: str) -> str:
    """Return a library's message on one line, without passwords and the values of the placeholders in `url`."""
    secret_values = {expand_variables(match[0]) for match in PLACEHOLDER.finditer(url)}
    secrets = {form for value in secret_values for form in (value, quote(value, safe=""), quote_plus(value))}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        message = message.replace(secret, "***")
    return USERINFO.sub(r"\1:***@", " ".join(message.split()))
