"""`benchmarks/gpu_step.py` has to run on a machine that we do not have: with a GPU, without Ray."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MISSING = ("ray", "hydra", "omegaconf", "optuna")
# As on a machine without these.
WITHOUT = f"import sys\nfor name in {MISSING}: sys.modules[name] = None"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )


def test_it_needs_neither_ray_nor_hydra() -> None:
    done = python("-c", f"{WITHOUT}\nimport gpu_step")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_it_prints_two_tables_on_a_cpu() -> None:
    run = f"{WITHOUT}\nimport gpu_step\nif __name__ == '__main__': gpu_step.main()"
    done = python("-c", run, "--device", "cpu", "--tiny")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert sum(row.startswith("| test_resnet, 32 px, fp32, batch 16 |") for row in rows) == 3
    assert re.fullmatch(r"\| 2 \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", rows[-1])


def test_without_a_gpu_it_says_so_in_one_line() -> None:
    hidden = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''; import gpu_step; gpu_step.main()"
    done = python("-c", hidden)
    assert (done.returncode, done.stderr.strip()) == (1, "no GPU here; try --device cpu --tiny")
