from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import BlendError
from ensemble.sources.new_folds import make_folds


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), rows=st.integers(10, 60), grouped=st.booleans())
def test_every_row_is_in_a_fold_and_groups_stay_together(
    seed: int, rows: int, grouped: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=rows)
    groups = None
    if grouped:
        groups = np.array([f"g{i // 2}" if i % 3 else None for i in range(rows)], dtype=object)
    folds = make_folds(labels, groups, folds=3, seed=seed)
    assert folds.dtype == np.int16
    assert set(folds.tolist()) <= {0, 1, 2}
    np.testing.assert_array_equal(folds, make_folds(labels, groups, folds=3, seed=seed))
    for name in set(groups.tolist()) - {None} if groups is not None else ():
        assert len(set(folds[groups == name].tolist())) == 1


def test_classes_are_spread_over_the_folds() -> None:
    labels = np.repeat([0, 1], [80, 20])
    folds = make_folds(labels, None, folds=5, seed=1)
    assert np.bincount(folds[labels == 1]).tolist() == [4] * 5


def test_classes_rarer_than_folds_are_no_hindrance() -> None:
    folds = make_folds(np.array([0] * 10 + [1, 2, 3]), None, folds=5, seed=0)
    assert sorted(set(folds.tolist())) == [0, 1, 2, 3, 4]


def test_too_few_rows_or_groups_are_refused() -> None:
    with pytest.raises(BlendError, match="at least 5 rows for 5 folds, got 3"):
        make_folds(np.zeros(3, np.int64), None, folds=5, seed=0)
    groups = np.array(["a", "a", "b", "b"], dtype=object)
    with pytest.raises(BlendError, match="at least 3 groups for 3 folds, got 2"):
        make_folds(np.zeros(4, np.int64), groups, folds=3, seed=0)
