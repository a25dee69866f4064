from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble import calibration, temperature
from ensemble.calibration import NO_CALIBRATION, Calibration, CalibrationKind, fit_calibration
from ensemble.metrics import LOG_LOSS
from ensemble.temperature import apply_temperature, fit_temperature
from ensemble.vector_scaling import apply_vector_scaling, fit_vector_scaling
from tests.ensemble.made import member_probabilities

KINDS: tuple[CalibrationKind, ...] = ("none", "temperature", "vector")


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 60),
    zeros=st.booleans(),
)
def test_a_calibration_survives_json_and_never_loses_in_sample(
    seed: int, kind: CalibrationKind, rows: int, zeros: bool
) -> None:
    probs, labels, _ = member_probabilities(seed, 1, rows, 3, zeros=zeros)
    fitted = fit_calibration(kind, probs[0], labels)
    assert fitted.kind == kind
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    calibrated = fitted(probs[0])
    assert calibrated.dtype == np.float64
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, atol=1e-5)
    # Calibration counts no probability as less than 1e-12, the metric as less than 1e-7.
    if not zeros:
        assert LOG_LOSS(labels, calibrated) <= LOG_LOSS(labels, probs[0]) + 1e-6


def test_each_kind_is_its_function() -> None:
    probs, labels, _ = member_probabilities(0, 1, 100, 4)
    weights = np.random.default_rng(0).exponential(size=100)
    tempered = fit_calibration("temperature", probs[0], labels, row_weights=weights)
    assert tempered.temperature == fit_temperature(probs[0], labels, row_weights=weights)
    np.testing.assert_array_equal(
        tempered(probs[0]), apply_temperature(probs[0], tempered.temperature)
    )
    scaled = fit_calibration("vector", probs[0], labels, row_weights=weights)
    scale, bias = fit_vector_scaling(probs[0], labels, row_weights=weights)
    assert (scaled.scale, scaled.bias) == (tuple(scale), tuple(bias))
    np.testing.assert_array_equal(scaled(probs[0]), apply_vector_scaling(probs[0], scale, bias))
    assert fit_calibration("none", probs[0], labels) is NO_CALIBRATION
    np.testing.assert_array_equal(NO_CALIBRATION(probs[0]), probs[0].astype(np.float64))


def test_worked_dictionaries() -> None:
    assert NO_CALIBRATION.to_dict() == {"kind": "none"}
    assert Calibration("temperature", 1.5).to_dict() == {"kind": "temperature", "temperature": 1.5}
    vector = Calibration("vector", scale=(1.0, 2.0), bias=(0.0, 0.5))
    assert vector.to_dict() == {"kind": "vector", "scale": [1.0, 2.0], "bias": [0.0, 0.5]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "temprature"}, "did you mean 'temperature'"),
        ({}, "none, temperature, vector, got None"),
        ({"kind": "none", "temperature": 2.0}, r"expected \['kind'\], got \['kind', 'temp"),
        ({"kind": "temperature"}, r"expected \['kind', 'temperature'\]"),
        ({"kind": "temperature", "temperature": "warm"}, "expected numbers"),
        ({"kind": "temperature", "temperature": 0.0}, "temperature above 0"),
        ({"kind": "vector", "scale": [1.0], "bias": 3}, "expected numbers"),
        ({"kind": "vector", "scale": [1.0], "bias": []}, "one scale and one bias"),
        ({"kind": "vector", "scale": [1.0], "bias": [float("nan")]}, "finite"),
    ],
)
def test_what_is_no_calibration_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict(data)


def test_numbers_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="no temperature"):
        Calibration("none", 2.0)
    with pytest.raises(ValueError, match="no scale"):
        Calibration("temperature", 2.0, scale=(1.0,), bias=(0.0,))


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="for each of the classes"):
        Calibration("vector", scale=(1.0, 1.0), bias=(0.0, 0.0))(np.full((2, 3), 1 / 3))


def test_the_temperature_functions_are_offered_here_too() -> None:
    for name in ("fit_temperature", "fit_temperatures_without", "apply_temperature", "temper"):
        assert getattr(calibration, name) is getattr(temperature, name)
