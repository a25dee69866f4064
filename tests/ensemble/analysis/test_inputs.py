from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.analysis.inputs import Analysed
from ensemble.errors import BlendError
from tests.ensemble.analysis.made import analysed, plausible, sure_of


def small() -> Analysed:
    return analysed([0, 1], {"a": sure_of([0, 1], 2), "b": sure_of([1, 1], 2)}, sure_of([0, 1], 2))


def test_members_are_read_by_name_from_a_mapping_or_a_function() -> None:
    given = small()
    np.testing.assert_array_equal(given.read("b"), sure_of([1, 1], 2))
    by_call = replace(given, members=lambda name: sure_of([0, 0], 2) if name == "a" else None)
    np.testing.assert_array_equal(by_call.read("a"), sure_of([0, 0], 2))


def test_sizes_and_class_names() -> None:
    given = plausible(0, members=3, rows=10, classes=4)
    assert (given.n_members, given.n_rows, given.n_classes) == (3, 10, 4)
    assert given.class_names(np.array([3, 0])).tolist() == ["dog", "ant"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0])}, "as many ids, labels and folds"),
        ({"labels": np.array([0, 2])}, "id 'r1': expected a known label from 0 to 1, got 2"),
        ({"labels": np.array([-1, 0])}, "id 'r0': expected a known label"),
        ({"folds": np.array([0, 1, 2])}, "as many ids, labels and folds"),
        ({"names": ("a", "a")}, "each once"),
        ({"names": ()}, "each once"),
        ({"names": ("a", "blend")}, "member 'blend': in the tables that is the blend itself"),
        ({"weights": np.array([1.0])}, "expected 2 weights"),
        ({"best_single": "bb"}, "'bb' is not a member; did you mean b"),
        ({"blend": sure_of([0], 2)}, r"blend: expected probabilities of shape \(2, 2\)"),
        ({"blend": np.full((2, 2), np.nan, np.float32)}, r"blend: .* got NaN in row 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(BlendError, match=message) as caught:
        replace(small(), **change)
    assert "\n" not in str(caught.value)


def test_a_member_that_does_not_fit_is_named() -> None:
    given = replace(small(), members={"a": sure_of([0], 2), "b": sure_of([1, 1], 2) * np.nan})
    with pytest.raises(BlendError, match=r"member a: expected .* \(2, 2\), got \(1, 2\)"):
        given.read("a")
    with pytest.raises(BlendError, match=r"member b: .* NaN in row 0"):
        given.read("b")
