from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import ensemble.kernels
from ensemble.kernels import compiled, inlined, readable, readable_probabilities

ROOT = Path(__file__).resolve().parents[2]


@inlined()
def _twice(x: float) -> float:
    return 2.0 * x


@compiled()
def _sum_of_doubles(values: np.ndarray) -> float:
    """The sum of doubles."""
    total = 0.0
    for value in values:
        total += _twice(value)
    return total


def test_a_compiled_function_calls_inlined_ones_and_keeps_its_name() -> None:
    assert _sum_of_doubles(np.array([1.0, 2.5])) == 7.0
    assert (_sum_of_doubles.__name__, _sum_of_doubles.__doc__) == (
        "_sum_of_doubles",
        "The sum of doubles.",
    )


def test_a_machine_without_any_folder_for_the_cache_compiles_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(self: Dispatcher) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(Dispatcher, "enable_caching", nowhere)
    assert compiled()(lambda x: x + 1.0)(1.0) == 2.0


def test_a_cache_that_cannot_be_written_does_not_stop_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def full(*_: object) -> None:
        calls.append(1)
        raise OSError("no space left on device")

    monkeypatch.setattr("numba.core.caching.FunctionCache.save_overload", full)
    monkeypatch.setattr("numba.core.caching.FunctionCache.load_overload", lambda *_: None)
    assert compiled()(_named)(1.0) == 2.0
    assert calls == [1]


def _named(x: float) -> float:
    return x + 1.0


@pytest.mark.parametrize("module", ["kernels_log_loss", "kernels_read", "kernels_decisions"])
def test_importing_kernels_compiles_nothing_and_writes_nothing(module: str, tmp_path: Path) -> None:
    package = tmp_path / "ensemble"
    package.mkdir()
    for name in ("__init__", "kernels", module):
        shutil.copy(ROOT / "ensemble" / f"{name}.py", package)
    code = f"import ensemble.{module}"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": ""}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert {path.name for path in tmp_path.rglob("*")} == {
        "ensemble",
        "__init__.py",
        "kernels.py",
        f"{module}.py",
    }


def test_readable_arrays_are_read_only_contiguous_and_not_copied() -> None:
    array = np.arange(6.0).reshape(2, 3)
    seen = readable(array)
    assert np.shares_memory(seen, array)
    assert array.flags.writeable
    assert not seen.flags.writeable
    turned = readable(array.T)
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, array.T)


def test_a_memory_mapped_file_is_readable_without_a_copy(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    seen = readable_probabilities(mapped)
    assert type(seen) is np.ndarray
    assert np.shares_memory(seen, mapped)


def test_probabilities_become_floats_that_kernels_know() -> None:
    for dtype, expected in (
        (np.float16, np.float64),
        (np.int64, np.float64),
        (np.float32, np.float32),
        (np.float64, np.float64),
    ):
        assert readable_probabilities(np.ones(2, dtype)).dtype == expected
    swapped = np.ones(2, np.dtype(np.float32).newbyteorder())
    assert readable_probabilities(swapped).dtype.isnative


def test_the_decorators_are_used_as_they_are_meant() -> None:
    """A kernel is reached by Python through `compiled` alone, so that nothing is cached at
    import."""
    assert "cache=True" not in Path(ensemble.kernels.__file__).read_text().replace(
        "`njit(cache=True)`", ""
    )
