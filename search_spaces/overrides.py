"""The command line's overrides and an experiment's `sweep:`, sorted into what Hydra composes and
what is searched.

Hydra's compose API refuses sweeps, so a sweep over a value travels as a quoted text (`space.py`
finds it again in the composed tree) and a sweep over a group's members is kept aside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString, Sweep
from hydra.errors import HydraException

from search_spaces.config import CONFIGURATION_GROUPS, RUN_KEYS
from search_spaces.errors import ConfigError, hint, show
from search_spaces.grammar import Choice, parse_sweep, parse_value
from search_spaces.tree import EXPERIMENT, GROUPS, check_member, members
from search_spaces.validation import check_key, takes_text

ASSIGNMENT = re.compile(r"(\+{0,2})([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """What was asked for. `members`: the chosen member of a group; `swept`: the members of a group
    that is searched; `values`: overrides of values, ready for Hydra, later ones winning."""

    members: Mapping[str, str]
    swept: Mapping[str, tuple[str, ...]]
    values: tuple[str, ...]

    def overrides(self, choices: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """For Hydra: a swept group stands at its member in `choices`, else at its first."""
        first = {group: names[0] for group, names in self.swept.items()}
        chosen = {**self.members, **first, **(choices or {})}
        return (*(f"{group}={quoted(name)}" for group, name in chosen.items()), *self.values)


def parse_request(overrides: Sequence[str], config_dir: Path | None = None) -> Request:
    """Read the command line's overrides; where a group or key comes twice, the last one wins.

    Raises ConfigError for a syntax error, an unknown key, group or member, and a sweep over a key
    that is fixed for a run."""
    chosen: dict[str, str] = {}
    swept: dict[str, tuple[str, ...]] = {}
    values: list[str] = []
    for text in overrides:
        override = _parse(text)
        key, value = override.key_or_group, override.value()
        _check_form(override, text)
        if key not in GROUPS or isinstance(value, dict):
            values.append(_value_override(override))
        elif names := _swept_members(key, override, config_dir):
            chosen.pop(key, None)
            swept[key] = names
        elif value is not None or key != EXPERIMENT:
            swept.pop(key, None)
            chosen[key] = _member(key, value, config_dir)
    return Request(chosen, swept, tuple(values))


def with_sweep(request: Request, sweep: object, config_dir: Path | None = None) -> Request:
    """`request` with an experiment's `sweep:` mapping beneath it: the command line wins."""
    swept: dict[str, tuple[str, ...]] = {}
    values: list[str] = []
    for key, text in _flat_sweep(sweep).items():
        _check_searchable(key, text)
        if key in CONFIGURATION_GROUPS:
            swept[key] = _members_of_sweep(key, text, config_dir)
        else:
            check_key(key)
            if not isinstance(text, str) or parse_sweep(key, text) is None:
                raise ConfigError(
                    f"sweep.{key}={text}: not a sweep, such as interval(low, high); a fixed value"
                    f" stands under {key.partition('.')[0]}:"
                )
            values.append(f"++{key}={quoted(text)}")
    kept = {group: names for group, names in swept.items() if group not in request.members}
    return Request(request.members, {**kept, **request.swept}, (*values, *request.values))


