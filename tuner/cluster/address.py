"""Where the cluster's dashboard answers, and the token that it asks for.

Each value carries where it was found, so that an error can say what was looked at.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tuner.errors import UserError

# Where `ray dashboard cluster.yaml` opens its tunnel, and where a local `ray start --head` listens.
DEFAULT_URL = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
DEFAULT_SOURCE = "the default"
TOKEN_FILE = ".ray/auth_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Address:
    """`url`: scheme, host and port, no slash at the end. `source`: where it was found."""

    url: str
    source: str

    @property
    def is_loopback(self) -> bool:
        return urlsplit(self.url).hostname in LOOPBACK

    @property
    def is_given(self) -> bool:
        """Whether the user named it, rather than that nothing was named."""
        return not self.source.startswith(DEFAULT_SOURCE)

    @property
    def option(self) -> str:
        """What the next command must repeat to reach the same cluster, with a space before it and
        quoted for a shell."""
        return f" --address {shlex.quote(self.url)}" if self.source == "--address" else ""

    def __str__(self) -> str:
        return f"{self.url} ({self.source})"


@dataclass(frozen=True)
class Token:
    """`value`: None where there is none; never shown. `source`: where it was found or missed."""

    value: str | None = field(repr=False)
    source: str

    def headers(self) -> dict[str, str]:
        """What a request carries."""
        return {"Authorization": f"Bearer {self.value}"} if self.value else {}


def find_address(given: str | None, environment: Mapping[str, str] = os.environ) -> Address:
    """`--address`, else an http(s) address in RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else the
    default. Raises UserError for what is no http address."""
    if given:
        return Address(_checked(given, "--address"), "--address")
    for name in ADDRESS_VARIABLES:
        text = environment.get(name, "")
        if text.startswith(("http://", "https://")):
            return Address(_checked(text, name), name)
    others = [f"{name}={environment[name]}" for name in ADDRESS_VARIABLES if environment.get(name)]
    looked = f"{', '.join(others)} is no http address" if others else "no --address, no RAY_ADDRESS"
    return Address(DEFAULT_URL, f"{DEFAULT_SOURCE}: {looked}")


def _checked(text: str, source: str) -> str:
    whole = text if "://" in text else f"http://{text}"
    wrong = UserError(
        f"{source}={text}: expected the address of a Ray dashboard, such as {DEFAULT_URL} "
        "(`ray dashboard cluster.yaml` opens it)"
    )
    try:
        parts = urlsplit(whole)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    if port in (6379, 10001):
        raise UserError(
            f"{source}={text}: port {port} is not the dashboard's; expected one such as "
            f"{DEFAULT_URL} (`ray dashboard cluster.yaml` opens it)"
        )
    return whole.rstrip("/")


def find_token(environment: Mapping[str, str] = os.environ) -> Token:
    """RAY_AUTH_TOKEN, else the file of RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token: as Ray itself
    looks. Raises UserError where a file is named that cannot be read."""
    if text := environment.get("RAY_AUTH_TOKEN", "").strip():
        return Token(text, "RAY_AUTH_TOKEN")
    if path := environment.get("RAY_AUTH_TOKEN_PATH"):
        return Token(_read(Path(path).expanduser(), "RAY_AUTH_TOKEN_PATH="), f"the file {path}")
    home = Path(environment.get("HOME") or Path.home())
    default = home / TOKEN_FILE
    if default.is_file():
        return Token(_read(default, ""), f"the file {default}")
    return Token(None, f"no RAY_AUTH_TOKEN, no RAY_AUTH_TOKEN_PATH, no file {default}")


def _read(path: Path, prefix: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a text file"
        raise UserError(
            f"{prefix}{path}: the cluster's token cannot be read: {why}; give the file that the "
            "cluster was started with"
        ) from error
    if not text:
        raise UserError(f"{prefix}{path}: holds no token; copy the cluster's own into it")
    return text
