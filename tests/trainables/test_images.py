"""Real files of every kind that people's folders hold."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.trainables.odd_images import (
    BROKEN_PROFILE,
    BROKEN_TEXT,
    ORIENTATIONS,
    broken_files,
    chunk,
    picture,
    sound_files,
    turned_file,
    upright,
)
from trainables.errors import DataError, UnreadableImageError
from trainables.images import (
    decode_image,
    fit_square,
    in_threads,
    read_square,
    read_square_and_aspect,
    upright_size,
    usable_cores,
)
from trainables.shrink import shrink


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


def test_a_colour_jpeg_of_luma_and_ink_keeps_its_colours() -> None:
    assert differs(decode_image(sound_files()["ycck.jpg"]), picture()) < 4


def test_of_an_animation_the_first_frame_is_taken() -> None:
    for name in ("animated.png", "gif_in_clothes.png", "animated.webp"):
        assert differs(decode_image(sound_files()[name]), picture()) < 6


# --- turned and reduced ------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright(form: str, orientation: int) -> None:
    data = turned_file(form, orientation, picture())
    shown = upright(picture(), orientation)
    assert differs(decode_image(data), shown) < 4
    assert upright_size(data) == (shown.shape[1], shown.shape[0])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("size", [16, 32, 64, 128, 250])  # at 1/8, 1/8, 1/4, 1/2 and in full
def test_a_reduced_jpeg_is_turned_upright_and_close_to_the_full_one(
    orientation: int, size: int
) -> None:
    data = turned_file("JPEG", orientation, picture(257, 390))
    square, aspect = read_square_and_aspect(data, size)
    shown = upright(picture(257, 390), orientation)
    assert differs(square, fit_square(shown, size)) < 3
    assert aspect == shown.shape[1] / shown.shape[0]


@pytest.mark.parametrize(
    ("height", "width", "decoded"),
    [
        (256, 300, (32, 38)),  # at 1/8, 37.5 wide
        (255, 900, (64, 225)),  # at 1/4: at 1/8 it would be less than 32 high
        (64, 200, (32, 100)),
    ],
)
def test_no_side_of_a_reduced_jpeg_falls_below_the_square(
    height: int, width: int, decoded: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def recorded(image: np.ndarray, *arguments: Any) -> np.ndarray:
        seen.append(image.shape[:2])
        return shrink(image, *arguments)

    monkeypatch.setattr("trainables.images.shrink", recorded)
    read_square(encoded(Image.fromarray(picture(height, width)), "JPEG"), 32)
    assert seen == [decoded]


def test_fine_detail_of_a_reduced_jpeg_is_averaged_not_dropped() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    square = read_square(encoded(Image.fromarray(stripes), "JPEG", quality=95), 64)
    assert np.abs(square.astype(int) - 100).max() <= 3


# --- odd files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sound_files())
def test_the_size_without_decoding_is_that_of_the_decoded_image(name: str) -> None:
    data = sound_files()[name]
    height, width = decode_image(data, name).shape[:2]
    assert upright_size(data, name) == (width, height)
    assert read_square_and_aspect(data, 16, name)[1] == width / height


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_file_is_reported_in_one_line(name: str) -> None:
    with pytest.raises(UnreadableImageError) as caught:
        decode_image(broken_files()[name], name)
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_an_image_too_large_for_memory_is_refused(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.images.MAX_PIXELS", 60 * 80 - 1)
    with pytest.raises(DataError, match=r"big: 80 x 60 pixels, more than .* save it smaller"):
        decode_image(encoded(Image.fromarray(picture()), form), "big")


@pytest.mark.parametrize("name", ["plain.jpg", "plain.png", "lossless.webp", "plain.bmp"])
def test_damage_anywhere_gives_pixels_or_a_reason(name: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(sound_files()[name])
        for at in generator.integers(0, len(data), 3):
            data[at] = generator.integers(0, 256)
        with contextlib.suppress(UnreadableImageError):
            assert decode_image(bytes(data), name).ndim == 3


def test_trouble_of_libpng_is_neither_printed_nor_seen() -> None:
    """What libpng has to say of a broken colour profile goes past Python to stderr."""
    code = (
        "from tests.trainables.odd_images import *; from trainables.images import decode_image\n"
        "for data in (png(BROKEN_PROFILE), png(BROKEN_TEXT), png(BROKEN_PROFILE + BROKEN_TEXT)):\n"
        "    assert (decode_image(data) == picture()).all()\n"
        "for data in broken_files().values():\n"
        "    try: decode_image(data)\n"
        "    except ValueError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_broken_profile_does_no_harm_to_a_see_through_png() -> None:
    layer = np.dstack([picture(), np.full((60, 80), 255, np.uint8)])
    whole = encoded(Image.fromarray(layer), "PNG")
    spoilt = whole[:33] + BROKEN_PROFILE + BROKEN_TEXT + whole[33:]
    assert differs(decode_image(spoilt), picture()) == 0


def test_a_suggested_palette_in_a_grey_png_does_no_harm() -> None:
    whole = encoded(Image.fromarray(picture()).convert("L"), "PNG")
    spoilt = whole[:33] + chunk(b"PLTE", bytes(9)) + whole[33:]
    assert differs(decode_image(spoilt), decode_image(whole)) == 0


def outcome(name: str) -> bytes | str:
    """A file's square, or why there is none."""
    data = {**sound_files(), **broken_files()}[name]
    try:
        return read_square(data, 32, name).tobytes()
    except UnreadableImageError as error:
        return str(error)


def outcomes(names: list[str]) -> list[bytes | str]:
    return [outcome(name) for name in names]


def test_odd_files_decode_the_same_in_any_thread_and_process() -> None:
    names = list({**sound_files(), **broken_files()})
    alone = outcomes(names)
    many = names * 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, many)) == alone * 4
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        assert processes.map(outcomes, [names, names[::-1]], chunksize=1) == [alone, alone[::-1]]


# --- threads -----------------------------------------------------------------------------------


def test_work_is_begun_only_a_little_ahead_of_the_caller() -> None:
    begun = []
    results = in_threads(begun.append, range(10_000), threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 100
    assert usable_cores() >= 1


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
