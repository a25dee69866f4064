from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from ensemble import stacking
from ensemble.logit_mean import log_mean
from ensemble.metrics import ACCURACY, LOG_LOSS
from ensemble.stacking import CLIP, fit_stacking, log_features, stack, stacking_shares
from tests.ensemble.made import member_probabilities

FORMS = pytest.mark.parametrize("max_parameters", [0, 10_000], ids=["shared", "pairs"])


def test_worked_value() -> None:
    probs = np.array([[[0.5, 0.5]], [[0.2, 0.8]]])
    blend = stack(probs, np.array([1.0, 0.5]), np.array([np.log(2.0), 0.0]))
    # Odds of the second class: 1 * sqrt(4) / 2.
    np.testing.assert_allclose(blend, [[0.5, 0.5]])


def test_coefficients_of_pairs_go_from_the_members_class_to_the_stacks() -> None:
    swapped = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    blend = stack(np.array([[[0.2, 0.8]]]), swapped, np.zeros(2))
    np.testing.assert_allclose(blend, [[0.8, 0.2]])


@FORMS
def test_a_strong_pull_leaves_the_mean_of_logits(max_parameters: int) -> None:
    probs, labels, _ = member_probabilities(1, 3, 200, 4)
    fitted = fit_stacking(probs, labels, l2=1e9, max_parameters=max_parameters)
    expected = log_mean(np.maximum(probs, CLIP), np.full(3, 1 / 3))
    np.testing.assert_allclose(stack(probs, *fitted), expected, atol=1e-4)


@FORMS
def test_in_sample_it_beats_the_mean_of_logits(max_parameters: int) -> None:
    probs, labels, _ = member_probabilities(2, 4, 400, 3)
    blend = stack(probs, *fit_stacking(probs, labels, max_parameters=max_parameters))
    assert LOG_LOSS(labels, blend) < LOG_LOSS(labels, log_mean(probs, np.full(4, 0.25)))


def test_classes_that_members_mix_up_are_put_right() -> None:
    labels = np.arange(300) % 3
    renamed = np.full((300, 3), 0.1)
    renamed[np.arange(300), (labels + 1) % 3] = 0.8
    coef, intercept = fit_stacking(renamed[None], labels)
    assert coef.shape == (1, 3, 3)
    assert ACCURACY(labels, stack(renamed[None], coef, intercept)) == 1.0


def test_without_a_pull_worth_mentioning_it_is_scikit_learns_regression() -> None:
    probs, labels, _ = member_probabilities(3, 2, 600, 3)
    features = log_features(probs.astype(np.float64)).transpose(1, 0, 2).reshape(600, -1)
    other = LogisticRegression(C=1e4, tol=1e-8, max_iter=5000).fit(features, labels)
    blend = stack(probs, *fit_stacking(probs, labels, l2=1e-3))
    expected = LOG_LOSS(labels, other.predict_proba(features))
    assert LOG_LOSS(labels, blend) == pytest.approx(expected, abs=1e-4)


def test_which_form_is_a_matter_of_the_number_of_coefficients() -> None:
    probs, labels, _ = member_probabilities(4, 3, 50, 4)
    assert fit_stacking(probs, labels, max_parameters=48)[0].shape == (3, 4, 4)
    assert fit_stacking(probs, labels, max_parameters=47)[0].shape == (3,)


@FORMS
def test_a_class_without_labels_becomes_improbable_but_not_impossible(max_parameters: int) -> None:
    probs, labels, _ = member_probabilities(5, 3, 400, 4)
    known = labels != 2
    fitted = fit_stacking(probs[:, known], labels[known], max_parameters=max_parameters)
    absent = stack(probs, *fitted)[:, 2]
    assert np.all(absent > 0)
    assert absent.mean() < 0.5 * log_mean(probs, np.full(3, 1 / 3))[:, 2].mean()


@FORMS
def test_large_inputs_are_computed_in_float32_and_block_by_block_to_the_same(
    max_parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    probs, labels, _ = member_probabilities(6, 3, 300, 3)
    expected = stack(probs, *fit_stacking(probs, labels, max_parameters=max_parameters))
    monkeypatch.setattr(stacking, "PRECISE_VALUES", 0)
    monkeypatch.setattr(stacking, "KEPT_BYTES", 0)
    monkeypatch.setattr(stacking, "BLOCK_VALUES", 500)
    blend = stack(probs, *fit_stacking(probs, labels, max_parameters=max_parameters))
    np.testing.assert_allclose(blend, expected, atol=2e-3)
    assert LOG_LOSS(labels, blend) == pytest.approx(LOG_LOSS(labels, expected), abs=1e-4)


@pytest.mark.parametrize("pairs", [True, False])
def test_the_gradient_is_that_of_the_loss(pairs: bool) -> None:
    probs, labels, _ = member_probabilities(7, 2, 30, 3)
    rng = np.random.default_rng(0)
    loss = stacking._Loss(probs, labels, rng.dirichlet(np.ones(30)), 0.01, pairs)
    blocks = list(loss._blocks())
    point = 0.3 * rng.normal(size=2 + pairs * 18 + 3)
    numeric = approx_fprime(point, lambda at: loss._value(at, blocks)[0], 1e-7)
    np.testing.assert_allclose(loss._value(point, blocks)[1], numeric, atol=1e-6)


def test_shares_are_of_absolute_coefficients() -> None:
    np.testing.assert_allclose(stacking_shares(np.array([3.0, -1.0, 0.0])), [0.75, 0.25, 0.0])
    pairs = np.stack([np.eye(2), -3.0 * np.eye(2)])
    np.testing.assert_allclose(stacking_shares(pairs), [0.25, 0.75])
    np.testing.assert_array_equal(stacking_shares(np.zeros(4)), [0.25] * 4)


@pytest.mark.parametrize(
    ("coef", "intercept"),
    [
        (np.ones(3), np.zeros(2)),
        (np.ones((2, 2)), np.zeros(2)),
        (np.ones(2), np.zeros(3)),
        (np.array([1.0, np.inf]), np.zeros(2)),
    ],
)
def test_coefficients_that_do_not_fit_are_refused(coef: np.ndarray, intercept: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"coefficients|finite"):
        stack(np.full((2, 3, 2), 0.5), coef, intercept)


@pytest.mark.parametrize("l2", [0.0, -1.0, np.nan])
def test_a_pull_that_is_not_above_0_is_refused(l2: float) -> None:
    with pytest.raises(ValueError, match="l2 above 0"):
        fit_stacking(np.full((2, 3, 2), 0.5), np.zeros(3, int), l2=l2)
