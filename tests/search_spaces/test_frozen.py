"""Values are frozen, unknown keys refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from search_spaces.frozen import Frozen, PositiveInt, Probability


class Example(Frozen):
    name: str = "a"
    share: Probability = 0.5
    count: PositiveInt = 1


def test_a_value_cannot_be_changed() -> None:
    one = Example()
    with pytest.raises(ValidationError, match="frozen"):
        one.count = 2


@pytest.mark.parametrize(
    "values", [{"other": 1}, {"share": 1.1}, {"share": float("nan")}, {"count": 0}]
)
def test_unknown_keys_and_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(values)


def test_a_name_may_look_like_a_number() -> None:
    assert Example.model_validate({"name": 2024}).name == "2024"
