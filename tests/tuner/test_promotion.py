from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tuner.promotion import Candidate, Standing, by_rank, by_rank_each_backbone


def standing(*losses: float, **changes: object) -> Standing:
    waiting = [Candidate(f"c{number}", loss) for number, loss in enumerate(losses)]
    values: dict = {"promoted": [], "ended": len(losses), "expected": 10, "members": 3, "idle": 0}
    return Standing(waiting=waiting, **(values | changes))


def names(promotions: list) -> list[str]:
    return [one.config_id for one in promotions]


def test_nobody_is_promoted_before_the_budget_share_of_one_member_is_used() -> None:
    assert by_rank(standing(0.1, 0.2, ended=5)) == []


def test_the_best_is_promoted_when_its_share_of_the_budget_is_used() -> None:
    assert names(by_rank(standing(0.3, 0.1, 0.2, ended=6))) == ["c1"]


def test_when_all_have_ended_the_best_members_are_promoted() -> None:
    assert names(by_rank(standing(0.4, 0.1, 0.3, 0.2, ended=10))) == ["c1", "c3", "c2"]


def test_an_idle_slot_is_given_to_the_best_that_waits() -> None:
    assert names(by_rank(standing(0.4, 0.1, ended=2, idle=1))) == ["c1"]


def test_no_more_than_the_wanted_members_are_promoted() -> None:
    done = [Candidate("a", 0.1), Candidate("b", 0.2), Candidate("c", 0.3)]
    assert by_rank(standing(0.01, promoted=done, ended=10, idle=5)) == []


def test_the_reason_names_the_rank_among_all_finished() -> None:
    done = [Candidate("a", 0.1)]
    promotion = by_rank(standing(0.4, 0.2, promoted=done, ended=10))[0]
    assert promotion.why == "rank 2 of 3 finished on the probe fold"


def test_a_score_that_is_no_number_comes_last() -> None:
    assert names(by_rank(standing(float("nan"), 9.0, ended=6))) == ["c1"]


@given(
    st.lists(st.floats(0, 1), max_size=12),
    st.integers(0, 40),
    st.one_of(st.none(), st.integers(1, 40)),
    st.integers(1, 6),
    st.integers(0, 4),
)
def test_promotions_are_the_best_and_within_the_members(losses, ended, expected, members, idle):
    given_standing = replace(
        standing(*losses), ended=ended, expected=expected, members=members, idle=idle
    )
    chosen = set(names(by_rank(given_standing)))
    assert len(chosen) <= members
    inside = [one.loss for one in given_standing.waiting if one.config_id in chosen]
    outside = [one.loss for one in given_standing.waiting if one.config_id not in chosen]
    assert not inside or not outside or max(inside) <= min(outside)


def test_the_best_of_a_backbone_without_a_member_comes_before_a_second_of_any() -> None:
    waiting = [
        Candidate("a1", 0.1, "alpha"),
        Candidate("a2", 0.2, "alpha"),
        Candidate("b1", 0.5, "beta"),
        Candidate("b2", 0.6, "beta"),
        Candidate("c1", 0.9, "gamma"),
    ]
    all_ended = Standing(waiting, [], ended=10, expected=10, members=4)
    assert names(by_rank_each_backbone(all_ended)) == ["a1", "b1", "c1", "a2"]


def test_a_backbone_that_has_a_member_waits_for_the_others() -> None:
    waiting = [Candidate("a2", 0.2, "alpha"), Candidate("b1", 0.5, "beta")]
    promoted = [Candidate("a1", 0.1, "alpha")]
    standing_now = Standing(waiting, promoted, ended=10, expected=10, members=2)
    assert names(by_rank_each_backbone(standing_now)) == ["b1"]
