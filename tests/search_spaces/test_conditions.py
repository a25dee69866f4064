"""Combinations of members, and the rows that say when something holds."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.conditions import SpaceRow, combinations, condition, rows

GROUPS = {"loss": ("ce", "focal"), "backbone": ("a", "b", "c")}


def test_all_combinations_in_order_where_there_are_few() -> None:
    found = combinations(GROUPS, limit=6)
    assert found[0] == {"backbone": "a", "loss": "ce"}
    assert len(found) == 6
    assert combinations({}, limit=1) == ({},)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_beyond_the_limit_every_pair_comes_together(sizes: list[int]) -> None:
    groups = {f"g{i}": tuple(f"m{j}" for j in range(size)) for i, size in enumerate(sizes)}
    found = combinations(groups, limit=0)
    assert len({tuple(choices.items()) for choices in found}) == len(found)
    for one, other in itertools.combinations(groups, 2):
        pairs = {(choices[one], choices[other]) for choices in found}
        assert pairs == set(itertools.product(groups[one], groups[other]))
    for group, names in groups.items():
        assert {choices[group] for choices in found} == set(names)


def test_rows_say_under_which_members_a_fact_holds() -> None:
    facts = [
        ({"backbone": "a", "loss": "ce"}, {"lr": "1..2", "size": "32"}),
        ({"backbone": "a", "loss": "focal"}, {"lr": "1..2", "size": "32", "gamma": "0..3"}),
        ({"backbone": "b", "loss": "ce"}, {"lr": "5..6", "size": "32"}),
        ({"backbone": "b", "loss": "focal"}, {"lr": "5..6", "size": "32", "gamma": "0..3"}),
    ]
    assert rows(facts) == (
        SpaceRow("lr", "1..2", "backbone=a"),
        SpaceRow("lr", "5..6", "backbone=b"),
        SpaceRow("size", "32", ""),
        SpaceRow("gamma", "0..3", "loss=focal"),
    )


def test_a_condition_names_several_members_and_groups() -> None:
    everywhere = combinations(GROUPS, limit=6)
    where = [c for c in everywhere if c["backbone"] != "c" and c["loss"] == "ce"]
    assert condition(where, everywhere) == "backbone=a or b, loss=ce"
