from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.kernels import readable
from ensemble.kernels_read import GRADES, NOT_LISTED, Members, read_members, true_class_bits
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
    probs, labels = readable(probs), readable(labels)
    into = Members(
        probs=probs,
        classes=np.empty((rows, listed), np.int32),
        listed=np.empty((rows, members, listed), dtype),
        best=np.empty((rows, members), np.uint8),
        highest=np.empty((rows, members), np.uint8),
        second=np.empty((rows, members), np.uint8),
        rest=np.empty((rows, members), dtype),
        p_true=np.empty((members, rows), dtype),
    )
    bits, again = probs.view(kind), np.empty((members, rows), kind)
    largest = read_members(into, bits, into.rest.view(kind), labels)
    assert largest == bits.max() == true_class_bits(bits, labels, again)

    np.testing.assert_array_equal(into.p_true, probs[:, np.arange(rows), labels])
    np.testing.assert_array_equal(again.view(dtype), into.p_true)
    wide = probs.astype(np.float64).transpose(1, 0, 2)
    np.testing.assert_array_equal(into.highest, np.ceil(wide.max(axis=2) * GRADES))
    surely = wide.max(axis=2) > into.rest if classes > listed else np.full((rows, members), True)
    np.testing.assert_array_equal(into.best != NOT_LISTED, surely)
    place = np.minimum(into.best, listed - 1).astype(np.intp)
    own = np.take_along_axis(into.classes, place, axis=1)
    np.testing.assert_array_equal(own[surely], wide.argmax(axis=2)[surely])
    second = np.sort(wide, axis=2)[:, :, -2] if classes > 1 else np.zeros((rows, members))
    assert np.all(into.second >= np.ceil(second * GRADES))
    np.testing.assert_array_equal(into.second[surely], np.ceil(second * GRADES)[surely])
    assert np.all(np.diff(into.classes, axis=1) > 0)
    peaks = probs.max(axis=0)
    for n in range(rows):
        chosen = into.classes[n]
        outside = np.setdiff1d(np.arange(classes), chosen)
        np.testing.assert_array_equal(into.listed[n], probs[:, n, chosen])
        if len(outside):
            assert peaks[n, chosen].min() >= peaks[n, outside].max()
        expected = probs[:, n, outside].max(axis=1, initial=0.0)
        np.testing.assert_array_equal(into.rest[n], expected)
