"""One-line errors with the nearest name."""

from __future__ import annotations

from search_spaces.errors import ConfigError, hint, listing, nearest, show


def test_an_error_is_a_value_error_of_one_line() -> None:
    error = ConfigError("optimizer.lr=x:\n  must be\ta number")
    assert isinstance(error, ValueError)
    assert str(error) == "optimizer.lr=x: must be a number"


def test_the_nearest_name_is_offered_only_when_it_is_near() -> None:
    assert nearest("convnxt_tiny", ["vit_small", "convnext_tiny"]) == "convnext_tiny"
    assert nearest("zzz", ["vit_small"]) is None
    assert hint("sdg", ["adamw", "sgd"]) == "; did you mean sgd? choose one of adamw, sgd"
    assert hint("zzz", ["adamw", "sgd"]) == "; choose one of adamw, sgd"


def test_a_long_listing_is_cut_with_a_count() -> None:
    assert listing([]) == "(none)"
    assert listing(range(3)) == "0, 1, 2"
    assert listing(range(30)).endswith("22, 23 and 6 more")


def test_values_are_shown_as_yaml_writes_them() -> None:
    assert [show(value) for value in (None, True, False, 0.5, "a")] == [
        "null", "true", "false", "0.5", "a",
    ]  # fmt: skip
    assert len(show("x" * 200)) == 60
