from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.kernels import readable
from ensemble.kernels_counts import correct_after, correct_alone, f1_after, f1_alone
from ensemble.metrics import MACRO_F1


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    members=st.integers(1, 4),
    rows=st.integers(1, 30),
    classes=st.integers(1, 6),
)
def test_counts_are_those_of_the_decisions(
    seed: int, members: int, rows: int, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, top = rng.integers(classes, size=(2, rows))
    decided = rng.integers(classes, size=(members, rows)).astype(np.int32)
    units = readable(rng.integers(0, 4, size=rows) * (rows > 1) + (np.arange(rows) == 0))
    i, n = np.nonzero(decided != top)
    flips = readable(np.stack([i, n, decided[i, n]], axis=1).astype(np.int32))
    labels, top = readable(labels), top.astype(np.int32)

    expected = [units[row == labels].sum() for row in decided]
    np.testing.assert_array_equal(correct_alone(decided, labels, units), expected)
    np.testing.assert_array_equal(correct_after(members, flips, top, labels, units), expected)

    assert MACRO_F1.from_decisions is not None
    scores = [MACRO_F1.from_decisions(labels, row, classes, units) for row in decided]
    np.testing.assert_allclose(f1_alone(decided, labels, units, classes), scores, rtol=1e-13)
    after = f1_after(members, flips, top, labels, units, classes)
    np.testing.assert_array_equal(after, f1_alone(decided, labels, units, classes))
