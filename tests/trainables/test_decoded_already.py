from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble.files import Location
from tests.trainables.tiny_run import TinyRun
from trainables.decoded_already import images_decoded_already
from trainables.errors import DataError
from trainables.run_paths import RunPaths


def test_the_cache_of_the_search_is_found(tiny_run: TinyRun) -> None:
    found = images_decoded_already(tiny_run.paths)
    assert found is not None
    folds, cache = found
    assert folds.ids == tiny_run.data.folds.ids
    assert cache.path == tiny_run.data.cache.path
    np.testing.assert_array_equal(cache[range(30)], tiny_run.data.cache[range(30)])


def test_where_nothing_is_decoded_nothing_is_made(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDBLEND_CACHE_DIR", str(tmp_path / "none"))
    assert images_decoded_already(tiny_run.paths) is None
    assert not (tmp_path / "none").exists()


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run directory"):
        images_decoded_already(RunPaths(Location.of(tmp_path)))
