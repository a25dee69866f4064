from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tuner.pruning import PruningRule, judge

losses = st.lists(st.floats(-10, 10), max_size=30)


def test_rungs_grow_by_the_reduction_factor_and_end_before_the_last_epoch() -> None:
    rule = PruningRule(True, 1, 3.0, 1.0)
    assert [epoch for epoch in range(1, 28) if rule.is_rung(epoch, 27)] == [1, 3, 9]


def test_a_run_is_never_judged_after_its_last_epoch() -> None:
    assert not PruningRule(True, 1, 2.0, 1.0).is_rung(4, 4)


def test_a_disabled_rule_has_no_rungs() -> None:
    rule = PruningRule(False, 1, 2.0, 1.0)
    assert not any(rule.is_rung(epoch, 8) for epoch in range(1, 9))


def test_the_first_to_reach_a_rung_goes_on() -> None:
    assert not judge(5.0, [], 2.0).stop


def test_of_two_the_worse_one_stops() -> None:
    assert judge(0.6, [0.5], 2.0).stop
    assert not judge(0.4, [0.5], 2.0).stop


def test_a_tie_goes_to_whoever_came_first() -> None:
    assert judge(0.5, [0.5], 2.0).stop


def test_a_loss_that_is_no_number_stops() -> None:
    assert judge(math.nan, [], 2.0).stop


@given(st.floats(-10, 10), losses, st.floats(1.5, 5))
def test_a_better_loss_is_never_stopped_where_a_worse_one_goes_on(loss, peers, factor) -> None:
    if not judge(loss, peers, factor).stop:
        assert not judge(loss - 1.0, peers, factor).stop


@given(losses.filter(bool), st.floats(1.5, 5))
def test_the_best_so_far_always_goes_on(peers, factor) -> None:
    assert not judge(min(peers) - 1.0, peers, factor).stop
