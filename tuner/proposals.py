"""Optuna's ask and tell over the conditional space.

What Optuna knows is a list of frozen values, one per proposal, made from the race's events alone.
Each proposal asks a study built from them, with a sampler seeded from (seed, number). So what is
proposed depends only on what was heard before, and a search that goes on from its journal proposes
what the one that was killed would have proposed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from search_spaces.config import Configuration, SamplerConfig
from search_spaces.space import Space
from trainables.seeds import derive_seed
from tuner import events as ev
from tuner.race import PROBE_FOLD

# A small discrete space runs out. TPE likes to repeat the best there, so after a few repeats
# configurations are drawn at random; so many repeats in a row are taken for the end.
TPE_REPEATS = 5
MAX_REPEATS = 200


@dataclass(frozen=True)
class Proposal:
    """A configuration that was not proposed before, and Optuna's parameters for it."""

    configuration: Configuration
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """A proposal as Optuna sees it. `values`: the metric on the probe fold by epoch."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    state: TrialState = TrialState.RUNNING
    value: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)

    def trial(self) -> FrozenTrial:
        return optuna.create_trial(
            state=self.state,
            value=self.value,
            params=dict(self.params),
            distributions=dict(self.distributions),
            intermediate_values=dict(self.values),
        )


class Proposals:
    """The probe fold as Optuna is told of it; the journal is what lasts."""

    def __init__(
        self, space: Space, sampler: SamplerConfig, *, metric: str, maximise: bool, seed: int
    ) -> None:
        self._space, self._sampler, self._metric, self._seed = space, sampler, metric, seed
        self._direction = "maximize" if maximise else "minimize"
        self._told: dict[str, Told] = {}

    def ask(self) -> Proposal | None:
        """A new configuration, or None where the space seems to be used up. Changes nothing:
        a proposal counts from its `Proposed` event on."""
        study = self.study
        for repeat in range(MAX_REPEATS):
            study.sampler = self._seeded_sampler(repeat)
            trial = study.ask()
            configuration = self._space.sample(trial)
            if configuration.config_id not in self._told:
                return Proposal(configuration, dict(trial.params))
            # Samplers do not look at failed trials.
            study.tell(trial, state=TrialState.FAIL)
        return None

    def take_in(self, event: ev.Event, decisions: list[ev.Decision]) -> None:
        """Follow the race: what it heard of the probe fold, Optuna hears."""
        match event:
            case ev.Proposed():
                recorded = FixedTrial(dict(event.params))
                self._space.sample(recorded)
                self._told[event.config_id] = Told(recorded.params, recorded.distributions)
            case ev.Reported() if event.fold == PROBE_FOLD:
                self._report(event)
            case ev.Finished() if event.fold == PROBE_FOLD:
                self._report(event)
                self._finish(event)
        for decision in decisions:
            match decision:
                case ev.Prune():
                    self._end(decision.config_id, TrialState.PRUNED)
                case ev.GiveUp() | ev.Stop() if decision.fold == PROBE_FOLD:
                    self._end(decision.config_id, TrialState.FAIL)

    @property
    def told(self) -> Mapping[str, Told]:
        """By config_id, in order of proposal."""
        return self._told

    @property
    def study(self) -> optuna.Study:
        """An Optuna study of everything told so far, in memory: the caller's own."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction=self._direction)
        study.add_trials([one.trial() for one in self._told.values()])
        return study

    def _report(self, event: ev.Reported | ev.Finished) -> None:
        told = self._told[event.config_id]
        if told.state is TrialState.RUNNING and event.epoch not in told.values:
            values = {**told.values, event.epoch: float(event.metrics[self._metric])}
            self._told[event.config_id] = replace(told, values=values)

    def _finish(self, event: ev.Finished) -> None:
        value = float(event.metrics[self._metric])
        if math.isnan(value):
            self._end(event.config_id, TrialState.FAIL)
        else:
            self._end(event.config_id, TrialState.COMPLETE, value)

    def _end(self, config_id: str, state: TrialState, value: float | None = None) -> None:
        told = self._told[config_id]
        if told.state is TrialState.RUNNING:
            self._told[config_id] = replace(told, state=state, value=value)

    def _seeded_sampler(self, repeat: int) -> BaseSampler:
        seed = derive_seed(self._seed, len(self._told), repeat)
        if self._sampler.name == "random" or repeat >= TPE_REPEATS:
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(
                seed=seed,
                n_startup_trials=self._sampler.startup,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
