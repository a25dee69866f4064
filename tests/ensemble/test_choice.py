from __future__ import annotations

import numpy as np
import pytest

from ensemble.choice import choose
from ensemble.errors import BlendError
from ensemble.metrics import ACCURACY, LOG_LOSS, Metric, get_metric
from ensemble.outcome import Outcome

ROWS = 400
LABELS = np.zeros(ROWS, dtype=int)


def outcome(p_true: np.ndarray) -> Outcome:
    return Outcome.of(LABELS, np.stack([p_true, 1 - p_true], axis=1), keep_proba=False)


def noisy(level: float, spread: float, seed: int) -> Outcome:
    rng = np.random.default_rng(seed)
    return outcome(np.clip(level + spread * rng.normal(size=ROWS), 0.05, 0.95))


def test_what_cannot_be_told_from_the_best_and_is_simpler_is_taken() -> None:
    simple, best = noisy(0.7, 0.1, 0), noisy(0.705, 0.1, 1)
    found = choose(LABELS, {"equal": simple, "greedy": best}, LOG_LOSS)
    assert found.best == "greedy"
    assert found.method == "equal"
    assert 0 < found.behind["equal"] <= found.standard_error["equal"]
    assert found.behind["greedy"] == found.standard_error["greedy"] == 0
    assert "within one standard error" in found.reason(LOG_LOSS)


def test_what_is_surely_worse_is_not_taken() -> None:
    simple, best = noisy(0.6, 0.02, 0), noisy(0.7, 0.02, 1)
    found = choose(LABELS, {"equal": simple, "greedy": best}, LOG_LOSS)
    assert found.method == found.best == "greedy"
    assert found.behind["equal"] > found.standard_error["equal"]
    assert found.reason(LOG_LOSS).startswith("greedy: the best nested log_loss")


def test_the_same_small_gain_on_every_row_is_no_chance() -> None:
    base = noisy(0.7, 0.1, 0).p_true
    found = choose(LABELS, {"equal": outcome(base), "greedy": outcome(base * 1.001)}, LOG_LOSS)
    assert found.method == "greedy"


def test_a_group_counts_as_one_observation() -> None:
    # Half of the rows gain, half of them lose a little less: told by rows, not by two groups.
    first = np.arange(ROWS) < ROWS // 2
    p_true = np.full(ROWS, 0.6)
    better = np.where(first, 0.68, 0.56)
    groups = np.where(first, "one", "other").astype(object)
    outcomes = {"equal": outcome(p_true), "greedy": outcome(better)}
    assert choose(LABELS, outcomes, LOG_LOSS).method == "greedy"
    assert choose(LABELS, outcomes, LOG_LOSS, groups=groups).method == "equal"


def test_equal_accuracies_are_told_apart_by_log_loss_to_find_the_best() -> None:
    sure, unsure = outcome(np.full(ROWS, 0.9)), outcome(np.full(ROWS, 0.6))
    found = choose(LABELS, {"greedy": unsure, "stacking": sure}, ACCURACY)
    assert found.best == "stacking"
    assert found.method == "greedy"  # as accurate, and simpler
    assert found.behind["greedy"] == 0


def test_the_only_method_is_chosen_without_a_contest() -> None:
    found = choose(LABELS, {"convex": noisy(0.7, 0.1, 0)}, LOG_LOSS)
    assert found.method == "convex"
    assert found.reason(LOG_LOSS) == "convex: the only method asked for"


def test_rows_without_weight_do_not_count() -> None:
    good = np.where(np.arange(ROWS) < 200, 0.9, 0.1)
    bad = 1 - good
    first = np.where(np.arange(ROWS) < 200, 1.0, 0.0)
    outcomes = {"a": outcome(bad), "b": outcome(good)}
    assert choose(LABELS, outcomes, LOG_LOSS, row_weights=first).method == "b"
    assert choose(LABELS, outcomes, LOG_LOSS, row_weights=1 - first).method == "a"


@pytest.mark.parametrize("metric", [LOG_LOSS, ACCURACY], ids=lambda metric: metric.name)
def test_a_tie_goes_to_the_simpler(metric: Metric) -> None:
    same = noisy(0.7, 0.1, 0)
    assert choose(LABELS, {"equal": same, "greedy": same}, metric).method == "equal"


def test_what_loses_to_the_best_single_member_is_no_candidate() -> None:
    simple, best = noisy(0.7, 0.1, 0), noisy(0.705, 0.1, 1)
    single = outcome(best.p_true * 0.9999)
    found = choose(LABELS, {"equal": simple, "greedy": best}, LOG_LOSS, single=single)
    assert found.method == "greedy"
    assert found.no_gain == ("equal",)
    assert "equal left out: no better than the best single member" in found.reason(LOG_LOSS)


def test_where_all_lose_to_the_best_single_member_the_best_of_them_is_taken() -> None:
    simple, best = noisy(0.7, 0.1, 0), noisy(0.705, 0.1, 1)
    found = choose(LABELS, {"equal": simple, "greedy": best}, LOG_LOSS, single=noisy(0.9, 0.01, 2))
    assert found.method == "greedy"
    assert found.no_gain == ("equal",)


def test_a_metric_that_a_resample_cannot_have_says_how_to_do_without() -> None:
    labels = np.arange(40) % 2
    labels[7] = 2  # every third resample lacks it
    rng = np.random.default_rng(0)
    outcomes = {
        name: Outcome.of(labels, rng.dirichlet(np.ones(3), size=40), keep_proba=True)
        for name in ("equal", "greedy")
    }
    with pytest.raises(
        BlendError, match=r"^sklearn:roc_auc_ovr: not defined on every resample.*name one method"
    ):
        choose(labels, outcomes, get_metric("sklearn:roc_auc_ovr"))
