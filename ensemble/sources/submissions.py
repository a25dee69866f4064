"""The predictions of members for the images without labels, matched to the members by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.sources.alignment import align_test, unnamed_columns
from ensemble.sources.columns import shown
from ensemble.sources.folder import submission_files
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions
from ensemble.sources.source import Source, read_file
from ensemble.sources.tables import need

Tests = dict[str, tuple[Predictions, ...]]


def read_test_member(
    where: Location, classes: tuple[str, ...], options: GatherOptions | None = None
) -> Predictions:
    """The test predictions of one file, columns in the order of `classes`; needs no labels. Raises
    BlendError, naming the file, as for OOF predictions."""
    options = options or GatherOptions()
    raw = read_file(need(where), options, None, classes, test=True)
    return align_test(raw, classes, normalise=options.normalise)[0]


def read_tests(
    members: Mapping[str, tuple[Source, str]], classes: tuple[str, ...], options: GatherOptions
) -> tuple[Tests, list[str]]:
    """By member (whose source and name there are given): its test predictions, all with the rows
    of the first one, in its order; and notes. Raises BlendError where test ids differ or a file
    that `options` names belongs to no member."""
    given = _given(tuple(members), options)
    tests: Tests = {}
    notes: list[str] = []
    unnamed: list[str] = []
    ids, first = None, ""
    for name, (source, own_name) in members.items():
        raws = _raw_tests(given.get(name), source, own_name, classes, options)
        made = []
        for raw in raws:
            aligned, said = align_test(raw, classes, ids, where=first, normalise=options.normalise)
            if ids is None:
                ids, first = aligned.ids, raw.where
            made.append(aligned)
            notes += said
            unnamed += [raw.where] if raw.classes is None else []
        if made:
            tests[name] = tuple(made)
    notes += unnamed_columns(unnamed, classes)
    without = [name for name in members if name not in tests]
    if tests and without:
        notes.append(f"no test predictions of {len(without)} members ({shown(without, 3)})")
    return tests, notes


def _raw_tests(
    given: Location | None,
    source: Source,
    name: str,
    classes: tuple[str, ...],
    options: GatherOptions,
) -> list[RawPredictions]:
    if given is not None:
        return [read_file(given, options, None, classes, test=True)]
    return source.read_tests(name, options, classes)


def _given(names: tuple[str, ...], options: GatherOptions) -> dict[str, Location]:
    """The test files of `options.test` by member."""
    found: dict[str, Location] = {}
    for path in options.test:
        for called, where in submission_files(need(Location.of(path))).items():
            member = _member_called(called, names, where, len(options.test) == 1)
            if member in found:
                raise BlendError(
                    f"{where}: test predictions of {member!r} came from {found[member]} already"
                )
            found[member] = where
    return found


def _member_called(called: str, names: tuple[str, ...], where: Location, alone: bool) -> str:
    if called in names:
        return called
    ending = [name for name in names if name.rpartition("/")[2] == called]
    if len(ending) == 1:
        return ending[0]
    if alone and len(names) == 1 and not ending:
        return names[0]  # a submission is seldom called as its model
    nearest = get_close_matches(called, names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    problem = "several members are" if ending else "no member is"
    raise BlendError(f"{where}: {problem} called {called!r}: members are {shown(names)}{hint}")
