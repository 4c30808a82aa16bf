"""What a stranger tries on the servers of `evertune up`: another user, another page, another name."""

import base64
import json
import socket
from collections.abc import Sequence

import httpx


def basic(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}


def check_that_strangers_are_refused(ports: Sequence[int], key: str) -> None:
    """No request without the key, none for another host, and no page of another origin.

    Args:
        ports: of Prefect and of MLflow.
    """
    check_requests(ports[0], key)
    check_pages(ports)
    for path in ("/api/events/in", "/api/events/out", "/api/logs/out"):
        assert not opens(ports[0], path, "evertune:a wrong key")
        assert not opens(ports[0], path, key, host="evil.example")
    assert opens(ports[0], "/api/events/out", key)
    create = f"http://127.0.0.1:{ports[1]}/api/2.0/mlflow/experiments/create"
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert httpx.post(create, json={"name": "x"}, headers=headers).status_code == 403


def check_requests(port: int, key: str) -> None:
    """Prefect's answers with and without the key, and by other names."""
    page = f"http://127.0.0.1:{port}/"
    api = f"http://127.0.0.1:{port}/api/deployments/filter"
    assert httpx.post(api, json={}).status_code == 401
    assert httpx.post(api, json={}, headers=basic("evertune:a wrong key")).status_code == 401
    assert httpx.post(api, json={}, headers=basic(key)).status_code == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
        assert httpx.post(api, json={}, headers={**basic(key), "Host": host}).status_code == 400
        assert httpx.get(page, headers={"Host": host}).status_code == 400


def check_pages(ports: Sequence[int]) -> None:
    """Only Prefect's own page may call it from a browser."""
    api = f"http://127.0.0.1:{ports[0]}/api/deployments/filter"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin in ("https://evil.example", f"http://127.0.0.1:{ports[1]}", "null"):
        assert "access-control-allow-origin" not in httpx.options(api, headers={"Origin": origin, **asked}).headers
    own = f"http://localhost:{ports[0]}"
    assert httpx.options(api, headers={"Origin": own, **asked}).headers["access-control-allow-origin"] == own


def opens(port: int, path: str, key: str, host: str = "127.0.0.1") -> bool:
    """Whether a websocket of Prefect's server takes a key, asked for by a host name."""
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    protocols = [Subprotocol("prefect")]
    with socket.create_connection(("127.0.0.1", port)) as plain:
        try:
            with connect(f"ws://{host}:{port}{path}", sock=plain, subprotocols=protocols) as websocket:
                websocket.send(json.dumps({"type": "auth", "token": key}))
                return bool(json.loads(websocket.recv(timeout=30))["type"] == "auth_success")
        except (ConnectionClosed, InvalidStatus):
            return False
