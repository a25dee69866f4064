"""Scikit-learn's own estimator checks: on `FoldBlender` itself as far as any features can tell, and
all of them on a `FoldBlender` whose members predict from whatever features come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import estimator_checks_generator

from ensemble.blender import FoldBlender

Check = Callable[[BaseEstimator], None]


class OnFeatures(FoldBlender):
    """Four members, each a fixed random linear map of the features and a softmax. All else, and
    above all what is checked of the features, is FoldBlender's."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = False
        return tags

    def _side_by_side(self, table: np.ndarray, n_members: int | None, n_classes: int) -> np.ndarray:
        shape = (4, table.shape[1], n_classes)
        maps = np.random.default_rng(0).normal(size=shape) / np.sqrt(table.shape[1])
        with np.errstate(invalid="ignore"):  # infinite features become NaN, which is refused
            logits = np.stack([table @ one for one in maps])
            odds = np.exp(logits - logits.max(axis=2, keepdims=True))
        return odds / odds.sum(axis=2, keepdims=True)


NO_PROBABILITIES = (
    "It fits on features that are not members' probabilities (columns that are not a multiple of "
    "the classes, values beyond 1, rows that do not sum to 1), which FoldBlender refuses."
)
ONE_LABEL = "It fits on features that are no probabilities, and wants an error that says 'class'."
REFUSED_FOR_ANOTHER_REASON = (
    "The fault that it looks for is in features which are no probabilities: that is said first."
)
WEIGHTS_OF_AUTO = (
    "Methods are chosen by a nested score over folds of rows: a row of weight 2 is in one fold, "
    "where the same row given twice may be in two."
)
OF_RAW: Mapping[str, str] = {
    "check_fit_score_takes_y": NO_PROBABILITIES,
    "check_estimators_overwrite_params": NO_PROBABILITIES,
    "check_dont_overwrite_parameters": NO_PROBABILITIES,
    "check_estimators_fit_returns_self": NO_PROBABILITIES,
    "check_readonly_memmap_input": NO_PROBABILITIES,
    "check_n_features_in_after_fitting": NO_PROBABILITIES,
    "check_positive_only_tag_during_fit": REFUSED_FOR_ANOTHER_REASON,
    "check_estimators_dtypes": NO_PROBABILITIES,
    "check_sample_weights_pandas_series": NO_PROBABILITIES,
    "check_sample_weights_not_an_array": NO_PROBABILITIES,
    "check_sample_weights_list": NO_PROBABILITIES,
    "check_sample_weights_shape": NO_PROBABILITIES,
    "check_sample_weights_not_overwritten": NO_PROBABILITIES,
    "check_sample_weight_equivalence_on_dense_data": NO_PROBABILITIES,
    "check_dtype_object": NO_PROBABILITIES,
    "check_pipeline_consistency": NO_PROBABILITIES,
    "check_estimators_nan_inf": REFUSED_FOR_ANOTHER_REASON,
    "check_estimators_pickle": NO_PROBABILITIES,
    "check_f_contiguous_array_estimator": NO_PROBABILITIES,
    "check_classifier_data_not_an_array": NO_PROBABILITIES,
    "check_classifiers_one_label": ONE_LABEL,
    "check_classifiers_one_label_sample_weights": ONE_LABEL,
    "check_classifiers_classes": NO_PROBABILITIES,
    "check_classifiers_train": NO_PROBABILITIES,
    "check_supervised_y_2d": NO_PROBABILITIES,
    "check_methods_sample_order_invariance": NO_PROBABILITIES,
    "check_methods_subset_invariance": NO_PROBABILITIES,
    "check_dict_unchanged": NO_PROBABILITIES,
    "check_fit_idempotent": NO_PROBABILITIES,
    "check_fit_check_is_fitted": NO_PROBABILITIES,
    "check_n_features_in": NO_PROBABILITIES,
    "check_fit2d_predict1d": NO_PROBABILITIES,
}
OF_AUTO: Mapping[str, str] = {"check_sample_weight_equivalence_on_dense_data": WEIGHTS_OF_AUTO}
NONE: Mapping[str, str] = {}


def name_of(check: Check) -> str:
    return check.func.__name__ if isinstance(check, partial) else check.__name__


def checks_of(estimator: BaseEstimator, expected: Mapping[str, str]) -> list[Any]:
    return [
        pytest.param(one, check, expected.get(name_of(check)), id=name_of(check))
        for one, check in estimator_checks_generator(estimator)
    ]


def hold(estimator: BaseEstimator, check: Check, reason: str | None) -> None:
    """A check that is expected to fail must: the list would else be longer than the truth."""
    if reason is None:
        check(estimator)
    else:
        with pytest.raises((AssertionError, ValueError)):
            check(estimator)


@pytest.mark.parametrize(("estimator", "check", "reason"), checks_of(FoldBlender(), OF_RAW))
def test_the_estimator_itself_passes_the_checks_that_need_no_fit(
    estimator: BaseEstimator, check: Check, reason: str | None
) -> None:
    hold(estimator, check, reason)


@pytest.mark.parametrize(
    ("estimator", "check", "reason"), checks_of(OnFeatures(methods="convex", bootstrap=20), NONE)
)
def test_on_features_one_method_passes_every_check(
    estimator: BaseEstimator, check: Check, reason: str | None
) -> None:
    hold(estimator, check, reason)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "check", "reason"), checks_of(OnFeatures(methods="stacking", bootstrap=20), NONE)
)
def test_on_features_stacking_passes_every_check(
    estimator: BaseEstimator, check: Check, reason: str | None
) -> None:
    hold(estimator, check, reason)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check", "reason"), checks_of(OnFeatures(), OF_AUTO))
def test_on_features_the_defaults_pass_every_check_but_one(
    estimator: BaseEstimator, check: Check, reason: str | None
) -> None:
    hold(estimator, check, reason)


def test_every_check_that_is_expected_to_fail_exists() -> None:
    found = {name_of(check) for _, check in estimator_checks_generator(FoldBlender())}
    assert set(OF_RAW) | set(OF_AUTO) <= found
