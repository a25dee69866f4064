"""The YAML files of a --config-dir, kept in the run directory: a run goes on from its own copy,
whatever has become of the folder, on whatever machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ensemble.files import Location
from tuner.run_directory import RunDirectory


def yaml_files(folder: Path) -> list[Path]:
    """The files that Hydra may read there, sorted."""
    return sorted(path for path in folder.rglob("*.yaml") if path.is_file())


def keep_groups(config_dir: Path | None, run: RunDirectory) -> None:
    """Copy the folder's YAML files to `<run>/config/`. Those of a start that was cut off go."""
    run.config.delete()
    for file in yaml_files(config_dir) if config_dir else ():
        name = file.relative_to(config_dir or file).as_posix()
        (run.config / name).write_bytes(file.read_bytes())


@contextmanager
def kept_groups(run: RunDirectory, raw: Mapping[str, Any]) -> Iterator[Path | None]:
    """The folder to compose with: the run's own copy; for a run that has none (an older version
    wrote it) the folder that its run.yaml (`raw`) names; None where there was none."""
    if not raw.get("config_dir"):
        yield None
    elif not run.config.is_dir():
        yield Path(raw["config_dir"])
    elif run.config.is_local:
        yield run.config.local_path
    else:
        with tempfile.TemporaryDirectory(prefix="foldblend-") as folder:
            _download(run.config, Path(folder))
            yield Path(folder)


def _download(source: Location, target: Path) -> None:
    for entry in source.list():
        place = target / entry.name
        if entry.is_dir():
            place.mkdir()
            _download(entry, place)
        else:
            place.write_bytes(entry.read_bytes())
