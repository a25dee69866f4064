"""Starting from the fold runs of an earlier run, without letting it whisper.

The weights of fold f of an earlier run have seen the labels of every row outside its fold f. They
may start our fold f only where those are the rows that our fold f trains on: else a row's label
would reach its own out-of-fold prediction through the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.store import OofStore
from trainables.errors import DataError
from trainables.folds import FoldTable, read_folds
from trainables.recipe import BackboneError, Recipe, WeightsNotHereError
from trainables.run_paths import RunPaths
from trainables.weights import read_weights

WEIGHTS_FOLDER = "weights"
FIRST_PREFIX = "backbones."


@dataclass(frozen=True)
class EarlierFold:
    """The weights of one fold of an earlier configuration, and how its model is built."""

    recipe: Recipe
    state: Mapping[str, Tensor]
    location: Location

    def of_architecture(self, architecture: str) -> Mapping[str, Tensor]:
        """The state of its timm model of that architecture, in timm's own keys. BackboneError where
        it has none."""
        names = [part.architecture for part in self.recipe.parts]
        if architecture not in names:
            raise BackboneError(
                f"{self.location}: holds {' and '.join(names)}, not {architecture}; give an "
                "earlier configuration of the same backbone"
            )
        if self.recipe.is_plain:
            return self.state
        prefix = f"{FIRST_PREFIX}{names.index(architecture)}."
        return {
            key.removeprefix(prefix): value
            for key, value in self.state.items()
            if key.startswith(prefix)
        }


def earlier_fold(folder: str, fold: int, folds: FoldTable, key: str) -> EarlierFold:
    """What fold `fold` starts from: `folder` is `RUN/weights/CONFIG_ID`, a path or a URI.

    BackboneError, naming `key`, where it is no such folder, its weights are damaged, or that run's
    folds are not ours; WeightsNotHereError where they are missing."""
    run, config_id = split_folder(folder, key)
    try:
        check_same_folds(folds, run)
        location = RunPaths(run).weights(config_id, fold)
        if not location.exists():
            raise WeightsNotHereError(
                f"{key}={folder}: {location} is missing; was that run completed?"
            )
        recipe, state = read_weights(location)
    except BackboneError:
        raise
    except (DataError, ValueError) as error:
        kind = BackboneError if RunPaths(run).folds.exists() else WeightsNotHereError
        raise kind(f"{key}={folder}: {error}") from error
    return EarlierFold(recipe, state, location)


def kept_its_best_epoch(folder: str, key: str) -> bool:
    """Whether validation labels chose the epoch of the earlier configuration (`train.keep=best` or
    `train.patience`): its weights then know a little of the labels that they are to predict, and
    so does what starts from them. False where its out-of-fold rows are not there to ask.

    `folder`: `RUN/weights/CONFIG_ID`. BackboneError, naming `key`, where it is no such folder."""
    run, config_id = split_folder(folder, key)
    try:
        configuration = OofStore(run).metadata(config_id).configuration
    except BlendError:
        return False
    train = cast(Mapping[str, object], configuration.get("train", {}))
    return train.get("keep") == "best" or bool(train.get("patience"))


def split_folder(folder: str, key: str) -> tuple[Location, str]:
    """The run and the configuration's id of `RUN/weights/CONFIG_ID`; BackboneError otherwise."""
    uri = Location.of(folder).uri
    address, mark, query = uri.partition("?") if "://" in uri else (uri, "", "")
    run, slash, config_id = address.rpartition(f"/{WEIGHTS_FOLDER}/")
    if not (run and slash and config_id) or "/" in config_id:
        raise BackboneError(f"{key}={folder}: expected RUN/weights/CONFIG_ID of an earlier run")
    return Location(run + mark + query), config_id


def check_same_folds(ours: FoldTable, theirs_root: Location) -> None:
    """Raise DataError unless the run at `theirs_root` put every row of ours, by id, into the same
    fold. Rows of its own may be more."""
    theirs = read_folds(RunPaths(theirs_root).folds)
    known = dict(zip(theirs.ids, theirs.folds.tolist(), strict=True))
    pairs = [(id_, fold, known.get(id_)) for id_, fold in zip(ours.ids, ours.folds, strict=True)]
    different = [(id_, fold, other) for id_, fold, other in pairs if other != fold]
    if not different:
        return
    number, (id_, fold, other) = len(different), different[0]
    where = "is not in it" if other is None else f"was in fold {other} there"
    raise DataError(
        f"the folds of {theirs_root} are not those of this run: {number} of {len(ours.ids)} rows "
        f"differ, first {id_}: in fold {fold} here, {where}; its weights would know labels that "
        "they are to predict; use a run of the same data, folds and seed"
    )
