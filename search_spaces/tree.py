"""The files of the configuration tree: ours beside this module, and a person's own directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from search_spaces.config import CONFIGURATION_GROUPS, RunConfig
from search_spaces.errors import ConfigError, hint, listing

TREE = Path(__file__).resolve().parent
PRIMARY = "config"
EXPERIMENT = "experiment"

RUN_GROUPS = tuple(
    name
    for name, field in RunConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)
GROUPS = (*CONFIGURATION_GROUPS, *RUN_GROUPS, EXPERIMENT)


def members(group: str, config_dir: Path | None = None) -> tuple[str, ...]:
    """The names that `group=` takes, sorted: one for each YAML file, ours and those of
    `config_dir`."""
    return tuple(sorted({name for root in _roots(config_dir) for name in _files(root / group)}))


def check_member(group: str, name: str, config_dir: Path | None = None) -> None:
    """Raise ConfigError, with the nearest name, unless `group` has a member `name`."""
    names = members(group, config_dir)
    if name not in names:
        raise ConfigError(f"{group}={name}: there is no such {group}{hint(name, names)}")


def check_directory(config_dir: Path | None) -> None:
    """Raise ConfigError unless `config_dir` is a directory whose files can all be reached.

    Hydra takes our file where both directories have one of the same name, and would pass over the
    other without a word."""
    if config_dir is None:
        return
    if not config_dir.is_dir():
        raise ConfigError(f"the configuration directory {config_dir} does not exist")
    for group in GROUPS:
        for name in _files(config_dir / group):
            if (TREE / group / f"{name}.yaml").is_file():
                path = config_dir / group / f"{name}.yaml"
                raise ConfigError(
                    f"{path} has the name of a built-in {group} and would never be read; rename it"
                )
    if not any((config_dir / group).is_dir() for group in GROUPS):
        raise ConfigError(
            f"the configuration directory {config_dir} has no folder of a group ({listing(GROUPS)})"
        )


def _roots(config_dir: Path | None) -> Iterable[Path]:
    return (TREE,) if config_dir is None else (TREE, config_dir)


def _files(folder: Path) -> Iterable[str]:
    paths = sorted(folder.rglob("*.yaml"))
    return (path.relative_to(folder).with_suffix("").as_posix() for path in paths)
