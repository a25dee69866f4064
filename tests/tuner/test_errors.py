from __future__ import annotations

from trainables.errors import DataError
from tuner.errors import UserError


def test_a_user_s_mistake_is_a_value_error_with_its_message() -> None:
    error = UserError("expected this, got that; do so")
    assert isinstance(error, ValueError)
    assert str(error) == "expected this, got that; do so"


def test_it_is_told_apart_from_mistakes_in_the_data() -> None:
    assert not issubclass(UserError, DataError)
