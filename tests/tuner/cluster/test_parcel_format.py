from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cluster.parcel_format import (
    MOST_PART_BYTES,
    Manifest,
    PackedFile,
    ParcelError,
    Part,
    check_names,
    checked_name,
    part_name,
    part_sizes,
    pieces,
    sha256,
)

CONTENTS = st.lists(st.binary(max_size=40), max_size=8)
PART_SIZES = st.integers(min_value=1, max_value=50)


def manifest_of(files: dict[str, bytes], part_bytes: int = 4) -> Manifest:
    whole = b"".join(files.values())
    parts = [whole[start : start + part_bytes] for start in range(0, len(whole), part_bytes)]
    return Manifest(
        "/runs/first",
        tuple(PackedFile(name, len(data), sha256(data)) for name, data in files.items()),
        tuple(Part(len(data), sha256(data)) for data in parts),
        part_bytes,
    )


def changed(manifest: Manifest, **values: Any) -> bytes:
    return json.dumps(json.loads(manifest.to_bytes()) | values).encode()


@given(CONTENTS, PART_SIZES)
def test_parts_put_where_their_pieces_say_give_every_file_back(
    contents: list[bytes], part_bytes: int
) -> None:
    manifest = manifest_of({f"f{n}": data for n, data in enumerate(contents)}, part_bytes)
    whole = b"".join(contents)
    back = [bytearray(len(data)) for data in contents]
    for index in range(len(manifest.parts)):
        part = whole[index * part_bytes : (index + 1) * part_bytes]
        at = 0
        for piece in manifest.pieces(index):
            back[piece.file][piece.start : piece.start + piece.size] = part[at : at + piece.size]
            at += piece.size
        assert at == len(part)
    assert [bytes(one) for one in back] == contents


@given(CONTENTS, PART_SIZES)
def test_every_byte_of_every_file_is_in_one_piece(contents: list[bytes], part_bytes: int) -> None:
    manifest = manifest_of({f"f{n}": data for n, data in enumerate(contents)}, part_bytes)
    found = [
        (piece.file, byte)
        for index in range(len(manifest.parts))
        for piece in manifest.pieces(index)
        for byte in range(piece.start, piece.start + piece.size)
    ]
    assert found == [(n, byte) for n, data in enumerate(contents) for byte in range(len(data))]


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_parts_are_of_one_size_but_the_last_and_hold_everything(total: int, size: int) -> None:
    sizes = part_sizes(total, size)
    assert sum(sizes) == total
    assert all(one == size for one in sizes[:-1])
    assert all(0 < one <= size for one in sizes)


def test_pieces_of_a_worked_example() -> None:
    assert [(p.file, p.start, p.size) for p in pieces([3, 0, 5], 2, 6)] == [(0, 2, 1), (2, 0, 3)]


@given(CONTENTS, PART_SIZES)
def test_a_manifest_reads_as_it_was_written(contents: list[bytes], part_bytes: int) -> None:
    manifest = manifest_of({f"a/f{n}": data for n, data in enumerate(contents)}, part_bytes)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.size_bytes == sum(map(len, contents))


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "/", "a/.hidden", "~/x/.."),
        *(
            "a\\b",
            "..\\x",
            "C:x",
            "a\0b",
            "a\nb",
            "a b",
            "~x",
            "-rf",
            "%2e%2e/x",
            "a/./b",
            "x" * 300,
        ),
    ],
)
def test_a_name_that_may_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ParcelError):
        checked_name(name)
    with pytest.raises(ParcelError):
        PackedFile(name, 0, sha256(b""))


@given(st.text(max_size=30))
def test_no_accepted_name_leaves_its_folder(name: str) -> None:
    try:
        checked_name(name)
    except ParcelError:
        return
    parts = name.split("/")
    assert all(one and one[0] not in ".-~" and "\\" not in one and "\0" not in one for one in parts)


@pytest.mark.parametrize(
    "name",
    [
        *("run.yaml", "oof/config_id=0f3a/fold=0.parquet", "journal/00000001.json"),
        *("bundle/members/0f3a/fold=0/model.safetensors", "analysis/per_class.parquet"),
    ],
)
def test_the_names_of_a_run_are_accepted(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("names", [["a", "a"], ["a/B", "A/b"], ["a", "a/b"], ["x/y/z", "X/Y"]])
def test_two_files_for_one_place_are_refused(names: list[str]) -> None:
    with pytest.raises(ParcelError):
        check_names(names)


def test_numbers_that_contradict_each_other_are_refused() -> None:
    manifest = manifest_of({"a": b"12345", "b": b"678"})
    values = json.loads(manifest.to_bytes())
    for wrong in (
        changed(manifest, parts=values["parts"][:-1]),
        changed(manifest, parts=values["parts"] * 2),
        changed(manifest, parts=values["parts"][::-1], part_bytes=3),
        changed(manifest, part_bytes=0),
        changed(manifest, part_bytes=-1),
        changed(manifest, part_bytes=MOST_PART_BYTES + 1),
        changed(manifest, part_bytes="4"),
        changed(manifest, files=[{"name": "a", "size": -8, "sha256": sha256(b"")}]),
        changed(manifest, files=[{"name": "a", "size": 1 << 60, "sha256": sha256(b"")}]),
        changed(manifest, files=[{"name": "a", "size": 8, "sha256": "0" * 63}]),
        changed(manifest, files=[{"name": 5, "size": 8, "sha256": "0" * 64}]),
        changed(manifest, files=[{"name": "a", "size": 8.0, "sha256": "0" * 64}]),
        changed(manifest, files=None),
    ):
        with pytest.raises(ParcelError):
            Manifest.from_bytes(wrong)


@pytest.mark.parametrize("data", [b"", b"[]", b"5", b"{}", b"\xff\xfe", b'{"version": 1}', b"null"])
def test_anything_else_is_no_manifest(data: bytes) -> None:
    with pytest.raises(ParcelError):
        Manifest.from_bytes(data)


def test_a_manifest_of_another_version_says_what_to_do() -> None:
    newer = changed(manifest_of({"a": b"1"}), version=2)
    with pytest.raises(ParcelError, match="version 2, this foldblend reads 1; install the same"):
        Manifest.from_bytes(newer)


def test_parts_sort_as_they_are_counted() -> None:
    names = [part_name(n) for n in (0, 9, 10, 99, 100, 99_999)]
    assert names == sorted(names)
