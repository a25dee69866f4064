from __future__ import annotations

import logging

import pytest

from trainables.build_log import BuildLog


def test_a_long_build_is_told_of_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    seconds = iter(range(100))
    log = BuildLog(period=30.0, clock=lambda: float(next(seconds)))
    with caplog.at_level(logging.INFO, logger="trainables"):
        for done in range(1, 101):
            log(done, 100)
    assert len(caplog.messages) == 4
    assert caplog.messages[0].endswith("decodes 100 images for its cache")
    assert caplog.messages[1:] == [f"decoding images: {done} of 100" for done in (31, 61, 91)]
