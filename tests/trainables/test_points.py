from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.points import even_points


@pytest.mark.parametrize(
    ("n", "count", "expected"),
    [(12, 3, (4, 8, 12)), (10, 3, (3, 7, 10)), (5, 1, (5,)), (3, 3, (1, 2, 3)), (1, 2, (1, 1))],
)
def test_points_of_small_runs_by_hand(n: int, count: int, expected: tuple[int, ...]) -> None:
    assert even_points(n, count) == expected


@given(n=st.integers(1, 500), count=st.integers(1, 50))
def test_points_are_at_most_half_a_step_from_even_and_end_at_the_end(n: int, count: int) -> None:
    points = even_points(n, count)
    assert len(points) == count
    assert points[-1] == n
    assert all(abs(point - n * part / count) <= 0.5 for part, point in enumerate(points, 1))
    assert list(points) == sorted(points)
    if count <= n:
        assert len(set(points)) == count
        assert points[0] >= 1
