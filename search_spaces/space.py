"""The search space: which members of groups and which values a search may try.

Define-by-run: a sample first chooses the members of the searched groups, and only then the values
that are searched under those members (their own sweeps come with them). A `Space` is read from the
files once and is a plain value afterwards: it can be pickled, and editing a YAML file in the middle
of a search changes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces import conditions
from search_spaces.compose import Raw, compose_raw
from search_spaces.composition import Composition, read_composition
from search_spaces.conditions import SpaceRow
from search_spaces.config import (
    RUN_KEYS,
    BackboneConfig,
    Configuration,
    PreprocessConfig,
    RunConfig,
)
from search_spaces.errors import ConfigError, listing, show
from search_spaces.grammar import Choice, Dimension, contains, describe, suggest
from search_spaces.overrides import Request, parse_request, with_sweep
from search_spaces.validation import validate

if TYPE_CHECKING:
    import optuna

MOST_COMBINATIONS = 128
MOST_COMPOSED = 64


@dataclass(frozen=True)
class Space:
    """`groups`: the members of each searched group. `base`: the unresolved tree with every group
    at its first member; `nodes`: each searched member's part of it. `whole`: the unresolved tree
    of every combination, only where a member changes more than its own group."""

    groups: Mapping[str, tuple[str, ...]]
    base: Mapping[str, Any] = field(repr=False)
    nodes: Mapping[str, Mapping[str, Any]] = field(repr=False)
    whole: Mapping[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict, repr=False)
    _read: dict[tuple[str, ...], Composition] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        tried = _each_member_once(self.groups)
        errors = {
            place: error for place, choices in enumerate(tried) if (error := self._error(choices))
        }
        if errors:
            place, error = next(iter(errors.items()))
            same_everywhere = len(errors) == len(tried) and len(set(errors.values())) == 1
            raise ConfigError(error if same_everywhere else error + _with(tried[place]))

    def sample(self, trial: optuna.trial.BaseTrial) -> Configuration:
        """A configuration from what `trial` suggests, for `study.ask()` and `FixedTrial` alike."""
        choices = {
            group: str(trial.suggest_categorical(group, self.groups[group]))
            for group in sorted(self.groups)
        }
        found = self._composition(choices)
        values = {
            key: suggest(dimension, trial, parameter_name(key, dimension))
            for key, dimension in found.dimensions.items()
        }
        return found.configuration(values)

    def configuration(self, params: Mapping[str, object]) -> Configuration:
        """The configuration whose sample recorded `params` (`trial.params`).

        Raises ConfigError when they are no sample of this space: the space has changed since."""
        choices = {group: self._recorded_member(group, params) for group in self.groups}
        found = self._composition(choices)
        names = {parameter_name(key, d): (key, d) for key, d in found.dimensions.items()}
        unknown = sorted(params.keys() - names.keys() - self.groups.keys())
        if unknown:
            raise ConfigError(f"recorded {unknown[0]}={show(params[unknown[0]])}: not searched now")
        values = {
            key: _recorded_value(name, dimension, params)
            for name, (key, dimension) in names.items()
        }
        return found.configuration(values)

    def dimensions(self, choices: Mapping[str, str]) -> Mapping[str, Dimension]:
        """The searched keys, sorted, once `choices` has a member for each searched group."""
        for group, members in self.groups.items():
            if choices.get(group) not in members:
                raise ConfigError(f"{group}={choices.get(group)}: choose one of {listing(members)}")
        return self._composition(choices).dimensions

    def combinations(self, limit: int = MOST_COMBINATIONS) -> tuple[dict[str, str], ...]:
        """Every combination of members; beyond `limit`, every pair of members at least once."""
        return conditions.combinations(self.groups, limit)

    def rows(self) -> tuple[SpaceRow, ...]:
        """What is searched: the groups first, then each key's ranges and when they hold."""
        groups = [
            SpaceRow(group, describe(Choice(self.groups[group]))) for group in sorted(self.groups)
        ]
        return (*groups, *conditions.rows(self._facts(searched=True)))

    def fixed_rows(self) -> tuple[SpaceRow, ...]:
        """What is not searched: each key's value and under which members it holds."""
        return conditions.rows(self._facts(searched=False))

    def fingerprint(self) -> str:
        """A hash of everything that `sample` can return and how it is named; the same in every
        process."""
        content = {
            "groups": {group: list(members) for group, members in self.groups.items()},
            "searched": [[c, facts] for c, facts in self._facts(searched=True)],
            "fixed": [[c, facts] for c, facts in self._facts(searched=False)],
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def backbones(self) -> tuple[BackboneConfig, ...]:
        """Every backbone that a sample can have, each name and source of weights once; other
        searched values, such as drop rates, stand at their lower end."""
        every = (backbone for found in self._compositions() for backbone in found.backbones())
        return tuple(dict.fromkeys(every))

    def preprocessings(self) -> tuple[PreprocessConfig, ...]:
        """The preprocessing of every combination of members, once each; searched values stand at
        their lower end."""
        every = (found.configuration(found.lowest()).preprocess for found in self._compositions())
        return tuple(dict.fromkeys(every))

    def image_sizes(self) -> tuple[int, ...]:
        """Every image size in pixels that a sample can have, ascending. A range of more than 64
        stands at its two ends: see `size_is_finite`."""
        every = {size for found in self._compositions() for size in found.image_sizes()}
        return tuple(sorted(every))

    def reachable(self, key: str) -> tuple[Any, ...]:
        """Every value that `key` (such as "train.epochs") can have, once each; of a range its two
        ends."""
        every = (value for found in self._compositions() for value in found.reachable(key))
        return tuple(dict.fromkeys(every))

    @property
    def size_is_finite(self) -> bool:
        """Whether `image_sizes` lists every size, rather than the ends of a long range."""
        return all(found.sizes_are_few() for found in self._compositions())

    def _composition(self, choices: Mapping[str, str]) -> Composition:
        key = tuple(choices[group] for group in sorted(self.groups))
        if key not in self._read:
            self._read[key], _ = read_composition(self._raw(choices, key))
        return self._read[key]

    def _raw(self, choices: Mapping[str, str], key: tuple[str, ...]) -> Mapping[str, Any]:
        if self.whole:
            return self.whole[key]
        return {**self.base, **{group: self.nodes[group][choices[group]] for group in self.groups}}

    def _compositions(self) -> list[Composition]:
        return [self._composition(choices) for choices in self.combinations()]

    def _error(self, choices: Mapping[str, str]) -> str | None:
        try:
            self._composition(choices).check()
        except ConfigError as error:
            return str(error)
        return None

    def _facts(self, *, searched: bool) -> list[tuple[dict[str, str], dict[str, str]]]:
        facts = []
        for choices in self.combinations():
            found = self._composition(choices)
            if searched:
                texts = {key: describe(d) for key, d in found.dimensions.items()}
                texts |= {key: f"as {source}" for key, source in found.ties.items()}
            else:
                texts = {key: show(value) for key, value in found.fixed_values().items()}
            facts.append((choices, texts))
        return facts

    def _recorded_member(self, group: str, params: Mapping[str, object]) -> str:
        if group not in params:
            raise ConfigError(f"the recorded parameters have no {group}, which is searched now")
        member = str(params[group])
        if member not in self.groups[group]:
            raise ConfigError(
                f"recorded {group}={member}: now searched are {listing(self.groups[group])}"
            )
        return member


@dataclass(frozen=True)
class Study:
    """What a search is told: the run's fixed part, what is searched, and the overrides as given."""

    run: RunConfig
    space: Space
    overrides: tuple[str, ...]


def load_study(overrides: Sequence[str], config_dir: Path | None = None) -> Study:
    """Compose the tree with the command line's `overrides` and check all of it.

    `config_dir`: a person's own directory of groups. Raises ConfigError, one line."""
    request = parse_request(overrides, config_dir)
    base = compose_raw(request.overrides(), config_dir)
    if base.tree["sweep"]:
        request = with_sweep(request, base.tree["sweep"], config_dir)
        base = compose_raw(request.overrides(), config_dir)
    _, run_tree = read_composition(base.tree)
    run = validate(RunConfig, run_tree)
    space = _build_space(request, base, run_tree, config_dir)
    return Study(run, space, tuple(overrides))


def parameter_name(key: str, dimension: Dimension) -> str:
    """Optuna's name for a searched key. The range is part of it: the same key with another range
    under another backbone is another parameter, and one name never changes its choices."""
    return f"{key} [{describe(dimension)}]"


def _build_space(
    request: Request, base: Raw, run: Mapping[str, Any], config_dir: Path | None
) -> Space:
    groups = {group: request.swept[group] for group in sorted(request.swept)}
    nodes: dict[str, dict[str, Any]] = {g: {groups[g][0]: base.tree[g]} for g in groups}
    independent = True
    for choices in _each_member_once(groups)[1:]:
        raw = compose_raw(request.overrides(choices), config_dir)
        group = next(g for g in groups if choices[g] != groups[g][0])
        nodes[group][choices[group]] = raw.tree[group]
        independent &= {**raw.tree, group: None} == {**base.tree, group: None}
        if not _same_run(raw.tree, base.tree) and read_composition(raw.tree)[1] != run:
            raise ConfigError(
                f"{group}={choices[group]} changes what is fixed for a run, so it cannot be"
                f" searched; choose it with {group}={choices[group]}"
            )
    whole = {} if independent else _compose_all(request, groups, config_dir)
    return Space(groups, base.tree, nodes, whole)


def _same_run(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what is fixed for a run is written alike in both and refers to no other key: then
    it need not be resolved, which takes a tenth of a second for every member."""
    parts = [{key: tree[key] for key in RUN_KEYS if key in tree} for tree in (one, other)]
    return parts[0] == parts[1] and "${" not in repr(parts[0])


def _compose_all(
    request: Request, groups: Mapping[str, tuple[str, ...]], config_dir: Path | None
) -> dict[tuple[str, ...], Mapping[str, Any]]:
    members = list(itertools.product(*groups.values()))
    if len(members) > MOST_COMPOSED:
        raise ConfigError(
            f"a searched member changes other groups, and there are {len(members)} combinations"
            f" (at most {MOST_COMPOSED}); let it set only its own group"
        )
    return {
        chosen: compose_raw(
            request.overrides(dict(zip(groups, chosen, strict=True))), config_dir
        ).tree
        for chosen in members
    }


def _each_member_once(groups: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], ...]:
    first = {group: members[0] for group, members in groups.items()}
    others = ({**first, group: m} for group, members in groups.items() for m in members[1:])
    return (first, *others)


def _recorded_value(name: str, dimension: Dimension, params: Mapping[str, object]) -> Any:
    if name not in params:
        raise ConfigError(f"the recorded parameters have no {name}, which is searched now")
    if not contains(dimension, params[name]):
        raise ConfigError(f"recorded {name}={show(params[name])}: outside what is searched")
    return params[name]


def _with(choices: Mapping[str, str]) -> str:
    members = ", ".join(f"{group}={member}" for group, member in choices.items())
    return f" ({members})" if members else ""
