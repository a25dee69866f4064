from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainables.checks import CheckedData, check_data, problems_table
from trainables.errors import DataError, DataProblems, Problem
from trainables.manifest import Manifest, fingerprint


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six images of "cat", six of "dog", two test images; every pair of rows a group."""
    generator = np.random.default_rng(0)
    names = [f"{row:02d}.jpg" for row in range(14)]
    for name in names:
        image = generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / name), image)
    paths = tuple(str(tmp_path / name) for name in names)
    return Manifest(
        ids=tuple(names[:12]),
        paths=paths[:12],
        labels=np.repeat([0, 1], 6),
        groups=tuple(f"g{row // 2}" for row in range(12)),
        classes=("cat", "dog"),
        label_values=("0", "1"),
        test_ids=tuple(names[12:]),
        test_paths=paths[12:],
        label_text=("0",) * 6 + ("1",) * 6,
    )


def check(manifest: Manifest, **options: Any) -> CheckedData:
    given = {"k": 3, "kind": "stratified", "on_bad_image": "error"} | options
    return check_data(manifest, **given)


def problems_of(manifest: Manifest, **options: Any) -> list[Problem]:
    with pytest.raises(DataProblems) as caught:
        check(manifest, **options)
    assert "\n" not in str(caught.value)
    return list(caught.value.problems)


def spoil(manifest: Manifest) -> None:
    """Rows 0, 1 and 2 become missing, empty and cut off."""
    Path(manifest.paths[0]).unlink()
    Path(manifest.paths[1]).write_bytes(b"")
    cut = Path(manifest.paths[2])
    cut.write_bytes(cut.read_bytes()[:-60])


def test_sound_data_passes_with_a_digest_for_every_image(manifest: Manifest) -> None:
    calls: list[tuple[int, int]] = []
    checked = check(manifest, progress=lambda *call: calls.append(call))
    assert checked.manifest is manifest
    assert checked.dropped == ()
    assert len(set(checked.digests)) == 12
    assert len(set(checked.test_digests)) == 2
    assert calls == [(done, 14) for done in range(1, 15)]
    assert checked.fingerprint == fingerprint(manifest, checked.digests, checked.test_digests)


def test_a_changed_test_image_changes_the_fingerprint(manifest: Manifest) -> None:
    before = check(manifest).fingerprint
    Path(manifest.test_paths[0]).write_bytes(Path(manifest.paths[0]).read_bytes())
    assert check(manifest).fingerprint != before


def test_all_problems_are_found_in_one_pass(manifest: Manifest) -> None:
    spoil(manifest)
    Path(manifest.test_paths[1]).write_text("no image")
    labels = manifest.labels.copy()
    labels[[5, 6]] = -1
    broken = replace(
        manifest,
        ids=(*manifest.ids[:11], manifest.ids[10]),
        labels=labels,
        label_text=("0",) * 5 + ("77", "") + ("1",) * 5,
    )
    table = problems_table(problems_of(broken, k=6))
    assert [kind for kind, _, _ in table] == [
        "missing image",
        "empty image",
        "unreadable image",
        "unreadable test image",
        "duplicate id",
        "unknown label",
        "unknown label",
        "small class",
        "small class",
    ]
    details = [detail for _, _, detail in table]
    assert table[0][1] == manifest.paths[0]
    assert "truncated" in details[2]
    assert details[3] == "not an image in a known format, and a prediction is due for it"
    assert table[4][1:] == ("10.jpg", "rows 11, 12 have this id, expected one")
    assert details[5:7] == ["label 77 is not one of the 2 classes", "has no label"]
    assert table[7][1:] == ("cat", "in 5 images, fewer than 6 folds need (set folds.k=5)")


def test_the_one_line_counts_the_kinds(manifest: Manifest) -> None:
    spoil(manifest)
    with pytest.raises(
        DataProblems,
        match=r"^3 problems in the data: 1 missing image, 1 empty image, 1 unreadable image; "
        r"first: .*00\.jpg: No such file or directory; fix them or set data\.on_bad_image=drop$",
    ):
        check(manifest)


def test_bad_training_images_are_dropped_where_that_is_asked_for(manifest: Manifest) -> None:
    spoil(manifest)
    checked = check(manifest, on_bad_image="drop")
    assert checked.manifest.ids == manifest.ids[3:]
    assert checked.manifest.labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert [problem.where for problem in checked.dropped] == list(manifest.paths[:3])
    assert len(checked.digests) == 9


def test_class_sizes_are_judged_after_dropping(manifest: Manifest) -> None:
    spoil(manifest)
    (problem,) = problems_of(manifest, on_bad_image="drop", k=4)
    assert problem == Problem(
        "small class", "cat", "in 3 images, fewer than 4 folds need (set folds.k=3)"
    )


def test_a_bad_test_image_is_never_dropped(manifest: Manifest) -> None:
    Path(manifest.test_paths[0]).unlink()
    (problem,) = problems_of(manifest, on_bad_image="drop")
    assert (problem.kind, problem.where) == ("missing test image", manifest.test_paths[0])


def test_a_test_id_must_come_once(manifest: Manifest) -> None:
    (problem,) = problems_of(replace(manifest, test_ids=("12.jpg", "12.jpg")))
    assert problem.kind == "duplicate test id"


def test_a_class_in_fewer_groups_than_folds_is_fine_as_long_as_it_is_in_two(
    manifest: Manifest,
) -> None:
    assert check(manifest, k=4, kind="grouped")


def test_a_class_that_lies_in_one_group_is_a_problem_for_grouped_folds(manifest: Manifest) -> None:
    one = replace(manifest, groups=("g",) * 6 + tuple("abcdef"))
    (problem,) = problems_of(one, k=3, kind="grouped")
    assert (problem.kind, problem.where) == ("small class", "cat")
    assert "all in one group" in problem.detail


def test_a_fold_for_which_there_is_no_group_is_a_problem(manifest: Manifest) -> None:
    two = replace(manifest, groups=("a", "b") * 6)
    kinds = [(problem.kind, problem.where) for problem in problems_of(two, kind="auto")]
    assert ("empty fold", "fold 2") in kinds


def test_a_row_without_a_group_is_a_problem_for_grouped_folds(manifest: Manifest) -> None:
    one_less = replace(manifest, groups=("", *"abcdefghijk"))
    assert check(one_less, kind="stratified")
    (problem,) = problems_of(one_less, kind="auto")
    assert (problem.kind, problem.where) == ("missing group", "00.jpg")


def test_a_class_without_any_image_is_a_problem(manifest: Manifest) -> None:
    more = replace(manifest, classes=("cat", "dog", "owl"), label_values=("0", "1", "2"))
    (problem,) = problems_of(more)
    assert (problem.where, problem.detail) == (
        "owl",
        "in 0 images, fewer than 3 folds need (add images or leave the class out)",
    )


def test_grouped_folds_without_groups_are_refused(manifest: Manifest) -> None:
    with pytest.raises(DataError, match=r"set data.group_column"):
        check(replace(manifest, groups=None), kind="grouped")
