from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.metrics import ACCURACY, LOG_LOSS
from ensemble.rules import Rules, fit_trust, read_rules

CLASSES = ("cat", "dog", "élan")
IDS = np.array(["a", "b", "c", "d"], dtype=object)
PROBA = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25]])


def written(folder: Path, table: pd.DataFrame, name: str = "rules.csv") -> Location:
    path = folder / name
    if name.endswith(".csv"):
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return Location.of(path)


@pytest.mark.parametrize("name", ["rules.csv", "rules.parquet"])
def test_an_override_moves_its_strength_of_the_probability(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"id": ["a", "d"], "class": ["cat", "élan"], "strength": [1.0, 0.5]})
    rules = read_rules(written(tmp_path, table, name), CLASSES)
    assert rules.fixed
    after = rules.apply(IDS, PROBA)
    np.testing.assert_allclose(after[0], [1, 0, 0])
    np.testing.assert_allclose(after[3], [0.125, 0.25, 0.625])
    np.testing.assert_array_equal(after[1:3], PROBA[1:3])
    assert rules.touched(IDS).tolist() == [True, False, False, True]


def test_a_second_model_divides_only_what_its_classes_have(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "a"], "class": ["dog", "élan"], "probability": [0.75, 0.25]})
    rules = read_rules(written(tmp_path, table), CLASSES)
    assert not rules.fixed
    np.testing.assert_allclose(rules.apply(IDS, PROBA)[0], [0.2, 0.6, 0.2])
    np.testing.assert_allclose(rules.apply(IDS, PROBA, trust=0.5)[0], [0.2, 0.45, 0.35])


def test_a_later_rule_acts_on_what_an_earlier_one_left(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "a"], "class": ["cat", "dog"], "strength": [1.0, 0.5]})
    after = read_rules(written(tmp_path, table), CLASSES).apply(IDS, PROBA)
    np.testing.assert_allclose(after[0], [0.5, 0.5, 0.0])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), trust=st.floats(0, 1))
def test_rows_stay_distributions(seed: int, trust: float) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.dirichlet(np.ones(3), size=6)
    within = rng.random((6, 3)) < 0.7
    within[np.arange(6), rng.integers(3, size=6)] = True
    targets = np.where(within, targets, 0)
    targets /= targets.sum(axis=1, keepdims=True)
    rules = Rules("made", rng.choice(IDS, size=6), targets, within, rng.random(6), False)
    after = rules.apply(IDS, PROBA, trust)
    np.testing.assert_allclose(after.sum(axis=1), 1.0)
    assert after.min() >= -1e-12


def test_right_rules_are_trusted_and_wrong_ones_are_not(tmp_path: Path) -> None:
    labels = np.array([0, 0, 2, 1])
    right = pd.DataFrame({"id": IDS, "class": ["cat", "cat", "élan", "dog"]})
    wrong = pd.DataFrame({"id": IDS, "class": ["dog", "élan", "cat", "cat"]})
    for table, trust in ((right, 1.0), (wrong, 0.0)):
        rules = read_rules(written(tmp_path, table), CLASSES)
        assert fit_trust(rules, IDS, labels, PROBA, LOG_LOSS) == trust
    # One in two right: for log loss neither blind trust nor none.
    half = pd.DataFrame({"id": IDS, "class": ["cat", "dog", "élan", "cat"]})
    rules = read_rules(written(tmp_path, half), CLASSES)
    assert 0.0 < fit_trust(rules, IDS, labels, PROBA, LOG_LOSS) < 1.0


def test_a_given_strength_is_not_second_guessed(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a"], "class": ["cat"], "strength": [0.25]})
    rules = read_rules(written(tmp_path, table), CLASSES)
    assert fit_trust(rules, IDS, np.array([2, 0, 2, 1]), PROBA, ACCURACY) == 1.0


def test_rules_that_touch_no_labelled_row_earn_no_trust(tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path, pd.DataFrame({"id": ["z"], "class": ["cat"]})), CLASSES)
    assert fit_trust(rules, IDS, np.array([0, 0, 2, 1]), PROBA, LOG_LOSS) == 0.0


def test_ids_that_look_like_numbers_keep_their_zeros(tmp_path: Path) -> None:
    path = tmp_path / "rules.csv"
    path.write_text("id,class\n007,cat\n")
    assert read_rules(Location.of(path), CLASSES).ids.tolist() == ["007"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a"], "label": ["cat"]}, "expected the columns id, class"),
        ({"id": [], "class": []}, "at least one rule"),
        ({"id": ["a"], "class": ["dgo"]}, "row 1: no class 'dgo'; did you mean 'dog'"),
        (
            {"id": ["a"], "class": ["dog"], "strength": [2]},
            "row 1: expected a strength from 0 to 1",
        ),
        (
            {"id": ["a", "a"], "class": ["dog", "cat"], "probability": [0.5, 0.1]},
            "id 'a': expected probabilities with a sum of 1, got 0.6",
        ),
        (
            {"id": ["a", "a"], "class": ["dog", "dog"], "probability": [0.5, 0.5]},
            "at most once for an id",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line(
    tmp_path: Path, table: dict, message: str
) -> None:
    with pytest.raises(BlendError, match=message) as caught:
        read_rules(written(tmp_path, pd.DataFrame(table)), CLASSES)
    assert "rules.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
