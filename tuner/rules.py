"""The race's rules out of a run's typed configuration."""

from __future__ import annotations

from ensemble.metrics import get_metric
from search_spaces.config import RunConfig
from tuner.errors import UserError
from tuner.promotion import by_rank, by_rank_each_backbone
from tuner.pruning import PruningRule
from tuner.race import Rules


def rules_of(config: RunConfig, max_epochs: int) -> Rules:
    """`max_epochs`: the most a configuration of the space can take. UserError for a budget that
    cannot complete one member."""
    search, pruning = config.search, config.search.pruning
    _check_budget(config, max_epochs)
    return Rules(
        metric=search.metric,
        higher_is_better=get_metric(search.metric).higher_is_better,
        n_folds=config.folds.k,
        max_epochs=max_epochs,
        pruning=PruningRule(
            pruning.enabled,
            pruning.min_epochs,
            pruning.reduction_factor,
            pruning.across_backbones_from,
        ),
        members=search.promotion.members,
        configurations=search.budget.configurations,
        fold_epochs=search.budget.fold_epochs,
        max_failures=search.max_failures,
        promote=by_rank_each_backbone if search.promotion.each_backbone else by_rank,
    )


def _check_budget(config: RunConfig, max_epochs: int) -> None:
    budget, least = config.search.budget.fold_epochs, config.folds.k * max_epochs
    if budget is not None and budget < least:
        raise UserError(
            f"search.budget.fold_epochs={budget}: one member alone takes {least} "
            f"({config.folds.k} folds of {max_epochs} epochs); allow at least {least}"
        )
