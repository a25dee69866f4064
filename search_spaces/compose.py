"""The Hydra tree and overrides to plain values, and Hydra's errors to one line.

Two steps, because the search space combines members without asking Hydra again: `compose_raw`
merges the files and leaves interpolations as they are written, `resolve` fills them in.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from search_spaces.config import CONFIGURATION_GROUPS, RUN_KEYS
from search_spaces.errors import ConfigError, hint, listing, nearest, show
from search_spaces.overrides import parse_request, quoted
from search_spaces.tree import EXPERIMENT, GROUPS, PRIMARY, TREE, check_directory, members
from search_spaces.validation import validate

__all__ = ["Raw", "compose_raw", "compose_tree", "references", "resolve", "validate"]

TOP_KEYS = (*RUN_KEYS, *CONFIGURATION_GROUPS, "sweep")
# Hydra runs nothing here, so the configuration of its own parts need not be read, ten times over.
QUIET = (
    *("hydra/job_logging=none", "hydra/hydra_logging=none", "~hydra/launcher", "~hydra/sweeper"),
    *("~hydra/help", "~hydra/hydra_help", "~hydra/output", "~hydra/env"),
)
REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")

_hydra_lock = threading.Lock()


@dataclass(frozen=True)
class Raw:
    """The merged files. `tree`: plain values with interpolations unresolved; `choices`: the member
    of every group."""

    tree: Mapping[str, Any]
    choices: Mapping[str, str | None]


def compose_tree(overrides: Sequence[str], config_dir: Path | None = None) -> dict[str, Any]:
    """The tree that the files and the command line's overrides give, interpolations resolved.

    Its keys are those of `RunConfig`, of `Configuration`, and `sweep`. Sweeps over values stay as
    texts; a group that is searched stands at its first member. Raises ConfigError."""
    request = parse_request(overrides, config_dir)
    return resolve(compose_raw(request.overrides(), config_dir).tree)


def compose_raw(overrides: Sequence[str], config_dir: Path | None = None) -> Raw:
    """Merge the files, with overrides that `overrides.py` made. Raises ConfigError."""
    check_directory(config_dir)
    with _hydra_lock, _hydra_initialized():
        try:
            composed = compose(
                PRIMARY,
                overrides=[*overrides, *_search_path(config_dir), *QUIET],
                return_hydra_config=True,
            )
            choices = dict(composed.hydra.runtime.choices)
            composed_tree = OmegaConf.to_container(composed, resolve=False)
        except MissingConfigException as error:
            raise _missing_file(error, config_dir) from None
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            raise _composing(error, config_dir) from None
    assert isinstance(composed_tree, dict)
    tree = {str(key): value for key, value in composed_tree.items() if key != "hydra"}
    _check_top(tree)
    if tree["name"] is None:
        tree["name"] = _run_name(choices)
    return Raw(tree, {group: choices.get(group) for group in GROUPS})


def resolve(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with its interpolations filled in and without `backbone.suggest`."""
    try:
        resolved = OmegaConf.to_container(
            OmegaConf.create(dict(tree)), resolve=True, throw_on_missing=True
        )
    except OmegaConfBaseException as error:
        raise _resolving(error, tree) from None
    assert isinstance(resolved, dict)
    backbone = resolved["backbone"]
    if isinstance(backbone, dict):
        backbone.pop("suggest", None)
    return {str(key): value for key, value in resolved.items()}


def references(tree: Mapping[str, Any]) -> dict[str, str]:
    """The configuration's keys that are nothing but another key: `{"loss.a": "optimizer.b"}`."""
    return {
        f"{group}.{name}": match[1]
        for group in CONFIGURATION_GROUPS
        for name, value in tree.get(group, {}).items()
        if isinstance(value, str) and (match := REFERENCE.fullmatch(value.strip()))
    }


@contextmanager
def _hydra_initialized() -> Iterator[None]:
    # Hydra's state is global: whatever was there (a notebook's, a test's) is put back afterwards.
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(TREE), job_name="foldblend", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = before


def _search_path(config_dir: Path | None) -> tuple[str, ...]:
    if config_dir is None:
        return ()
    return (f"hydra.searchpath=[{quoted(f'file://{config_dir.resolve()}')}]",)


def _check_top(tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        if key not in TOP_KEYS:
            raise ConfigError(f"{key}: unknown key{hint(key, TOP_KEYS)}")
        if key in GROUPS and not isinstance(value, Mapping):
            raise ConfigError(
                f"{key}={show(value)}: must be a mapping; a member of the group is chosen with"
                f" `override /{key}:` in the defaults list, and members are searched with"
                f" `{key}: choice(a, b)` under sweep:"
            )


def _run_name(choices: Mapping[str, Any]) -> str:
    name = choices.get(EXPERIMENT) or choices.get("data") or "run"
    return str(name).replace("/", "-")


def _missing_file(error: MissingConfigException, config_dir: Path | None) -> ConfigError:
    group, _, name = str(error.missing_cfg_file).partition("/")
    where = re.match(r"In '([^']*)'", str(error))
    # Hydra blames the primary file for what an experiment's `override /group:` chose.
    place = f" (in {where[1]}.yaml)" if where and where[1] != PRIMARY else ""
    if group not in GROUPS or not name:
        return ConfigError(f"{error.missing_cfg_file}: there is no such file{place}")
    tail = hint(name, members(group, config_dir))
    if "(" in name or "," in name:
        tail = f"; members are searched with `{group}: {name}` under sweep:"
    return ConfigError(f"{group}={name}: there is no such {group}{place}{tail}")


def _composing(error: Exception, config_dir: Path | None) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return ConfigError(f"{mark.name}, line {mark.line + 1}: not YAML, {error.problem}")
    text = str(error)
    if unchosen := re.match(r"You must specify '([\w/]+)'", text):
        group = unchosen[1]
        return ConfigError(f"{group}: choose one of {listing(members(group, config_dir))}")
    if match := re.search(r"Could not override '([\w.@/]+)'\. No match in the defaults", text):
        file = re.match(r"In '([^']*)'", text)
        place = f" (in {file[1]}.yaml)" if file else ""
        return ConfigError(f"override /{match[1]}: unknown group{place}{hint(match[1], GROUPS)}")
    if match := re.search(r"Could not delete[^']* '([\w.@/]+)'", text):
        return ConfigError(f"{match[1]}: {text}")
    cause = "" if error.__cause__ is None else f": {_first_line(error.__cause__)}"
    return ConfigError(f"{_first_line(error)}{cause}")


def _resolving(error: OmegaConfBaseException, tree: Mapping[str, Any]) -> ConfigError:
    key = error.full_key or "the configuration"
    if isinstance(error, MissingMandatoryValue):
        return ConfigError(f"{key}: must be given, write {key}=value")
    missing = re.search(r"Interpolation key '([^']*)' not found", str(error))
    if isinstance(error, InterpolationKeyError) and missing:
        close = nearest(missing[1], _all_keys(tree))
        question = f"; did you mean {close}?" if close else ""
        return ConfigError(f"{key}: refers to {missing[1]}, which does not exist{question}")
    what = "not a valid interpolation, " if isinstance(error, GrammarParseError) else ""
    return ConfigError(f"{key}: {what}{_first_line(error)}")


def _all_keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, value in tree.items():
        keys.append(f"{prefix}{name}")
        if isinstance(value, Mapping):
            keys += _all_keys(value, f"{prefix}{name}.")
    return keys


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
