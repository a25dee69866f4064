"""The manifest: every image of a data set by id, path, label and group, as one frozen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trainables.submission import SubmissionFormat

UNKNOWN_LABEL = -1


@dataclass(frozen=True, eq=False)
class Manifest:
    """Training rows and test rows of a data set. Nothing in it has been opened yet.

    ids, paths: N training images; paths are absolute and may not exist (`check_data` finds out).
    labels: (N,) int32, index into `classes`; -1 where the label column holds no known class.
    groups: N group names whose rows must share a fold, or None. An empty name is a missing group.
    classes: C display names. label_values: what the label column holds for each of them.
    test_ids, test_paths: M test images in the order in which predictions are due.
    submission: the columns to write predictions in, or None without test images.
    label_text: N label cells as they were written, for messages; None where nobody wrote any.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    groups: tuple[str, ...] | None
    classes: tuple[str, ...]
    label_values: tuple[str, ...]
    test_ids: tuple[str, ...] = ()
    test_paths: tuple[str, ...] = ()
    submission: SubmissionFormat | None = None
    label_text: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int32)  # a copy, so that nobody else can write it
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)
        rows = len(self.ids)
        for name, length in (
            ("paths", len(self.paths)),
            ("labels", len(labels)),
            ("groups", rows if self.groups is None else len(self.groups)),
            ("label_text", rows if self.label_text is None else len(self.label_text)),
        ):
            if length != rows:
                raise ValueError(f"the manifest has {rows} ids but {length} {name}")
        if len(self.test_ids) != len(self.test_paths):
            raise ValueError(
                f"the manifest has {len(self.test_ids)} test ids but {len(self.test_paths)} paths"
            )
        if len(self.classes) != len(self.label_values):
            raise ValueError(
                f"the manifest has {len(self.classes)} classes "
                f"but {len(self.label_values)} label values"
            )

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    def without(self, rows: Iterable[int]) -> Manifest:
        """The same data set less the training rows of these indices; test rows stay."""
        gone = set(rows)
        kept = [row for row in range(len(self.ids)) if row not in gone]
        return replace(
            self,
            ids=_pick(self.ids, kept),
            paths=_pick(self.paths, kept),
            labels=self.labels[kept],
            groups=None if self.groups is None else _pick(self.groups, kept),
            label_text=None if self.label_text is None else _pick(self.label_text, kept),
        )


def content_digest(content: bytes) -> str:
    """32 hex digits that stand for a file's content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def fingerprint(
    manifest: Manifest, digests: Sequence[str], test_digests: Sequence[str] = ()
) -> str:
    """16 hex digits over ids, labels, groups, classes and the content of every image.

    `digests`: one content digest a training row, `test_digests` one a test row, in row order, as
    `check_data` returns them. Folders may move, to an object store too, without changing it. Raises
    ValueError when the number of digests is not the number of rows.
    """
    for name, expected, found in (
        ("training images", len(manifest.ids), len(digests)),
        ("test images", len(manifest.test_ids) if test_digests else 0, len(test_digests)),
    ):
        if expected != found:
            raise ValueError(f"fingerprint needs a digest for each of {expected} {name}: {found}")
    content = {
        "ids": manifest.ids,
        "labels": manifest.labels.tolist(),
        "groups": manifest.groups,
        "classes": manifest.classes,
        "digests": list(digests),
        "test_ids": manifest.test_ids if test_digests else (),
        "test_digests": list(test_digests),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _pick(values: tuple[str, ...], rows: Sequence[int]) -> tuple[str, ...]:
    return tuple(values[row] for row in rows)
