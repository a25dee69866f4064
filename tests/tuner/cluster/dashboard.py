"""A server that answers as a Ray dashboard does, or as something else, from a table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "a-token-of-these-tests"
NODE = {
    "node_id": "a1",
    "node_ip": "10.0.0.1",
    "is_head_node": True,
    "resources_total": {"CPU": 0.0},
}


def nodes(*rows: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of /api/v0/nodes."""
    return {"data": {"result": {"result": list(rows)}}}


@dataclass
class Dashboard:
    """`answers`: by path, JSON or a text (sent as HTML). `asked`: (path, Authorization header).
    `behind_proxy`: even whether a token is wanted is told only to those who have it."""

    answers: dict[str, Any]
    wants_token: bool = True
    behind_proxy: bool = False
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def respond(self, path: str, authorization: str | None) -> tuple[int, str, bytes]:
        self.asked.append((path, authorization))
        free = path == "/api/authentication_mode" and not self.behind_proxy
        if self.wants_token and not free:
            if authorization is None:
                return 401, "text/plain", b"Unauthorized: Missing authentication token"
            if authorization != f"Bearer {TOKEN}":
                return 403, "text/plain", b"Forbidden: Invalid authentication token"
        if path not in self.answers:
            return 404, "text/plain", b"404: Not Found"
        answer = self.answers[path]
        if isinstance(answer, str):
            return 200, "text/html", answer.encode()
        return 200, "application/json", json.dumps(answer).encode()


def ray_answers(**others: Any) -> dict[str, Any]:
    return {
        "/api/authentication_mode": {"authentication_mode": "token"},
        "/api/version": {"version": "4", "ray_version": "2.60.0"},
        "/api/v0/nodes": nodes(NODE),
        **others,
    }


@contextmanager
def serving(dashboard: Dashboard) -> Iterator[Dashboard]:
    """Sets `dashboard.url` and serves until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = dashboard.respond(
                urlsplit(self.path).path, self.headers.get("Authorization")
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    dashboard.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield dashboard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
