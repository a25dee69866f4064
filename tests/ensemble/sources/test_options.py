from __future__ import annotations

import pytest

from ensemble.sources.options import GatherOptions


def test_options_are_a_frozen_value_with_defaults() -> None:
    options = GatherOptions()
    assert (options.labels, options.folds, options.seed, options.normalise) == (None, 5, 0, False)
    with pytest.raises(AttributeError):
        options.folds = 3  # type: ignore[misc]


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="folds: expected at least 2, got 1"):
        GatherOptions(folds=1)
