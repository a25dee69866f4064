from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.kernels import readable
from ensemble.kernels_read import read_members, true_class_bits
from tests.ensemble.made import member_probabilities


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    members=st.integers(1, 4),
    rows=st.integers(1, 30),
    classes=st.sampled_from([1, 2, 7, 8, 9, 40]),
    listed=st.integers(1, 8),
)
def test_what_is_read_is_what_numpy_reads(
    dtype: type, seed: int, members: int, rows: int, classes: int, listed: int
) -> None:
    probs, labels, _ = member_probabilities(seed, members, rows, classes, zeros=True)
    probs, listed = probs.astype(dtype), min(listed, classes)
    bits = readable(probs.view(f"u{probs.itemsize}"))
    chosen = np.empty((rows, listed), np.int32)
    on_list = np.empty((rows, members, listed), bits.dtype)
    highest, rest = np.empty((2, rows, members), bits.dtype)
    p_true, again = np.empty((2, members, rows), bits.dtype)
    labels = readable(labels)
    largest = read_members(bits, labels, chosen, on_list, highest, rest, p_true)
    assert largest == bits.max() == true_class_bits(bits, labels, again)

    np.testing.assert_array_equal(p_true.view(dtype), probs[:, np.arange(rows), labels])
    np.testing.assert_array_equal(again, p_true)
    np.testing.assert_array_equal(highest.view(dtype).T, probs.max(axis=2))
    assert np.all(np.diff(chosen, axis=1) > 0)
    peaks = probs.max(axis=0)
    for n in range(rows):
        outside = np.setdiff1d(np.arange(classes), chosen[n])
        np.testing.assert_array_equal(on_list.view(dtype)[n], probs[:, n, chosen[n]])
        if len(outside):
            assert peaks[n, chosen[n]].min() >= peaks[n, outside].max()
        expected = probs[:, n, outside].max(axis=1, initial=0.0)
        np.testing.assert_array_equal(rest.view(dtype)[n], expected)
