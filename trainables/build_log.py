"""What the log of a worker says while its machine decodes the images, which may take long."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

PERIOD_SECONDS = 10.0

_log = logging.getLogger(__name__)


class BuildLog:
    """Called with done and total after each image; a line every `period` seconds of `clock`."""

    def __init__(
        self, period: float = PERIOD_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._period, self._clock = period, clock
        self._next: float | None = None

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if self._next is None:
            _log.info("%s decodes %d images for its cache", socket.gethostname(), total)
        elif now >= self._next:
            _log.info("decoding images: %d of %d", done, total)
        else:
            return
        self._next = now + self._period
