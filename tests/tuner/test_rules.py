from __future__ import annotations

import pytest

from search_spaces.space import load_study
from tuner.errors import UserError
from tuner.pruning import PruningRule
from tuner.rules import rules_of


def config(*overrides: str):
    return load_study(["experiment=digits", *overrides]).run


def test_rules_are_what_the_configuration_says() -> None:
    rules = rules_of(
        config(
            *("folds.k=4", "search.promotion.members=3", "search.max_failures=1"),
            *("search.budget.configurations=9", "search.budget.fold_epochs=200"),
            *("search.pruning.min_epochs=2", "search.pruning.reduction_factor=3"),
            "search.pruning.across_backbones_from=0.5",
        ),
        max_epochs=5,
    )
    assert (rules.n_folds, rules.max_epochs, rules.members) == (4, 5, 3)
    assert (rules.configurations, rules.fold_epochs, rules.max_failures) == (9, 200, 1)
    assert rules.pruning == PruningRule(True, 2, 3.0, 0.5)


@pytest.mark.parametrize(
    ("metric", "higher"), [("log_loss", False), ("accuracy", True), ("macro_f1", True)]
)
def test_the_metric_knows_its_direction(metric: str, higher: bool) -> None:
    rules = rules_of(config(f"search.metric={metric}"), max_epochs=5)
    assert (rules.metric, rules.higher_is_better) == (metric, higher)


def test_a_budget_that_cannot_complete_a_member_is_refused_with_what_it_takes() -> None:
    wanted = config("search.budget.fold_epochs=24")
    with pytest.raises(UserError, match=r"fold_epochs=24: .* takes 25 .* allow at least 25"):
        rules_of(wanted, max_epochs=5)


def test_a_budget_for_exactly_one_member_is_accepted() -> None:
    assert rules_of(config("search.budget.fold_epochs=25"), max_epochs=5).fold_epochs == 25
