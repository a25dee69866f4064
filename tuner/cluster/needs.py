"""What a search needs to find on the cluster: paths of the data, of weights, and the storage.

Composed here, looked for there (`check.py`): a path that only this machine could have is refused
before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tuner.errors import UserError

if TYPE_CHECKING:
    from search_spaces.space import Study

# Read by the search's own process alone, which runs on the head; the rest on every node.
HEAD_ONLY = ("data.classes", "data.sample_submission")
DATA_KEYS = ("path", "images", "classes", "test_images", "sample_submission")
WEIGHT_KEYS = ("weights", "from_run", "second_weights", "second_from_run")


@dataclass(frozen=True)
class Need:
    """One path or URI that must be readable. `key`: the configuration's. `everywhere`: on every
    node, or else on the head alone."""

    key: str
    path: str
    everywhere: bool


@dataclass(frozen=True)
class Needs:
    """`run`: the run directory. `exists`: whether it must be there (to go on with it) or must not
    be. `paths`: what must be readable; for a run that is there, the cluster reads them from it."""

    run: str
    exists: bool
    paths: tuple[Need, ...] = ()
    cache: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Needs:
        raw = json.loads(text)
        return cls(
            raw["run"], raw["exists"], tuple(Need(**one) for one in raw["paths"]), raw["cache"]
        )


def needs_of(study: Study) -> Needs:
    """Of a new run. Raises UserError for a path that means nothing on another machine."""
    config = study.run
    storage = config.storage
    if not is_absolute(storage):
        raise UserError(
            f"storage={storage} would lie in the job's own folder on the head and vanish with it; "
            "give storage=s3://BUCKET/FOLDER or storage=/FOLDER on a disk that all nodes share "
            "(any folder of a cluster of one machine, such as storage=~/foldblend)"
        )
    paths = (*data_needs(config.data.model_dump()), *_weight_needs(study))
    for need in paths:
        if not is_absolute(need.path):
            raise UserError(
                f"{need.key}={need.path} is relative to this machine's folder; give the absolute "
                "path that it has on the cluster's nodes (or an s3:// address)"
            )
    return Needs(_child(storage, config.name), False, paths, config.data.cache_dir)


def data_needs(data: Mapping[str, Any]) -> tuple[Need, ...]:
    """Of a `data` group, as the configuration or a run.yaml holds it."""
    if data["source"] == "digits":
        return ()
    is_table = data["source"] != "folder"
    found = []
    for name in DATA_KEYS:
        if path := data.get(name):
            key = f"data.{name}"
            alone = key in HEAD_ONLY or (name == "path" and is_table)
            found.append(Need(key, path, everywhere=not alone))
    return tuple(found)


def _child(storage: str, name: str) -> str:
    """`storage/name`; `~` is the cluster's to expand, a query such as S3's stays at the end."""
    address, mark, query = storage.partition("?") if "://" in storage else (storage, "", "")
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def _weight_needs(study: Study) -> Iterable[Need]:
    every = (
        Need(f"backbone.{key}", path, everywhere=True)
        for backbone in study.space.backbones()
        for key in WEIGHT_KEYS
        if (path := getattr(backbone, key))
    )
    return tuple(dict.fromkeys(every))


def is_absolute(path: str) -> bool:
    """Whether a path or URI means the same whatever the working directory is."""
    return "://" in path or path.startswith(("/", "~"))
