from __future__ import annotations

import numpy as np

from ensemble.sources.raw import RawPredictions


def test_what_a_file_says_is_kept_unchecked() -> None:
    raw = RawPredictions("a.csv", np.array(["x"], dtype=object), np.array([[3.0, -1.0]]), None)
    assert (raw.labels, raw.exact, raw.notes) == (None, False, ())
    assert raw.values.tolist() == [[3.0, -1.0]]
