"""An image file becomes (height, width, 3) uint8 RGB, or one line that says why it cannot.

OpenCV decodes what it decodes right and fast: complete, opaque JPEG, PNG, BMP and WebP. Pillow
gets everything else: alpha, palettes with transparency, TIFF, odd files, and files whose end is
missing, because OpenCV before 5 fills what it could not read with grey and says nothing.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from trainables.errors import UnreadableImageError

EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff")
MAX_THREADS = 8

Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")


def decode_image(source: str | Path | bytes, name: str = "") -> Pixels:
    """(H, W, 3) uint8 RGB, upright (EXIF orientation applied), alpha over white, 16 bits to 8.

    `source`: a path, or an image file's bytes, for which `name` is used in errors. Raises
    UnreadableImageError (a DataError) for a file that is missing, empty, cut off or no image.
    """
    if not isinstance(source, bytes):
        return decode_image(read_bytes(source), str(source))
    name = name or f"<{len(source)} bytes>"
    if not source:
        raise UnreadableImageError(name, "the file is empty (0 bytes)")
    if _is_plain(source):
        pixels = _decode_with_opencv(source)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(source, name)


def read_bytes(path: str | Path) -> bytes:
    """A file's content; UnreadableImageError when it is missing or not allowed."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(str(path), error.strerror or type(error).__name__) from error


def fit_square(image: Pixels, size: int) -> Pixels:
    """(H, W, 3) to (size, size, 3) by squashing: the ratio of the sides is not kept.

    A side that shrinks is averaged over area, a side that grows is interpolated cubically, each on
    its own, so a long narrow image neither flickers nor blurs.
    """
    height, width = image.shape[:2]
    shrunk = (min(width, size), min(height, size))
    if shrunk != (width, height):
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    return image


def read_square(path: str | Path, size: int) -> Pixels:
    """Decode a file and squash it to (size, size, 3) uint8 RGB."""
    return fit_square(decode_image(path), size)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order, computed by a few threads (decoders release the interpreter's lock).

    OpenCV's own threads are switched off in this process: many small images decoded side by side
    are faster than one at a time in parallel. When the caller stops early, what has not begun is
    cancelled.
    """
    cv2.setNumThreads(0)
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _is_plain(data: bytes) -> bool:
    """Whether OpenCV decodes this file right: a known signature, whole, no alpha, upright by EXIF
    only in JPEG."""
    if data.startswith(b"\xff\xd8\xff"):
        # The end-of-image marker must follow the last scan: a cut file may still hold the one of
        # the thumbnail in its header. Inside a scan neither marker can occur.
        return data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) >= 0
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        opaque = len(data) > 25 and data[25] in (0, 2, 3) and b"tRNS" not in data
        return opaque and b"IEND" in data[-64:] and b"eXIf" not in data
    if data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8 ":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return data.startswith(b"BM") and int.from_bytes(data[28:30], "little") == 24


def _decode_with_opencv(data: bytes) -> Pixels | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if pixels is None:
        return None
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode_with_pillow(data: bytes, name: str) -> Pixels:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            return np.array(_to_rgb(upright, name), dtype=np.uint8)
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError(name, "not an image in a known format") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow's plugins raise all of these for broken files, SyntaxError for PNG chunks.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(name, reason) from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        return _sixteen_to_eight_bits(image, name)
    if image.mode == "F":
        raise UnreadableImageError(
            name, "floating-point pixels; save it with 8 or 16 bits a channel"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _sixteen_to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits: the high byte. Pillow's own conversion would clip at 255 instead."""
    wide = np.asarray(image).astype(np.int64)
    if wide.size and (wide.min() < 0 or wide.max() > 65535):
        raise UnreadableImageError(name, "32-bit pixels; save it with 8 or 16 bits a channel")
    return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
