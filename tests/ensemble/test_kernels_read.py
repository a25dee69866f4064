from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.kernels import readable
from ensemble.kernels_read import NOT_LISTED, Members, read_members, true_class_bits
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
    kind = np.dtype(f"u{probs.itemsize}")
    bits, labels = readable(probs.view(kind)), readable(labels)
    into = Members(
        bits,
        np.empty((rows, listed), np.int32),
        np.empty((rows, members, listed), kind),
        np.empty((rows, members), np.uint8),
        np.empty((rows, members), kind),
        np.empty((rows, members), kind),
        np.empty((rows, members), kind),
        np.empty((members, rows), kind),
    )
    again = np.empty((members, rows), kind)
    assert read_members(into, labels) == bits.max() == true_class_bits(bits, labels, again)
    _, chosen, on_list, best, highest, second, rest, p_true = into

    np.testing.assert_array_equal(p_true.view(dtype), probs[:, np.arange(rows), labels])
    np.testing.assert_array_equal(again, p_true)
    np.testing.assert_array_equal(highest.view(dtype).T, probs.max(axis=2))
    assert np.all(np.diff(chosen, axis=1) > 0)
    peaks = probs.max(axis=0)
    first = probs.argmax(axis=2).T
    surely = highest > rest if classes > listed else np.full((rows, members), True)
    own = np.take_along_axis(chosen, np.minimum(best, listed - 1).astype(np.intp), axis=1)
    np.testing.assert_array_equal(best != NOT_LISTED, surely)
    np.testing.assert_array_equal(own[surely], first[surely])
    two = np.sort(probs, axis=2)[:, :, -2].T if classes > 1 else np.zeros((rows, members), dtype)
    assert np.all(second.view(dtype) >= two)
    np.testing.assert_array_equal(second.view(dtype)[surely], two[surely])
    for n in range(rows):
        outside = np.setdiff1d(np.arange(classes), chosen[n])
        np.testing.assert_array_equal(on_list.view(dtype)[n], probs[:, n, chosen[n]])
        if len(outside):
            assert peaks[n, chosen[n]].min() >= peaks[n, outside].max()
        expected = probs[:, n, outside].max(axis=1, initial=0.0)
        np.testing.assert_array_equal(rest.view(dtype)[n], expected)
