"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 150.0


def until(
    is_so: Callable[[], bool],
    otherwise: str,
    why: Callable[[], str] = str,
    patience_seconds: float = PATIENCE_SECONDS,
    every_seconds: float = 0.5,
) -> None:
    """Return as soon as `is_so`. AssertionError with `otherwise` and what `why` says when that has
    not come within the patience."""
    end = time.monotonic() + patience_seconds
    while not is_so():
        assert time.monotonic() < end, f"{otherwise}\n{why()}"
        time.sleep(every_seconds)
