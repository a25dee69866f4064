from __future__ import annotations

import numpy as np
import pytest

from ensemble.row_weights import row_shares


def test_without_row_weights_all_rows_share_alike() -> None:
    np.testing.assert_array_equal(row_shares(None, 4), np.full(4, 0.25))


def test_shares_sum_to_one_whatever_the_weights_sum_to() -> None:
    for scale in (1e-300, 1.0, 1e308):
        shares = row_shares(np.array([0.0, 0.5, 1.0]) * scale, 3)
        np.testing.assert_allclose(shares, [0.0, 1 / 3, 2 / 3])
    assert row_shares(np.array([1, 3]), 2).dtype == np.float64


@pytest.mark.parametrize(
    "weights", [[1.0, 2.0, 3.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan], [1.0, np.inf]]
)
def test_impossible_row_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="row weight"):
        row_shares(np.array(weights), 2)
