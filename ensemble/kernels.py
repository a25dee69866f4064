"""How this package compiles its inner loops: on first use, single-threaded, cached where possible.

`@compiled` makes a function that Python calls, `@inlined` one that only compiled functions call.
A cached function is not compiled anew when an `inlined` one in another file changes, so a kernel
and all that it calls live in one file, and constants of other modules come as arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def inlined(*, fastmath: Iterable[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for what only kernels call. `fastmath`: LLVM's flags by name."""
    return njit(nogil=True, error_model="numpy", fastmath=set(fastmath))


def compiled(*, fastmath: Iterable[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: numba compiles the function when it is first called with arguments of some
    types, and keeps the machine code beside the source, in the user's cache folder, or in
    NUMBA_CACHE_DIR. It never runs Python code, holds no GIL, and starts no threads."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        dispatcher = inlined(fastmath=fastmath)(function)

        @functools.cache
        def ready() -> Any:
            _cache_where_possible(dispatcher)
            return dispatcher

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return ready()(*args, **kwargs)
            except OSError:
                # The cache's disk is full or went away. What was compiled is there nonetheless.
                return ready()(*args, **kwargs)

        return call

    return decorate


def _cache_where_possible(dispatcher: Any) -> None:
    # What `njit(cache=True)` does, but not at import: numba tries the folders by writing to them,
    # and raises RuntimeError if none can be written to (a read-only container without a home).
    # Then the price is compiling once a process.
    try:
        dispatcher.enable_caching()
    except RuntimeError:
        return


def readable(array: np.ndarray) -> np.ndarray:
    """The same data as a plain C-contiguous ndarray that kernels may only read. numba compiles
    for writable and for read-only arrays separately: this makes them one. Copies only what is
    not contiguous."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


def readable_probabilities(array: np.ndarray) -> np.ndarray:
    """`readable`, as float32 or float64: other types are copied to float64."""
    known = array.dtype in (np.float32, np.float64)
    return readable(array if known else array.astype(np.float64))
