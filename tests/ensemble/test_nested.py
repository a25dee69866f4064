from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.average import weighted_average
from ensemble.calibration import apply_temperature, fit_temperature
from ensemble.convex import convex_weights
from ensemble.greedy import greedy_weights
from ensemble.metrics import METRICS
from ensemble.nested import Fit, Predict, nested_predictions
from tests.ensemble.made import member_probabilities


def fit_with(name: str) -> Fit:
    """Temperatures and weights, both fitted on what is given."""

    def fit(probs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Predict:
        temperatures = [fit_temperature(proba, labels) for proba in probs]

        def temper(given: np.ndarray) -> np.ndarray:
            pairs = zip(given, temperatures, strict=True)
            return np.stack([apply_temperature(proba, t) for proba, t in pairs])

        if name == "convex":
            weights = convex_weights(temper(probs), labels)
        else:
            weights = greedy_weights(temper(probs), labels, METRICS[name], steps=5)
        return lambda given: weighted_average(temper(given), weights)

    return fit


@pytest.mark.parametrize("name", ["convex", *METRICS])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(6, 40), fold=st.integers(0, 2))
def test_the_labels_of_a_fold_never_change_its_predictions(
    name: str, seed: int, rows: int, fold: int
) -> None:
    probs, labels, folds = member_probabilities(seed, 3, rows, 4)
    before = nested_predictions(probs, labels, folds, fit_with(name))
    changed = np.where(folds == fold, (labels + 1) % 4, labels)
    after = nested_predictions(probs, changed, folds, fit_with(name))
    np.testing.assert_array_equal(after[folds == fold], before[folds == fold])
    np.testing.assert_allclose(before.sum(axis=1), 1.0, atol=1e-6)


def test_fit_sees_every_other_fold_and_prediction_only_the_held_out_rows() -> None:
    probs, labels, folds = member_probabilities(0, 2, 30, 3)
    probs[:, :, 0] = np.arange(30)  # which row it is
    calls = []

    def fit(given: np.ndarray, given_labels: np.ndarray, given_folds: np.ndarray) -> Predict:
        rows = given[0, :, 0].astype(int)
        np.testing.assert_array_equal(given_labels, labels[rows])
        np.testing.assert_array_equal(given_folds, folds[rows])
        held_out = {0, 1, 2} - set(given_folds.tolist())
        calls.append(held_out)

        def predict(test: np.ndarray) -> np.ndarray:
            assert set(folds[test[0, :, 0].astype(int)].tolist()) == held_out
            return test[1]

        return predict

    out = nested_predictions(probs, labels, folds, fit)
    assert calls == [{0}, {1}, {2}]
    np.testing.assert_array_equal(out, probs[1])


def test_two_folds_of_any_name_and_any_result_per_row_work() -> None:
    probs, labels, _ = member_probabilities(0, 2, 10, 3)
    folds = np.where(np.arange(10) % 2, 7, -3)
    out = nested_predictions(
        probs, labels, folds, lambda p, y, f: lambda test: np.moveaxis(test, 0, 1)
    )
    np.testing.assert_array_equal(out, np.moveaxis(probs, 0, 1))


def test_a_single_fold_leaves_nothing_to_hold_out() -> None:
    probs, labels, _ = member_probabilities(0, 2, 10, 3)
    with pytest.raises(ValueError, match="at least two folds, got 1"):
        nested_predictions(probs, labels, np.zeros(10, int), fit_with("convex"))


def test_shapes_that_do_not_fit_are_refused() -> None:
    probs, labels, folds = member_probabilities(0, 2, 10, 3)
    with pytest.raises(ValueError, match="expected probs"):
        nested_predictions(probs[0], labels, folds, fit_with("convex"))
    with pytest.raises(ValueError, match="expected probs"):
        nested_predictions(probs, labels, folds[:9], fit_with("convex"))
    with pytest.raises(ValueError, match=r"fold 0: expected \d predictions"):
        nested_predictions(probs, labels, folds, lambda p, y, f: lambda test: test[0][:1])
