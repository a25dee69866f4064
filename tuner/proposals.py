"""Optuna's ask and tell over the conditional space.

Each proposal has a sampler of its own, seeded from (seed, number): what it proposes depends only
on what was told before. So a study rebuilt from the journal goes on like the one that was killed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, Trial, TrialState

from search_spaces.config import Configuration, SamplerConfig
from search_spaces.space import Space
from trainables.seeds import derive_seed
from tuner import events as ev
from tuner.race import PROBE_FOLD

# A small discrete space runs out; so many repeats in a row are taken for that.
MAX_REPEATS = 25


@dataclass(frozen=True)
class Proposal:
    """A configuration that was not proposed before, and Optuna's parameters for it."""

    configuration: Configuration
    params: Mapping[str, Any]


class Proposals:
    """One in-memory Optuna study of the probe fold; the journal is what lasts."""

    def __init__(
        self, space: Space, sampler: SamplerConfig, *, metric: str, maximise: bool, seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._sampler, self._metric, self._seed = space, sampler, metric, seed
        self._study = optuna.create_study(direction="maximize" if maximise else "minimize")
        self._trials: dict[str, Trial] = {}
        self._waiting: Trial | None = None

    def ask(self) -> Proposal | None:
        """A new configuration, or None where the space seems to be used up."""
        number = len(self._trials)
        for repeat in range(MAX_REPEATS):
            self._study.sampler = self._seeded_sampler(derive_seed(self._seed, number, repeat))
            trial = self._study.ask()
            configuration = self._space.sample(trial)
            if configuration.config_id not in self._trials:
                self._waiting = trial
                return Proposal(configuration, dict(trial.params))
            # Failed trials are invisible to the samplers, so a repeat leaves no trace.
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def take_in(self, event: ev.Event, decisions: list[ev.Decision]) -> None:
        """Follow the race: what it heard of the probe fold, Optuna hears."""
        match event:
            case ev.Proposed():
                self._trials[event.config_id] = self._trial_of(event)
            case ev.Reported() | ev.Finished() if event.fold == PROBE_FOLD:
                self._report(event)
        for decision in decisions:
            match decision:
                case ev.Prune():
                    self._tell(decision.config_id, state=TrialState.PRUNED)
                case ev.GiveUp() | ev.Stop() if decision.fold == PROBE_FOLD:
                    self._tell(decision.config_id, state=TrialState.FAIL)

    @property
    def study(self) -> optuna.Study:
        return self._study

    def _trial_of(self, event: ev.Proposed) -> Trial:
        """The trial just asked for, or, when a journal is replayed, the same one again."""
        if self._waiting is not None:
            trial, self._waiting = self._waiting, None
            return trial
        recorded = FixedTrial(dict(event.params))
        self._space.sample(recorded)
        self._study.add_trial(
            optuna.create_trial(
                state=TrialState.RUNNING,
                params=recorded.params,
                distributions=recorded.distributions,
            )
        )
        return Trial(self._study, self._study.get_trials(deepcopy=False)[-1]._trial_id)

    def _report(self, event: ev.Reported | ev.Finished) -> None:
        trial = self._trials[event.config_id]
        if self._state(trial) is not TrialState.RUNNING:
            return
        value = float(event.metrics[self._metric])
        if event.epoch not in self._study.trials[trial.number].intermediate_values:
            trial.report(value, event.epoch)
        if isinstance(event, ev.Finished):
            if math.isnan(value):
                self._tell(event.config_id, state=TrialState.FAIL)
            else:
                self._tell(event.config_id, value=value)

    def _tell(
        self, config_id: str, *, value: float | None = None, state: TrialState | None = None
    ) -> None:
        trial = self._trials[config_id]
        if self._state(trial) is TrialState.RUNNING:
            self._study.tell(trial, value, state=state)

    def _state(self, trial: Trial) -> TrialState:
        return self._study.trials[trial.number].state

    def _seeded_sampler(self, seed: int) -> BaseSampler:
        if self._sampler.name == "random":
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

