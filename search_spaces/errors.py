"""The one error of this package: a person's configuration says something impossible."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_LISTING = 24


class ConfigError(ValueError):
    """One line that names the key, its value, what is allowed and the nearest name."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that is most like `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return matches[0] if matches else None


def hint(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean X? choose one of A, B`: the end of a message about an unknown name."""
    names = list(allowed)
    close = nearest(name, names)
    question = f"; did you mean {close}?" if close else ";"
    return f"{question} choose one of {listing(names)}"


def listing(names: Iterable[object]) -> str:
    """The names separated by commas, a long list cut short with a count."""
    texts = [str(name) for name in names]
    shown = texts[:LONGEST_LISTING]
    rest = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "") if texts else "(none)"


def show(value: object) -> str:
    """A value as YAML would write it, cut at 60 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
