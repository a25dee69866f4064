"""Real files of every kind that people's folders hold."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from trainables.errors import DataError
from trainables.images import decode_image, fit_square, in_threads, read_square


def smooth(height: int = 60, width: int = 80) -> np.ndarray:
    """A picture without sharp edges, so that JPEG keeps it nearly as it is."""
    coarse = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(**options: Any) -> bytes:
    return encoded(Image.fromarray(smooth()), "JPEG", quality=95, **options)


def differs(image: np.ndarray, expected: np.ndarray) -> float:
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    return float(np.abs(image.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_a_lossless_image_comes_back_as_rgb(form: str) -> None:
    assert differs(decode_image(encoded(Image.fromarray(smooth()), form)), smooth()) == 0


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_lossy_image_comes_back_nearly_as_rgb(form: str) -> None:
    image = encoded(Image.fromarray(smooth()), form, quality=95)
    assert differs(decode_image(image), smooth()) < 4


def test_a_grey_image_has_three_equal_channels() -> None:
    image = decode_image(encoded(Image.fromarray(smooth()).convert("L"), "PNG"))
    assert image.shape == (60, 80, 3)
    assert (image[..., 0] == image[..., 2]).all()


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    image = encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    assert differs(decode_image(image), smooth()) < 4


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(extension: str) -> None:
    ramp = np.linspace(0, 65535, 256 * 4).reshape(32, 32).astype(np.uint16)
    image = decode_image(cv2.imencode(extension, ramp)[1].tobytes())
    expected = np.dstack([ramp // 257] * 3).astype(np.uint8)
    assert differs(image, expected) < 1
    assert (image.min(), image.max()) == (0, 255)


def test_sixteen_bit_colour_is_scaled_to_eight() -> None:
    wide = smooth().astype(np.uint16) * 257
    image = decode_image(cv2.imencode(".png", wide[..., ::-1])[1].tobytes())
    assert differs(image, smooth()) == 0


def test_a_palette_with_transparency_is_laid_over_white() -> None:
    palette = Image.new("P", (4, 2))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.paste(1, (0, 0, 2, 2))
    image = decode_image(encoded(palette, "PNG", transparency=0))
    assert image[0, 0].tolist() == [200, 0, 0]
    assert image[0, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_half_transparent_pixels_are_mixed_with_white(form: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    pixels = decode_image(encoded(image, form, lossless=True))
    assert set(np.unique(pixels).tolist()) == {127}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    image = Image.fromarray(smooth())
    pixels = decode_image(encoded(image, form, exif=exif, quality=95))
    assert differs(pixels, np.rot90(smooth(), -1)) < 4


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_jpeg_is_unreadable(progressive: bool, kept: float, tmp_path: Path) -> None:
    whole = jpeg(progressive=progressive)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match=r"cut.jpg: ") as caught:
        decode_image(path)
    assert "\n" not in str(caught.value)


def test_a_jpeg_whose_tail_was_never_downloaded_is_unreadable() -> None:
    whole = jpeg()
    half = len(whole) // 2
    with pytest.raises(DataError, match="truncated"):
        decode_image(whole[:half] + bytes(half), "half.jpg")


def test_a_truncated_jpeg_is_unreadable_although_its_thumbnail_is_whole() -> None:
    whole = jpeg()
    thumbnail = encoded(Image.fromarray(smooth(8, 8)), "JPEG")
    segment = b"Exif\x00\x00" + thumbnail
    header = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    with_thumbnail = whole[:2] + header + whole[2:]
    assert differs(decode_image(with_thumbnail), smooth()) < 4
    with pytest.raises(DataError, match="truncated"):
        decode_image(with_thumbnail[:-200], "cut.jpg")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    assert differs(decode_image(jpeg() + b"camera maker's notes"), smooth()) < 4


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_truncated_images_are_unreadable(form: str) -> None:
    whole = encoded(Image.fromarray(smooth()), form)
    with pytest.raises(DataError, match="cut: "):
        decode_image(whole[: len(whole) // 2], "cut")


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.touch()
    text.write_text("<html>404 Not Found</html>")
    for path, reason in (
        (empty, r"empty \(0 bytes\)"),
        (text, "not an image"),
        (tmp_path / "gone.jpg", "No such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            decode_image(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_floating_point_pixels_are_refused_with_advice() -> None:
    image = Image.fromarray(np.zeros((4, 4), np.float32))
    with pytest.raises(DataError, match="floating-point pixels; save it with 8 or 16"):
        decode_image(encoded(image, "TIFF"), "f.tif")


@pytest.mark.parametrize("shape", [(60, 80), (8, 8), (10, 90), (33, 32), (1, 1)])
def test_any_image_is_squashed_to_the_square(shape: tuple[int, int]) -> None:
    assert fit_square(smooth(*shape), 32).shape == (32, 32, 3)


def test_shrinking_averages_and_keeps_an_even_colour() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.unique(fit_square(stripes, 32)).tolist() == [100]
    # One side shrinks, the other grows: the stripes must not flicker in either.
    assert np.unique(fit_square(stripes[:16], 32)).tolist() == [100]


def test_an_image_of_the_right_size_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(smooth(32, 32)), "PNG"))
    assert differs(read_square(path, 32), smooth(32, 32)) == 0


def test_threads_give_results_in_order_and_errors_to_the_caller() -> None:
    assert list(in_threads(lambda number: number * 2, range(100))) == list(range(0, 200, 2))
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda number: 1 // (number - 5), range(100)))


def test_importing_leaves_opencvs_threads_as_they_were() -> None:
    code = (
        "import cv2; before = cv2.getNumThreads(); import trainables.images, trainables.checks, "
        "trainables.image_cache, sys; assert cv2.getNumThreads() == before; "
        "assert not {'torch', 'timm', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
