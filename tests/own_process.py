"""A test's story in a process of its own.

Ray reads once, when it is imported, whether to ask for tokens, and `ray.init` turns it on for
all that follows: tests whose nodes have no token and tests that let Ray make one cannot share a
process.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest


def without_tokens(story: Callable[..., Any], *given: Any) -> Any:
    """What `story(*given)` returns in a process whose Ray asks for no token: its nodes trust each
    other, on 127.0.0.1. The story's exception is raised here. Both are pickled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(story, *given).result()
