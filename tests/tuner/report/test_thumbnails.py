from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.stores import new_place
from tuner.report import thumbnails as module
from tuner.report.thumbnails import (
    MAX_SIDE,
    MAX_THUMBNAILS,
    MAX_URI_CHARACTERS,
    first_ids,
    thumbnail,
    thumbnails,
)


def opened(uri: str | None) -> Image.Image:
    assert uri is not None
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def saved(path: Path, width: int, height: int, **options: object) -> str:
    Image.new("RGB", (width, height), (200, 30, 30)).save(path, **options)
    return str(path)


def test_the_longer_side_is_96_pixels_at_most(tmp_path: Path) -> None:
    assert opened(thumbnail(saved(tmp_path / "a.jpg", 400, 200))).size == (MAX_SIDE, MAX_SIDE // 2)
    assert opened(thumbnail(saved(tmp_path / "b.png", 8, 8))).size == (8, 8)


def test_a_photo_held_sideways_stands_upright_and_tells_nothing_else(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    exif[0x010E] = "where I live"
    picture = opened(thumbnail(saved(tmp_path / "a.jpg", 300, 100, exif=exif)))
    assert picture.size == (32, 96)
    assert not picture.getexif()


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xe0 cut"])
def test_a_broken_image_has_no_thumbnail(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert thumbnail(str(tmp_path / "a.jpg")) is None


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    assert thumbnail(str(tmp_path / "missing.jpg")) is None
    assert thumbnail(str(tmp_path)) is None
    assert thumbnail("") is None
    assert thumbnail("a\0b") is None


def test_an_image_on_an_object_store_has_one_too(
    tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = new_place(s3_endpoint)
    here = saved(tmp_path / "a.png", 40, 20)
    (place / "a.png").write_bytes(Path(here).read_bytes())
    uri, gone = (place / "a.png").uri, (place / "gone.png").uri
    assert thumbnails({"a": uri, "b": gone}) == {"a": thumbnail(here), "b": None}
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    assert thumbnail(uri) is None


def test_an_image_of_too_many_pixels_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png", 40, 40)
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    assert thumbnail(path) is None


def test_noise_does_not_swell_the_page(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    uri = thumbnail(str(tmp_path / "a.png"))
    assert uri is None or len(uri) <= MAX_URI_CHARACTERS


def test_a_page_has_forty_pictures_at_most(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", 8, 8)
    paths = {f"img{at}": path for at in range(MAX_THUMBNAILS + 20)}
    paths["img3"] = str(tmp_path / "gone.png")
    made = thumbnails(paths)
    assert len(made) == MAX_THUMBNAILS
    assert made["img3"] is None
    assert made["img4"] is not None


def test_an_image_that_is_asked_for_twice_counts_once() -> None:
    assert first_ids(["a", "b"], ["b", "c"]) == ("a", "b", "c")
    assert len(first_ids([str(at) for at in range(99)])) == MAX_THUMBNAILS
