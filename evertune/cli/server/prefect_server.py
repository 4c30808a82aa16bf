"""Prefect's server for this machine alone: `python -m evertune.cli.server.prefect_server PORT`.

Prefect has no setting for the host names that a server answers to. To a browser, a page whose name an attacker points
at 127.0.0.1 (DNS rebinding) has the same origin. So Prefect's app is served behind a check of the Host header.
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
LOCAL_NAMES = (HOST, "localhost")
NAMES_VARIABLE = "EVERTUNE_ALLOWED_HOSTS"


def allowed_names() -> list[str]:
    """Return the host names that a request may use: this machine's own, and those of EVERTUNE_ALLOWED_HOSTS."""
    extra_names = os.environ.get(NAMES_VARIABLE, "").split(",")
    return [*LOCAL_NAMES, *(name.strip() for name in extra_names if name.strip())]


def page_origins(port: int) -> str:
    """Return the origins of the server's own page in the form of Prefect's CORS setting."""
    return ",".join(f"http://{name}:{port}" for name in LOCAL_NAMES)


def check_host(app: "ASGIApp") -> "ASGIApp":
    """Wrap the app in a check that refuses requests and websockets for other host names with status 400."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return TrustedHostMiddleware(app, allowed_hosts=allowed_names(), www_redirect=False)


def main(port: int) -> None:
    """Serve Prefect's API and page, with Prefect's own settings, until a signal ends it."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    settings = get_current_settings().server
    uvicorn.run(
        check_host(create_app(final=True)),
        host=HOST,
        port=port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=settings.logging_level.lower(),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
