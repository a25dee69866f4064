"""What lies at a path that a user gave: a run, a file, or a folder of files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.sources.array_file import read_array_file, stem_of
from ensemble.sources.folder import OOF, SUFFIXES, member_name, read_folder
from ensemble.sources.label_table import LabelTable, read_label_table, run_label_table
from ensemble.sources.options import GatherOptions
from ensemble.sources.raw import RawPredictions
from ensemble.sources.run_directory import complete_members, is_run, read_member, read_tests
from ensemble.sources.table_file import read_table_file
from ensemble.sources.tables import need


@dataclass(frozen=True, eq=False)
class Source:
    """Members by name, and where their `oof` and `test` predictions lie (in a run: the run).
    `labels` of its rows, where it says so."""

    where: Location
    oof: Mapping[str, Location]
    test: Mapping[str, Location] = field(default_factory=dict)
    labels: LabelTable | None = None
    is_run: bool = False
    notes: tuple[str, ...] = ()

    def is_array(self, name: str) -> bool:
        """Whether the rows of that member may have no ids of their own."""
        return self.oof[name].name.lower().endswith(".npy")

    def read(
        self,
        name: str,
        options: GatherOptions,
        labels: LabelTable | None,
        label_names: Collection[str],
    ) -> RawPredictions:
        """The OOF predictions of a member."""
        if self.is_run and self.labels is not None:
            return read_member(self.where, name, self.labels, exact=options.labels is None)
        return read_file(self.oof[name], options, labels, label_names)

    def read_tests(
        self, name: str, options: GatherOptions, classes: Collection[str]
    ) -> list[RawPredictions]:
        """The test predictions of a member, one or one a fold; [] where there are none."""
        if self.is_run:
            return read_tests(self.where, name)
        if name not in self.test:
            return []
        return [read_file(self.test[name], options, None, classes, test=True)]


def open_source(where: Location, options: GatherOptions) -> Source:
    """Find the members at `where`. Reads labels, but no predictions. Raises BlendError, naming
    the path, where there are none."""
    if not need(where).is_dir():
        if not where.name.lower().endswith(SUFFIXES):
            raise BlendError(
                f"{where}: expected a run directory, a folder, or a file ending in "
                f"{', '.join(SUFFIXES)}"
            )
        return Source(where, {member_name(where, OOF) or stem_of(where): where})
    if is_run(where):
        table = run_label_table(where)
        names, notes = complete_members(where, table)
        return Source(
            where, dict.fromkeys(names, where), labels=table, is_run=True, notes=tuple(notes)
        )
    found = read_folder(where)
    labels, notes = _folder_labels(found.labels, options)
    return Source(where, found.oof, found.test, labels, notes=(*found.notes, *notes))


def read_file(
    where: Location,
    options: GatherOptions,
    labels: LabelTable | None,
    label_names: Collection[str],
    *,
    test: bool = False,
) -> RawPredictions:
    """The predictions in one table or array."""
    if where.name.lower().endswith(".npy"):
        return read_array_file(where, options, labels, test=test)
    return read_table_file(where, options, label_names)


def _folder_labels(
    where: Location | None, options: GatherOptions
) -> tuple[LabelTable | None, list[str]]:
    if where is None or options.labels is not None:
        return None, []
    try:
        return read_label_table(where, options), [f"labels are those of {where}"]
    except BlendError as error:
        return None, [f"not taken for labels: {error}"]
