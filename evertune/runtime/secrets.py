"""Keep passwords and tokens from the environment out of messages."""

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_API_URL")
TOKENS = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_SERVER_API_AUTH_STRING",
)
USERINFO = re.compile(r"(?<=://)[^/\s]*@")


def hide_secrets(message: str) -> str:
    """Return a message with `***` for the user and password of every address, and for secrets of the environment."""
    message = USERINFO.sub("***@", message)
    for secret in sorted(_list_secrets(), key=len, reverse=True):
        message = message.replace(secret, "***")
    return message


def strip_credentials(address: str) -> str:
    """Return an address without its user and password."""
    return hide_secrets(address).replace("***@", "")


def _list_secrets() -> Iterator[str]:
    yield from filter(None, map(os.environ.get, TOKENS))
    for name in ADDRESSES:
        user, _, password = os.environ.get(name, "").partition("://")[2].rpartition("@")[0].partition(":")
        yield from filter(None, (f"{user}:{password}" if password else "", password, unquote(password)))
