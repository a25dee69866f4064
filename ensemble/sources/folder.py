"""A folder of submissions with their OOF: files paired by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.array_file import OOF_ID_STEMS, TEST_ID_STEMS, stem_of
from ensemble.sources.columns import shown
from ensemble.sources.tables import TABLE_SUFFIXES

SUFFIXES = (*TABLE_SUFFIXES, ".npy")
LABEL_STEMS = ("labels", "train_labels", "train", "folds", "ground_truth")
OOF = re.compile(r"(?P<a>.+)[_.-]oof|oof[_.-](?P<b>.+)", re.IGNORECASE)
TEST = re.compile(
    r"(?P<a>.+)[_.-](?:test|sub[a-z0-9]*)|(?:test|sub|submission)[_.-](?P<b>.+)", re.IGNORECASE
)


@dataclass(frozen=True)
class Folder:
    """`oof` and `test` files by member, ascending; the file of `labels`, if there is one; and
    `notes` about files that nothing was done with."""

    oof: Mapping[str, Location]
    test: Mapping[str, Location]
    labels: Location | None
    notes: tuple[str, ...]


def read_folder(where: Location) -> Folder:
    """Pair the files of a folder: `X_oof.*`, `oof_X.*` or `oof/X.*` with `X_test.*`, `test_X.*`,
    `sub_X.*`, `submission_X.*`, `X_sub*.*` or `test/X.*`. In a folder that is itself called
    `oof` every file is one. Raises BlendError, with what is there,
    where no file is an OOF, and where two files would be the same member."""
    files = [child for child in where.list() if _is_file(child)]
    oof = _by_member([(member_name(f, OOF), f) for f in files])
    oof |= _by_member(_inside(where / "oof", OOF), oof)
    if not oof and where.name.lower() == "oof":
        oof = _by_member([(stem_of(f), f) for f in files if stem_of(f) not in LABEL_STEMS])
    if not oof:
        seen = [child.name for child in where.list()]
        raise BlendError(
            f"{where}: no OOF predictions: expected a run directory, or files named X_oof.csv, "
            f"oof_X.csv or oof/X.csv (.parquet, .npy), got "
            f"{shown(seen) if seen else 'an empty folder'}"
        )
    used = set(oof.values())
    test = _by_member([(member_name(f, TEST), f) for f in files if f not in used])
    test |= _by_member(_inside(where / "test", TEST), test)
    labels = next((f for stem in LABEL_STEMS for f in files if stem_of(f) == stem), None)
    used |= {f for f in (*test.values(), labels) if f is not None}
    arrays = {stem_of(f) for f in used if f.name.lower().endswith(".npy")}
    used |= {f for f in files if stem_of(f) in arrays}  # tables of their ids
    notes = [f"{test[name]}: no OOF of {name!r}: left out" for name in sorted(set(test) - set(oof))]
    if test:
        notes += [f"{oof[n]}: no test predictions of {n!r}" for n in sorted(set(oof) - set(test))]
    notes += [f"{f}: neither OOF nor test by its name: left out" for f in files if f not in used]
    paired = {name: test[name] for name in sorted(test) if name in oof}
    return Folder(dict(sorted(oof.items())), paired, labels, tuple(notes))


def member_name(where: Location, pattern: re.Pattern[str]) -> str | None:
    """What an OOF or test file is called without the word that says which it is; None where the
    name does not say so."""
    match = pattern.fullmatch(stem_of(where))
    return (match["a"] or match["b"]) if match else None


def submission_files(where: Location) -> dict[str, Location]:
    """The test files of a path that a user gave as test predictions: a file, or a folder of them,
    whatever they are called."""
    if not where.is_dir():
        return {member_name(where, TEST) or stem_of(where): where}
    files = [child for child in where.list() if _is_file(child)]
    named = [(member_name(f, TEST), f) for f in files]
    if not any(name for name, _ in named):
        named = [(stem_of(f), f) for f in files]
    found = _by_member(named) | _by_member(_inside(where / "test", TEST))
    if not found:
        seen = [child.name for child in where.list()]
        raise BlendError(f"{where}: no test predictions, got {shown(seen) or 'an empty folder'}")
    return found


def _is_file(where: Location) -> bool:
    """Whether it may hold predictions; tables of the ids of an array do not."""
    stem = stem_of(where)
    return (
        where.name.lower().endswith(SUFFIXES)
        and stem not in (*OOF_ID_STEMS, *TEST_ID_STEMS)
        and not where.is_dir()
    )


def _inside(where: Location, pattern: re.Pattern[str]) -> list[tuple[str | None, Location]]:
    files = [child for child in where.list() if _is_file(child)]
    return [(member_name(f, pattern) or stem_of(f), f) for f in files]


def _by_member(
    named: Sequence[tuple[str | None, Location]], taken: Mapping[str, Location] | None = None
) -> dict[str, Location]:
    """An array goes before the table of the same name, which holds its ids."""
    found: dict[str, Location] = {}
    arrays = {stem_of(f) for _, f in named if f.name.lower().endswith(".npy")}
    for name, where in named:
        is_array = where.name.lower().endswith(".npy")
        if name is None or (stem_of(where) in arrays and not is_array):
            continue
        other = found.get(name) or (taken or {}).get(name)
        if other is not None:
            raise BlendError(f"{where}: {name!r} is also the name of {other}: rename one of them")
        found[name] = where
    return found
