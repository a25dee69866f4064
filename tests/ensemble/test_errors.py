from __future__ import annotations

from ensemble.errors import BlendError


def test_a_blend_error_is_a_value_error_so_that_the_command_line_prints_one_line() -> None:
    assert issubclass(BlendError, ValueError)
    assert str(BlendError("c0: expected 3 folds, got 2")) == "c0: expected 3 folds, got 2"
