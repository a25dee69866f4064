from __future__ import annotations

import math

import pytest

from tuner.report import numbers as n


def test_a_score_has_the_terminal_s_digits() -> None:
    assert n.score(0.123456) == "0.1235"
    assert n.score(1234.5) == "1,234.5"
    assert n.score(None) == n.score(math.nan) == n.NOTHING


def test_a_difference_has_its_sign() -> None:
    assert (n.signed(0.5), n.signed(-0.5)) == ("+0.5000", "−0.5000")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.123, 0, "12\u202f%"),
        (0.0, 0, "0\u202f%"),
        (0.004, 0, "<1\u202f%"),
        (0.0004, 1, "<0.1\u202f%"),
    ],
)
def test_a_share_that_rounds_to_nothing_is_not_nothing(
    value: float, digits: int, text: str
) -> None:
    assert n.share(value, digits) == text


def test_a_weight_of_nothing_is_a_plain_zero() -> None:
    assert (n.weight(0.0), n.weight(0.25), n.weight(None)) == ("0", "0.250", n.NOTHING)


def test_things_are_counted_in_words() -> None:
    assert n.counted(1, "image") == "1 image"
    assert n.counted(12_000, "image") == "12\u202f000 images"
    assert n.counted(2, "class") == "2 classes"


def test_an_interval_nobody_asked_for_is_empty() -> None:
    assert n.interval(0.1, 0.2) == "0.1000 to 0.2000"
    assert n.interval(None, None) == ""


def test_an_axis_has_the_digits_of_its_step() -> None:
    assert [n.tick(2.5, 0.5), n.tick(10.0, 5.0), n.tick(0.005, 0.005)] == ["2.5", "10", "0.005"]


def test_a_long_list_is_counted_at_its_end() -> None:
    assert n.listed(["a"]) == "a"
    assert n.listed(["a", "b", "c"]) == "a, b and c"
    assert n.listed(list("abcdef"), 2) == "a, b and 4 more"
    assert n.listed([]) == ""
