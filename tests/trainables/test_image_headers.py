from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.trainables.odd_images import (
    BROKEN_PROFILE,
    ORIENTATIONS,
    chunk,
    encoded,
    picture,
    png,
    sound_files,
    turned_file,
)
from trainables.image_headers import exif_orientation, read_header


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("progressive", [False, True])
def test_size_and_orientation_of_a_jpeg_come_from_its_segments(
    orientation: int, progressive: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = read_header(encoded(picture(), "JPEG", exif=exif, progressive=progressive))
    assert (header.width, header.height, header.orientation) == (80, 60, orientation)
    assert header.upright_size() == ((60, 80) if orientation >= 5 else (80, 60))
    assert header.plain
    assert header.jpeg


def test_the_size_of_a_thumbnail_in_the_header_is_not_taken_for_the_images() -> None:
    whole = turned_file("JPEG", 3, picture())
    segment = b"Exif\x00\x00" + encoded(picture(8, 8), "JPEG")
    header = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    found = read_header(whole[:2] + header + whole[2:])
    assert (found.width, found.height, found.plain) == (80, 60, True)


def test_padding_before_a_marker_is_skipped() -> None:
    whole = encoded(picture(), "JPEG")
    assert read_header(whole[:2] + b"\xff\xff" + whole[2:]).width == 80


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_in_both_byte_orders(order: str) -> None:
    mark = b"II" if order == "<" else b"MM"
    entries = struct.pack(f"{order}HHIHxx", 0x010F, 3, 1, 7)
    entries += struct.pack(f"{order}HHIHxx", 0x0112, 3, 1, 8)
    block = mark + struct.pack(f"{order}HIH", 42, 8, 2) + entries
    assert exif_orientation(block) == 8
    assert exif_orientation(block[:30]) == 1


@given(st.binary(max_size=60))
def test_any_block_has_an_orientation_from_1_to_8(block: bytes) -> None:
    assert 1 <= exif_orientation(b"II*\x00\x08\x00\x00\x00" + block) <= 8
    assert 1 <= exif_orientation(block) <= 8


def test_what_pixels_do_not_depend_on_is_taken_out_of_a_png() -> None:
    gamma = chunk(b"gAMA", struct.pack(">I", 45455))
    assert read_header(png(gamma + BROKEN_PROFILE)).content == png()
    assert read_header(png() + b"bytes after the end").content == png()


def test_a_png_that_may_be_turned_or_see_through_is_left_to_pillow() -> None:
    profile = chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(b"exif"))
    comment = chunk(b"tEXt", b"Comment\x00Raw profile type exif")
    assert not read_header(png(profile)).plain
    assert read_header(png(comment)).plain
    assert not read_header(turned_file("PNG", 6, picture())).plain
    assert not read_header(sound_files()["alpha.png"]).plain
    assert not read_header(sound_files()["palette_transparent.png"]).plain
    assert read_header(sound_files()["palette.png"]).plain


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png()[:-30], "cut off in the IDAT chunk"),
        (png(end=False), "without its end"),
        (png(damaged=True), "wrong checksum of the IDAT chunk"),
        (png()[:8] + png()[33:], "without a header"),
        (png()[:8], "without a header"),
    ],
)
def test_a_damaged_png_is_reported_with_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_header(data)


@pytest.mark.parametrize("name", ["plain.bmp", "lossy.webp", "plain.jpg", "plain.png"])
def test_plain_files_tell_their_size(name: str) -> None:
    header = read_header(sound_files()[name])
    assert (header.plain, header.width, header.height) == (True, 80, 60)


def test_a_bitmap_stored_from_the_top_has_a_positive_height() -> None:
    data = bytearray(encoded(picture(), "BMP"))
    data[22:26] = struct.pack("<i", -60)
    assert read_header(bytes(data)).height == 60


@pytest.mark.parametrize("name", ["lossless.webp", "turned.webp", "palette.bmp", "plain_tif"])
def test_what_only_pillow_knows_has_no_size(name: str) -> None:
    data = {"plain_tif": encoded(picture(), "TIFF"), **sound_files()}[name]
    header = read_header(data)
    assert (header.plain, header.width, header.content) == (False, 0, data)


@pytest.mark.parametrize("name", ["turned.jpg", "plain.png", "lossy.webp", "plain.bmp"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_damage_makes_anything_but_a_value_error(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    data = bytearray(sound_files()[name])
    for at in generator.integers(0, min(len(data), 200), 5):
        data[at] = generator.integers(0, 256)
    with contextlib.suppress(ValueError):
        assert read_header(bytes(data[: generator.integers(1, len(data) + 1)])).width >= 0
