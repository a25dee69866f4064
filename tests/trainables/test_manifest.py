from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainables.manifest import Manifest, fingerprint


def make(**changes: object) -> Manifest:
    manifest = Manifest(
        ids=("a", "b", "c"),
        paths=("/x/a", "/x/b", "/x/c"),
        labels=np.array([0, 1, 0], np.int32),
        groups=("g", "g", "h"),
        classes=("cat", "dog"),
        label_values=("0", "1"),
        test_ids=("t",),
        test_paths=("/x/t",),
        label_text=("0", "1", "0"),
    )
    return replace(manifest, **changes)


DIGESTS = ("d1", "d2", "d3")


def test_rows_left_out_are_gone_from_every_column() -> None:
    kept = make().without([1])
    assert kept.ids == ("a", "c")
    assert kept.paths == ("/x/a", "/x/c")
    assert kept.labels.tolist() == [0, 0]
    assert kept.groups == ("g", "h")
    assert kept.label_text == ("0", "0")
    assert kept.test_ids == ("t",)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 ids but 2 paths"):
        make(paths=("/x/a", "/x/b"))
    with pytest.raises(ValueError, match="1 test ids but 0 paths"):
        make(test_paths=())
    with pytest.raises(ValueError, match="2 classes but 1 label values"):
        make(label_values=("0",))


def test_labels_cannot_be_changed_afterwards() -> None:
    labels = np.array([0, 1, 0], np.int64)
    manifest = make(labels=labels)
    labels[0] = 1
    assert manifest.labels.tolist() == [0, 1, 0]
    assert manifest.labels.dtype == np.int32
    with pytest.raises(ValueError):
        manifest.labels[0] = 1


def test_the_fingerprint_follows_content_and_not_place() -> None:
    first = fingerprint(make(), DIGESTS, ("t1",))
    assert first == fingerprint(make(paths=("/y/a", "/y/b", "/y/c")), DIGESTS, ("t1",))
    changed = {
        fingerprint(make(), ("d1", "d2", "d4"), ("t1",)),
        fingerprint(make(), DIGESTS, ("t2",)),
        fingerprint(make(labels=np.array([0, 1, 1])), DIGESTS, ("t1",)),
        fingerprint(make(groups=None), DIGESTS, ("t1",)),
        fingerprint(make(classes=("cat", "hound")), DIGESTS, ("t1",)),
        fingerprint(make(ids=("a", "b", "d")), DIGESTS, ("t1",)),
    }
    assert len(changed) == 6
    assert first not in changed


def test_a_digest_is_needed_for_every_image() -> None:
    with pytest.raises(ValueError, match="3 training images: 2"):
        fingerprint(make(), ("d1", "d2"))
