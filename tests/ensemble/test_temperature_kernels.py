from __future__ import annotations

import numpy as np
import pytest

from ensemble.temperature_kernels import cumulant_sums, exp_scaled, log_floored, temper_rows


def test_the_logarithm_is_that_of_numpy() -> None:
    values = np.concatenate(
        [
            np.geomspace(1e-12, 1.0, 50_000, dtype=np.float32),
            1.0 - np.geomspace(1e-7, 0.5, 50_000, dtype=np.float32),
        ]
    )
    out = np.empty_like(values)
    log_floored(values, out)
    np.testing.assert_allclose(out, np.log(values.astype(np.float64)), rtol=3e-7, atol=1e-9)


def test_the_logarithm_has_a_floor() -> None:
    values = np.array([0.0, 1e-30, 1e-12, 1.0, -0.5], dtype=np.float32)
    out = np.empty_like(values)
    log_floored(values, out)
    floor = np.log(1e-12)
    np.testing.assert_allclose(out, [floor, floor, floor, 0.0, floor], rtol=1e-6)


@pytest.mark.parametrize("beta", [0.05, 1.0, 3.3, 20.0])
def test_the_exponential_is_that_of_numpy_down_to_the_smallest_normal_number(beta: float) -> None:
    logits = -np.concatenate([np.zeros(3), np.geomspace(1e-8, 85.0 / beta, 100_000)])
    single = logits.astype(np.float32)
    out = np.empty_like(single)
    exp_scaled(single, beta, out)
    exponent = beta * single.astype(np.float64)
    # Where a processor cannot fuse a product with a sum, the exponent is rounded.
    assert np.all(np.abs(out / np.exp(exponent) - 1.0) <= 3e-7 + 1.2e-7 * np.abs(exponent))
    exp_scaled(np.array([-200.0, -1e30], np.float32) / np.float32(beta), beta, out[:2])
    assert np.all((out[:2] >= 0.0) & (out[:2] < 1e-37))


@pytest.mark.parametrize("classes", [1, 3, 17, 500, 5000])
@pytest.mark.parametrize("stride", [1, 4])
def test_sums_are_those_of_the_cumulants_of_every_fold(classes: int, stride: int) -> None:
    rng = np.random.default_rng(classes)
    rows, beta = 43, 1.3
    proba = rng.dirichlet(np.full(classes, 0.3), size=rows).astype(np.float32)
    labels, codes = rng.integers(classes, size=rows), rng.integers(3, size=rows)
    shares = rng.random(rows)
    sums = cumulant_sums(proba, labels, shares, codes, 3, beta, stride)
    logits = np.log(np.maximum(proba.astype(np.float64), 1e-12))
    logits -= logits.max(axis=1, keepdims=True)
    mass = np.exp(beta * logits)
    mass /= mass.sum(axis=1, keepdims=True)
    mean = (mass * logits).sum(axis=1)
    away = logits - mean[:, None]
    second, third, fourth, fifth = ((mass * away**k).sum(axis=1) for k in (2, 3, 4, 5))
    columns = [
        np.ones(rows),
        logits[np.arange(rows), labels],
        mean,
        second,
        third,
        fourth - 3 * second**2,
        fifth - 10 * third * second,
    ]
    kept = np.arange(rows) % stride == 0
    for column, values in enumerate(columns):
        expected = np.bincount(codes[kept], weights=(shares * values)[kept], minlength=3)
        scale = 10.0 ** max(0, column - 2)
        np.testing.assert_allclose(sums[:, column], expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("classes", [1, 2, 100, 9000])
def test_tempered_rows_are_a_softmax(classes: int) -> None:
    proba = np.random.default_rng(0).dirichlet(np.ones(classes), size=7).astype(np.float32)
    out = np.empty_like(proba)
    temper_rows(proba, 0.5, out)
    root = np.sqrt(proba.astype(np.float64))
    np.testing.assert_allclose(out, root / root.sum(axis=1, keepdims=True), rtol=5e-6)
