"""One composed tree, read as fixed values and searched dimensions.

A key is a dotted name inside the configuration's groups, such as `optimizer.lr`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.compose import references, resolve
from search_spaces.config import CONFIGURATION_GROUPS, RUN_KEYS, BackboneConfig, Configuration
from search_spaces.errors import ConfigError
from search_spaces.grammar import (
    CALL,
    Choice,
    Dimension,
    FloatInterval,
    IntInterval,
    Value,
    describe,
    parse_sweep,
)
from search_spaces.validation import validate

GOLDEN = 0.6180339887
MOST_SIZES = 64
IMAGE_SIZE = "train.image_size"
WHICH_WEIGHTS = (
    *("backbone.name", "backbone.pretrained", "backbone.weights", "backbone.from_run"),
    *("backbone.second", "backbone.second_weights", "backbone.second_from_run"),
)


@dataclass(frozen=True)
class Composition:
    """What holds once every group's member is chosen. `ties`: keys that take the value of a
    searched key, because the files say `${that.key}`."""

    fixed: Mapping[str, Any]
    dimensions: Mapping[str, Dimension]
    ties: Mapping[str, str]

    def configuration(self, values: Mapping[str, Value]) -> Configuration:
        """The typed configuration with a value for every dimension. Raises ConfigError."""
        tied = {key: values[source] for key, source in self.ties.items()}
        tree: dict[str, Any] = {group: {} for group in CONFIGURATION_GROUPS}
        for key, value in {**self.fixed, **values, **tied}.items():
            group, _, name = key.partition(".")
            tree[group][name] = value
        return validate(Configuration, tree)

    def lowest(self) -> dict[str, Value]:
        """Every dimension at its first choice or lower end."""
        return {key: _ends(dimension)[0] for key, dimension in self.dimensions.items()}

    def fixed_values(self) -> dict[str, Any]:
        """The typed configuration's keys that are not searched, those left to defaults too."""
        dumped = self.configuration(self.lowest()).model_dump(mode="json")
        return {
            f"{group}.{name}": value
            for group, values in dumped.items()
            for name, value in values.items()
            if f"{group}.{name}" not in {**self.dimensions, **self.ties}
        }

    def backbones(self) -> tuple[BackboneConfig, ...]:
        """Every name and source of weights that can come out, the rest at its lower end."""
        choices = {
            key: dimension.values
            for key, dimension in self.dimensions.items()
            if key in WHICH_WEIGHTS and isinstance(dimension, Choice)
        }
        combined = itertools.product(*choices.values())
        variants = (dict(zip(choices, values, strict=True)) for values in combined)
        lowest = self.lowest()
        return tuple(self.configuration({**lowest, **variant}).backbone for variant in variants)

    def reachable(self, key: str) -> tuple[Any, ...]:
        """The values of `key` that can come out; of a range its two ends."""
        source = self.ties.get(key, key)
        if source in self.dimensions:
            return tuple(_ends(self.dimensions[source]))
        group, _, name = key.partition(".")
        found = self.configuration(self.lowest())
        return (getattr(getattr(found, group), name),)

    def image_sizes(self) -> tuple[int, ...]:
        """Every image size in pixels; a range of more than 64 stands at its two ends."""
        lowest, key = self.lowest(), self.ties.get(IMAGE_SIZE, IMAGE_SIZE)
        if key not in self.dimensions:
            return (self.configuration(lowest).train.image_size,)
        dimension = self.dimensions[key]
        if isinstance(dimension, IntInterval) and self.sizes_are_few():
            values: Iterable[Value] = range(dimension.low, dimension.high + 1, dimension.step)
        else:
            values = _ends(dimension)
        sizes = (self.configuration({**lowest, key: value}).train.image_size for value in values)
        return tuple(sizes)

    def sizes_are_few(self) -> bool:
        """Whether `image_sizes` lists every one."""
        dimension = self.dimensions.get(self.ties.get(IMAGE_SIZE, IMAGE_SIZE))
        if not isinstance(dimension, IntInterval):
            return True
        return (dimension.high - dimension.low) // dimension.step + 1 <= MOST_SIZES

    def check(self) -> None:
        """Raise ConfigError, naming the key, where a dimension reaches values that the typed
        configuration refuses."""
        lowest = self.lowest()
        self._try(lowest)
        for key, dimension in self.dimensions.items():
            for value in _ends(dimension):
                self._try({**lowest, key: value})
            self._check_inner(key, dimension, lowest)

    def _try(self, values: Mapping[str, Value]) -> None:
        try:
            self.configuration(values)
        except ConfigError as error:
            dimension = self.dimensions.get(str(error).partition("=")[0])
            sweep = "" if dimension is None else f" (in the sweep {describe(dimension)})"
            raise ConfigError(f"{error}{sweep}") from None

    def _check_inner(self, key: str, dimension: Dimension, lowest: Mapping[str, Value]) -> None:
        if not isinstance(dimension, FloatInterval) or dimension.low == dimension.high:
            return
        inner = dimension.low + GOLDEN * (dimension.high - dimension.low)
        try:
            self.configuration({**lowest, key: inner})
        except ConfigError:
            # Both ends are fine, so what is wrong with this one is its fraction.
            raise ConfigError(
                f"{key}={describe(dimension)}: must be whole numbers;"
                f" write int(interval({dimension.low:g}, {dimension.high:g}))"
            ) from None


def read_composition(raw: Mapping[str, Any]) -> tuple[Composition, dict[str, Any]]:
    """The composition of an unresolved tree, and the resolved values of the run's own keys."""
    tree = resolve(raw)
    run = {key: tree[key] for key in RUN_KEYS if key in tree}
    _check_fixed(run)
    fixed: dict[str, Any] = {}
    dimensions: dict[str, Dimension] = {}
    for group in CONFIGURATION_GROUPS:
        for name, value in tree.get(group, {}).items():
            key = f"{group}.{name}"
            dimension = parse_sweep(key, value) if isinstance(value, str) else None
            if dimension is None:
                fixed[key] = value
            else:
                dimensions[key] = dimension
    ties = _ties(references(raw), dimensions)
    own = {key: dimensions[key] for key in sorted(dimensions) if key not in ties}
    return Composition(fixed, own, ties), run


def _ties(refers: Mapping[str, str], dimensions: Mapping[str, Dimension]) -> dict[str, str]:
    ties: dict[str, str] = {}
    for key in dimensions:
        source = key
        while source in refers:  # ends: OmegaConf has refused a circle
            source = refers[source]
        if source != key and source in dimensions:
            ties[key] = source
    return ties


def _check_fixed(run: Mapping[str, Any]) -> None:
    for key, value in _texts(run, ""):
        if CALL.fullmatch(value) and _is_sweep(key, value):
            raise ConfigError(f"{key} cannot be searched, it is fixed for a run (got {value})")


def _is_sweep(key: str, text: str) -> bool:
    try:
        return parse_sweep(key, text) is not None
    except ConfigError:
        return False  # a path may well look like a call


def _texts(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            yield f"{prefix}{name}", value


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    if isinstance(dimension, Choice):
        return dimension.values
    return (dimension.low, dimension.high)