def quoted(text: str) -> str:
    """`text` as a quoted string of Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def _parse(text: str) -> Override:
    match = ASSIGNMENT.fullmatch(text)
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        pass
    if match and match[2].partition(".")[0] in CONFIGURATION_GROUPS:
        parse_value(match[2], match[3])  # says better what is wrong in a sweep
    if match and takes_text(match[2]):
        # A path may hold any character, and the shell has taken the quotes already.
        return OverridesParser.create().parse_override(f"{match[2]}={quoted(match[3])}")
    if match:
        raise ConfigError(f"{text}: Hydra cannot read the value; quote it: {match[2]}='\"…\"'")
    raise ConfigError(f"{text}: not an override; write key=value or group=member")


def _check_form(override: Override, text: str) -> None:
    key, top = override.key_or_group, override.key_or_group.partition(".")[0]
    if override.package is not None or "/" in key:
        raise ConfigError(f"{text}: packages are not supported; write group=member or key=value")
    if top == "sweep":
        raise ConfigError(
            f"{text}: sweep: is for experiment files; here write group=choice(a, b) or"
            " key=interval(low, high)"
        )
    if override.is_delete() and key in GROUPS:
        raise ConfigError(f"{text}: the group {key} cannot be removed")
    if override.is_sweep_override():
        _check_searchable(key, override.get_value_string())
    if key not in GROUPS:
        _check_key_of(text, key)


def _check_key_of(text: str, key: str) -> None:
    """`check_key`, its error showing the value that was given too."""
    try:
        check_key(key)
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{key}: ", f"{text}: ", 1)) from None


def _check_searchable(key: str, text: object) -> None:
    top = key.partition(".")[0]
    if top not in CONFIGURATION_GROUPS and top in (*RUN_KEYS, EXPERIMENT):
        how = f"; a text with a comma is quoted: {key}='\"{text}\"'" if takes_text(key) else ""
        if key.endswith(".methods"):
            how = f"; a list is written {key}=[{text}]"
        raise ConfigError(f"{key} cannot be searched, it is fixed for a run (got {text}){how}")
    if "." not in key and top not in CONFIGURATION_GROUPS:
        raise ConfigError(f"{key}={text}: unknown group{hint(key, CONFIGURATION_GROUPS)}")


def _value_override(override: Override) -> str:
    key = override.key_or_group
    assert override.input_line is not None
    if override.is_delete():
        return override.input_line
    value = override.get_value_string()
    if override.is_sweep_override():
        parse_sweep(key, value)
        value = quoted(value)
    elif takes_text(key) and isinstance(override.value(), int | float):
        value = quoted(value)  # name=1_000 is a text, not a thousand
    # `++` sets a key whether or not a YAML file lists it; check_key has found it in the types.
    return f"++{key}={value}"


def _swept_members(
    group: str, override: Override, config_dir: Path | None
) -> tuple[str, ...] | None:
    value = override.value()
    if isinstance(value, Sweep | Glob):
        return _members_of_sweep(group, override.get_value_string(), config_dir)
    if isinstance(value, str) and isinstance(parse_value(group, value), Sweep | Glob):
        return _members_of_sweep(group, value, config_dir)  # the person quoted it twice
    return None


def _members_of_sweep(group: str, text: object, config_dir: Path | None) -> tuple[str, ...]:
    parsed = parse_value(group, text) if isinstance(text, str) else text
    if isinstance(parsed, Glob):
        names = tuple(parsed.filter(list(members(group, config_dir))))
        if not names:
            raise ConfigError(f"{group}={text}: no {group} has such a name")
        return names
    dimension = parse_sweep(group, text) if isinstance(text, str) else None
    if not isinstance(dimension, Choice):
        raise ConfigError(f"{group}={text}: members of a group are searched by choice(a, b)")
    names = tuple(str(value) for value in dimension.values)
    for name in names:
        check_member(group, name, config_dir)
    return names


def _member(group: str, value: Any, config_dir: Path | None) -> str:
    if value is None or isinstance(value, list):
        raise ConfigError(f"{group}={show(value)}: choose one member, or search with choice(a, b)")
    check_member(group, str(value), config_dir)
    return str(value)


def _flat_sweep(sweep: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(sweep, Mapping):
        raise ConfigError(f"sweep={sweep}: must be a mapping of groups and keys to sweeps")
    flat: dict[str, object] = {}
    for name, value in sweep.items():
        key = f"{prefix}{name}"
        nested = isinstance(value, Mapping)
        flat.update(_flat_sweep(value, f"{key}.") if nested else {key: value})
    return flat
