"""A dashboard that hands out parcels and nothing else, and misbehaves when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tuner.cluster.address import Address, Token
from tuner.cluster.connection import Connection
from tuner.cluster.parcel import PARCELS_FOLDER

TOKEN = "a-token-of-these-tests"

# What to do with a file's bytes: send others, or (None) cut the connection in the middle.
Trick = Callable[[bytes], bytes | None]


@dataclass
class ParcelServer:
    """`logs`: the folder that it hands out. `tricks`: played one after the other, each on one
    request for a part. `asked`: the names of the files, as they were asked for."""

    logs: Path
    url: str = ""
    tricks: list[Trick] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def connection(self, token: str = TOKEN) -> Connection:
        return Connection(Address(self.url, "a test"), Token(token, "a test"), "2.60.0")

    @property
    def asked_parts(self) -> list[str]:
        return [name for name in self.asked if name.startswith("part-")]


def cut(data: bytes) -> None:
    """The tunnel breaks in the middle of a part."""


def damage(data: bytes) -> bytes:
    """One bit arrives as another."""
    return data[:-1] + bytes([data[-1] ^ 1])


@contextmanager
def serving(logs: Path) -> Iterator[ParcelServer]:
    server = ParcelServer(logs)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _handler(server: ParcelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(401, b"Unauthorized: Missing authentication token")
                return
            parts = urlsplit(self.path)
            asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
            assert parts.path == "/api/v0/logs/file"
            assert asked["lines"] == "-1"
            assert int(asked["timeout"]) > 30, "Ray's own default cuts slow answers off"
            folder, _, rest = asked["filename"].partition("/")
            assert folder == PARCELS_FOLDER
            path = server.logs / folder / rest
            server.asked.append(path.name)
            if not path.is_file():
                self._answer(500, f"A file is not found at: {path}".encode())
                return
            data = path.read_bytes()
            trick = server.tricks.pop(0) if server.tricks and "part-" in path.name else None
            self._answer(200, data, trick)

        def _answer(self, status: int, data: bytes, trick: Trick | None = None) -> None:
            sent = trick(data) if trick else data
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if sent is None else sent)

        def log_message(self, format: str, *values: object) -> None:
            """Silence."""

    return Handler
