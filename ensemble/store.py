"""The OOF store, version 1: Predictions to and from Parquet files that any table program opens.

`oof/config_id=…/fold=….parquet`, one row per image: `id` string, `label` int32 (-1 unknown),
`fold` int16, `p_true` float32 (null where unknown), `proba` fixed_size_list<float32>[C].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from operator import itemgetter
from typing import Literal

import numpy as np

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions, concatenate
from ensemble.store_format import StoreMetadata, decode, decode_metadata, encode

Kind = Literal["oof", "test"]

__all__ = ["Kind", "OofStore", "StoreMetadata", "read_predictions", "write_predictions"]

CONFIG_PREFIX = "config_id="
FOLD_FILE = re.compile(r"fold=(\d+)\.parquet")
CONFIG_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_predictions(
    location: Location, predictions: Predictions, metadata: StoreMetadata
) -> None:
    """Write one store file. It is encoded in memory and put in place whole, so that no reader
    meets half a file."""
    location.write_bytes(encode(predictions, metadata))


def read_predictions(location: Location) -> tuple[Predictions, StoreMetadata]:
    """Read one store file. Raises BlendError naming the file when it is damaged, has other
    columns, repeats an id or comes from a newer version; FileNotFoundError when it is not there.
    """
    data = location.read_bytes()
    try:
        return decode(data)
    except BlendError as error:
        raise BlendError(f"{location}: {error}") from error


@dataclass(frozen=True)
class OofStore:
    """The stored predictions of a run directory: `oof` for the training rows that each fold held
    out, `test` for the unlabelled images."""

    run: Location

    def fold_location(self, kind: Kind, config_id: str, fold: int) -> Location:
        """Where the predictions of one fold run lie."""
        return self._member_location(kind, config_id) / f"fold={fold}.parquet"

    def has(self, kind: Kind, config_id: str, fold: int) -> bool:
        return self.fold_location(kind, config_id, fold).exists()

    def config_ids(self, kind: Kind = "oof") -> list[str]:
        """Every configuration with a folder, complete or not, by name."""
        return [
            child.name.removeprefix(CONFIG_PREFIX)
            for child in (self.run / kind).list()
            if child.name.startswith(CONFIG_PREFIX)
        ]

    def folds(self, kind: Kind, config_id: str) -> list[int]:
        """The folds that are stored, ascending; [] where none is."""
        return [fold for fold, _ in self._stored(kind, config_id)]

    def locations(self, kind: Kind, config_id: str) -> list[tuple[int, Location]]:
        """Every stored fold of a configuration and its file, ascending. Raises BlendError, with
        the nearest name, where none is stored."""
        found = self._stored(kind, config_id)
        if not found:
            nearest = get_close_matches(config_id, self.config_ids(kind), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise BlendError(
                f"{self.run / kind}: no stored fold of configuration {config_id!r}{hint}"
            )
        return found

    def complete_members(self, n_folds: int) -> list[str]:
        """The configurations of which all of the folds 0 to n_folds - 1 are stored."""
        wanted = set(range(n_folds))
        return [name for name in self.config_ids() if wanted <= set(self.folds("oof", name))]

    def read_member(self, config_id: str, expected_ids: Sequence[str] | None = None) -> Predictions:
        """All folds of a member, in the order of `expected_ids` or else fold after fold.

        Raises BlendError when a row is in two files, sits in the file of another fold, or (with
        `expected_ids`) is missing or unexpected.
        """
        locations = self.locations("oof", config_id)
        parts = [self._read(config_id, where) for _, where in locations]
        for (fold, where), part in zip(locations, parts, strict=True):
            wrong = np.flatnonzero(part.folds != fold)
            if len(wrong):
                row = wrong[0]
                raise BlendError(
                    f"{where}: expected only rows of fold {fold}, "
                    f"got id {part.ids[row]!r} of fold {part.folds[row]}"
                )
        _check_disjoint([where for _, where in locations], parts)
        member = concatenate(parts)
        if expected_ids is None:
            return member
        try:
            return member.aligned_to(expected_ids)
        except BlendError as error:
            raise BlendError(f"{self._member_location('oof', config_id)}: {error}") from error

    def read_test(self, config_id: str) -> list[Predictions]:
        """The test predictions of every fold's model, in fold order, all in the first one's order
        of ids."""
        locations = self.locations("test", config_id)
        parts = [self._read(config_id, where) for _, where in locations]
        aligned = []
        for (_, where), part in zip(locations, parts, strict=True):
            try:
                aligned.append(part.aligned_to(parts[0].ids))
            except BlendError as error:
                raise BlendError(f"{where}: {error}") from error
        return aligned

    def metadata(self, config_id: str) -> StoreMetadata:
        """What the first stored OOF fold says about the configuration (its metrics are that
        fold's). Reads no rows."""
        _, where = self.locations("oof", config_id)[0]
        with where.open_input() as stream:
            try:
                return decode_metadata(stream)
            except BlendError as error:
                raise BlendError(f"{where}: {error}") from error

    def _member_location(self, kind: Kind, config_id: str) -> Location:
        # The name becomes a folder that other programs split at "=" and unquote.
        if not CONFIG_ID.fullmatch(config_id):
            raise BlendError(
                f"config_id {config_id!r}: expected letters, digits, '.', '_' and '-', "
                "starting with a letter or digit"
            )
        return self.run / kind / f"{CONFIG_PREFIX}{config_id}"

    def _stored(self, kind: Kind, config_id: str) -> list[tuple[int, Location]]:
        children = self._member_location(kind, config_id).list()
        named = ((FOLD_FILE.fullmatch(child.name), child) for child in children)
        found = {int(match[1]): child for match, child in named if match}
        return sorted(found.items(), key=itemgetter(0))

    def _read(self, config_id: str, where: Location) -> Predictions:
        predictions, metadata = read_predictions(where)
        if metadata.config_id != config_id:
            raise BlendError(
                f"{where}: expected predictions of {config_id}, got those of {metadata.config_id}"
            )
        return predictions


def _check_disjoint(locations: Sequence[Location], parts: Sequence[Predictions]) -> None:
    file_of: dict[str, Location] = {}
    for where, part in zip(locations, parts, strict=True):
        for name in part.ids:
            if name in file_of:
                raise BlendError(
                    f"id {name!r} is in {file_of[name]} and in {where}: "
                    "a row is predicted by one fold only"
                )
            file_of[name] = where
