from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import BlendError
from ensemble.hierarchy import confused_groups, divide_anew, fit_group, named_groups
from tests.ensemble.made import member_probabilities

CLASSES = ("400", "401", "403", "404", "405")


def test_the_member_that_knows_the_group_gets_its_weight_there() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=600)
    broad = np.full((600, 4), 0.05)
    broad[np.arange(600), labels] = 0.85
    twins = labels >= 2
    broad[twins] = [0.05, 0.05, 0.45, 0.45]  # cannot tell 2 from 3
    narrow = np.full((600, 4), 0.25)
    narrow[twins] = 0.1
    narrow[twins, labels[twins]] = 0.7
    probs = np.stack([broad, narrow])
    weights = fit_group(probs, labels, (2, 3))
    assert weights[1] > 0.9
    after = divide_anew(broad, probs, (2, 3), weights)
    assert (after.argmax(axis=1) == labels).all()
    np.testing.assert_allclose(after[:, :2], broad[:, :2])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), zeros=st.booleans())
def test_the_group_keeps_its_probability_and_rows_their_sum(seed: int, zeros: bool) -> None:
    probs, labels, _ = member_probabilities(seed, 3, 60, 5, zeros=zeros)
    proba = probs.mean(axis=0)
    weights = fit_group(probs, labels, (0, 3, 4))
    assert weights.sum() == pytest.approx(1)
    after = divide_anew(proba, probs, (0, 3, 4), weights)
    np.testing.assert_allclose(after.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(
        after[:, [0, 3, 4]].sum(axis=1), proba[:, [0, 3, 4]].sum(axis=1), atol=1e-6
    )
    np.testing.assert_allclose(after[:, [1, 2]], proba[:, [1, 2]])


def test_few_rows_carry_no_weights_of_their_own() -> None:
    probs, labels, _ = member_probabilities(0, 3, 20, 5)
    np.testing.assert_array_equal(fit_group(probs, labels, (0, 1)), np.full(3, 1 / 3))


def test_members_without_weight_need_not_predict() -> None:
    probs, _, _ = member_probabilities(0, 2, 20, 4)
    given_both = divide_anew(probs[0], probs, (1, 2), np.array([1.0, 0.0]))
    given_one = divide_anew(probs[0], [probs[0], None], (1, 2), np.array([1.0, 0.0]))
    np.testing.assert_array_equal(given_both, given_one)
    np.testing.assert_allclose(given_one, probs[0], atol=1e-6)


def test_classes_that_are_taken_for_each_other_are_one_group() -> None:
    labels = np.repeat(np.arange(5), 20)
    decided = labels.copy()
    decided[:4] = 1  # 0 as 1: a share of 0.2, and never back: 0.1 on average
    decided[40:44] = 3
    decided[60:62] = 2
    decided[80:81] = 0  # once is nothing
    assert confused_groups(labels, decided, 5) == ((0, 1), (2, 3))
    assert confused_groups(labels, decided, 5, mutual=0.12) == ((2, 3),)
    assert confused_groups(labels, labels, 5) == ()


def test_chains_of_confusion_are_one_group() -> None:
    labels = np.repeat(np.arange(4), 10)
    decided = labels.copy()
    decided[:3], decided[10:13] = 1, 2
    assert confused_groups(labels, decided, 4) == ((0, 1, 2),)


def test_names_become_indices() -> None:
    assert named_groups([["404", "403"], ["400", "405"]], CLASSES) == ((2, 3), (0, 4))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["403"]], "at least two classes in a group, got 403"),
        ([["403", "403"]], "at least two classes"),
        ([["403", "406"]], "no class '406'; did you mean '40"),
        ([["403", "404"], ["404", "405"]], "'404' twice"),
    ],
)
def test_groups_that_make_no_sense_are_refused(groups: list, message: str) -> None:
    with pytest.raises(BlendError, match=message):
        named_groups(groups, CLASSES)


def test_rows_without_weight_are_not_counted_among_the_rows_of_a_group() -> None:
    probs, labels, _ = member_probabilities(0, 3, 200, 4)
    weights = np.where(np.isin(labels, (0, 1)), 0.0, 1.0)
    np.testing.assert_array_equal(fit_group(probs, labels, (0, 1), weights), np.full(3, 1 / 3))
    some = np.flatnonzero(np.isin(labels, (0, 1)))
    weights[some[:40]] = 1.0
    counted = weights > 0
    expected = fit_group(probs[:, counted], labels[counted], (0, 1))
    np.testing.assert_allclose(fit_group(probs, labels, (0, 1), weights), expected, atol=1e-6)


def test_confusion_is_that_of_the_rows_weights() -> None:
    labels = np.repeat(np.arange(3), 20)
    decided = labels.copy()
    decided[:4], decided[20:24] = 1, 0
    weights = np.ones(60)
    assert confused_groups(labels, decided, 3, row_weights=weights) == ((0, 1),)
    weights[:4] = weights[20:24] = 0
    assert confused_groups(labels, decided, 3, row_weights=weights) == ()
