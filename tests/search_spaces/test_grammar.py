"""Sweep expressions: what they mean, what they refuse, and that samples stay inside."""

from __future__ import annotations

import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import ConfigError
from search_spaces.grammar import (
    Choice,
    Dimension,
    FloatInterval,
    IntInterval,
    contains,
    describe,
    parse_sweep,
    suggest,
)

finite = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)
positive = st.floats(min_value=1e-12, max_value=1e12)
whole = st.integers(min_value=-(10**6), max_value=10**6)


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("interval(0.1, 0.5)", FloatInterval(0.1, 0.5)),
        ("interval(1, 5)", FloatInterval(1.0, 5.0)),
        ("interval(start=1, end=5)", FloatInterval(1.0, 5.0)),
        ("tag(log, interval(1e-5, 1e-3))", FloatInterval(1e-5, 1e-3, log=True)),
        ("int(interval(16, 64))", IntInterval(16, 64)),
        ("int(tag(log, interval(1, 64)))", IntInterval(1, 64, log=True)),
        ("tag(log, int(interval(1, 64)))", IntInterval(1, 64, log=True)),
        ("range(2, 10, 2)", IntInterval(2, 8, step=2)),
        ("range(10, 2, -3)", IntInterval(4, 10, step=3)),
        ("range(3)", IntInterval(0, 2)),
        ("tag(log, range(1, 9))", IntInterval(1, 8, log=True)),
        ("range(0, 0.9, 0.3)", Choice((0.0, 0.3, 0.6))),
        ("choice(a, 'b c', 3, 0.5, true)", Choice(("a", "b c", 3, 0.5, True))),
        ("sort(choice(3, 1, 2))", Choice((1, 2, 3))),
        ("1e-4,1e-3", Choice((1e-4, 1e-3))),
        ("null, 1", Choice((None, 1))),
    ],
)
def test_an_expression_reads_as_hydra_documents_it(text: str, dimension: Dimension) -> None:
    assert parse_sweep("optimizer.lr", text) == dimension


@pytest.mark.parametrize(
    "text",
    ["adamw", "0.1", "", "hf_hub:owner/model", "weights (1).pth", "weights/config_id=c1/a.pth",
     "C:\\images", "int(3)", "a, b (copy).png", "model(1).pth"],
)  # fmt: skip
def test_a_plain_value_is_no_sweep(text: str) -> None:
    assert parse_sweep("backbone.weights", text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("interval(1e-2, 1e-4)", "upside down"),
        ("tag(log, interval(0, 1))", "above 0"),
        ("int(tag(log, interval(-1, 4)))", "above 0"),
        ("interval(0, inf)", "finite"),
        ("choice()", "empty choice"),
        ("choice(1, 2, 1)", "1 is there twice"),
        ("choice([1, 2], [3])", "between numbers"),
        ("choice(1, nan)", "finite"),
        ("choice(a, b), c", "between numbers"),
        ("tag(log, choice(1, 2))", "needs interval"),
        ("tag(lgo, interval(1, 2))", "unknown tag lgo"),
        ("int(tag(log, range(1, 9)))", "the tag is lost"),
        ("tag(log, range(1, 9, 2))", "step"),
        ("range(5, 5)", "no value"),
        ("range(0.5, 0.1)", "no value"),
        ("range(1, 9, 0)", "step that is not 0"),
        ("range(0, 1, 0.0001)", "more than 1000"),
        ("intervall(1, 2)", "did you mean interval?"),
        ("interval(1, 2", "syntax error"),
        ("interval(1, 2) or so", "syntax error"),
        ("interval(1, 2, 3)", "too many"),
        ("interval(a, b)", "mismatch"),
        ("glob(*)", "members of a group"),
    ],
)
def test_a_mistake_is_one_line_with_key_and_value(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sweep("optimizer.lr", text)
    message = str(caught.value)
    assert message.startswith(f"optimizer.lr={text}: ")
    assert reason in message
    assert "\n" not in message


def test_descriptions_are_readable_and_tell_types_apart() -> None:
    assert describe(FloatInterval(0.002, 0.008, log=True)) == "log 0.002..0.008"
    assert describe(IntInterval(1, 9, step=2)) == "int 1..9 step 2"
    assert describe(IntInterval(1, 64, log=True)) == "log int 1..64"
    assert describe(Choice(("a", 1, True, None))) == "a | 1 | true | null"
    assert describe(Choice(("1", "true", "a | b"))) == '"1" | "true" | "a | b"'


@settings(deadline=None, max_examples=100)
@given(finite, finite)
def test_the_ends_of_an_interval_survive_writing_and_reading(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert parse_sweep("k", f"interval({low!r}, {high!r})") == FloatInterval(low, high)


@settings(deadline=None, max_examples=50)
@given(whole, whole, st.integers(1, 1000))
def test_a_range_holds_pythons_range(a: int, b: int, step: int) -> None:
    low, high = sorted((a, b + 1)) if a != b + 1 else (a, a + 1)
    values = range(low, high, step)
    dimension = parse_sweep("k", f"range({low}, {high}, {step})")
    assert dimension == IntInterval(values[0], values[-1], step)


@settings(deadline=None, max_examples=50)
@given(positive, positive, st.booleans(), st.integers(0, 1000))
def test_a_sampled_number_lies_inside(a: float, b: float, log: bool, seed: int) -> None:
    low, high = sorted((a, b))
    assert_samples_inside(FloatInterval(low, high, log), seed)
    assert_samples_inside(IntInterval(math.ceil(low), math.ceil(high), 1, log), seed)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(whole, st.text(), st.booleans()), min_size=1, unique=True), whole)
def test_a_sampled_choice_is_one_of_its_values(values: list[bool | int | str], seed: int) -> None:
    assert_samples_inside(Choice(tuple(values)), abs(seed))


@settings(deadline=None, max_examples=50)
@given(whole, st.integers(0, 50), st.integers(1, 9), st.integers(0, 1000))
def test_a_sampled_step_is_a_step(low: int, steps: int, step: int, seed: int) -> None:
    assert_samples_inside(IntInterval(low, low + steps * step, step), seed)


def assert_samples_inside(dimension: Dimension, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    for _ in range(3):
        assert contains(dimension, suggest(dimension, study.ask(), "x"))


def test_what_lies_outside_is_not_contained() -> None:
    assert not contains(FloatInterval(0, 1), 1.5)
    assert not contains(FloatInterval(0, 1), "1")
    assert not contains(IntInterval(0, 8, step=2), 3)
    assert not contains(Choice(("a",)), "b")
    assert not contains(Choice((1, 2)), [1])
