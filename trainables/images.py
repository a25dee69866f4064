"""An image file becomes (height, width, 3) uint8 RGB, or one line that says why it cannot.

OpenCV decodes what it decodes right and fast (`image_headers.py` knows what). Pillow gets the
rest: alpha, palettes with transparency, TIFF, odd files, and files whose end is missing, because
OpenCV before 5 fills what it could not read with grey and says nothing. Which of the two it is
depends on the file's bytes alone, so a file decodes the same in every thread, process and run.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from trainables.errors import UnreadableImageError
from trainables.image_headers import Encoded, read_header
from trainables.remote_files import FETCH_THREADS, fetch, is_remote
from trainables.shrink import shrink

EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff")
MAX_THREADS = 64
# Pillow's own bound: 0.5 GB in RGB, for each thread that decodes.
MAX_PIXELS = 178_956_970

_AHEAD = 8  # results a thread may be ahead of the caller
_REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}

Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")


def decode_image(source: str | Path | bytes, name: str = "") -> Pixels:
    """(H, W, 3) uint8 RGB, upright (EXIF orientation applied), alpha over white, 16 bits to 8, the
    first frame of an animation.

    `source`: a path, or an image file's bytes, for which `name` is used in errors. Raises
    UnreadableImageError (a DataError) for a file that is missing, empty, cut off, damaged, no image
    or larger than MAX_PIXELS.
    """
    data, name = _content(source, name)
    with _turn_to_decode(name):
        encoded = _header(data, name)
        pixels = _decode_with_opencv(encoded)
        if pixels is None:
            return _decode_with_pillow(encoded.content, name)
        return _turned(pixels, encoded.orientation)


def read_square(source: str | Path | bytes, size: int, name: str = "") -> Pixels:
    """Decode a file and squash it to (size, size, 3) uint8 RGB. Errors as of `decode_image`."""
    return read_square_and_aspect(source, size, name)[0]


def read_square_and_aspect(
    source: str | Path | bytes, size: int, name: str = ""
) -> tuple[Pixels, float]:
    """`read_square`, and width / height of the whole upright image.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where both sides then still are at least
    `size`: the decoder's own averaging, for a third of the time. What is left is averaged here.
    """
    data, name = _content(source, name)
    with _turn_to_decode(name):
        return _decode_square(data, size, name)


def _decode_square(data: bytes, size: int, name: str) -> tuple[Pixels, float]:
    encoded = _header(data, name)
    factor = _reduction(encoded, size)
    pixels = _decode_with_opencv(encoded, factor)
    if pixels is None:
        pixels = _decode_with_pillow(encoded.content, name)
        return fit_square(pixels, size), pixels.shape[1] / pixels.shape[0]
    if factor == 1:
        square = fit_square(pixels, size)
    else:
        # The last pixel may stand for less than `factor` pixels of the image.
        square = shrink(pixels, size, size, (encoded.width / factor, encoded.height / factor))
    width, height = encoded.upright_size()
    return _turned(square, encoded.orientation), width / height


def upright_size(source: str | Path | bytes, name: str = "") -> tuple[int, int]:
    """(width, height) in pixels as seen, without decoding. Errors as of `decode_image`, as far as
    the header tells."""
    data, name = _content(source, name)
    encoded = _header(data, name)
    if encoded.plain:
        return encoded.upright_size()
    with _errors_of_pillow(name), Image.open(io.BytesIO(encoded.content)) as image:
        if image.format == "TIFF":
            image.load()  # turns it, and Pillow's versions differ in what the size is before
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def read_bytes(path: str | Path) -> bytes:
    """A file's content; UnreadableImageError when it is missing or not allowed. For a URI that is
    an object's; UnreachableError where the store cannot be reached or refuses."""
    try:
        return fetch(str(path)) if is_remote(str(path)) else Path(path).read_bytes()
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
        image = shrink(image, *shrunk)
    if shrunk != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    return image


def usable_cores() -> int:
    """Cores that this process may run on, which a container or a batch system may have bounded."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reading_threads(paths: Sequence[str]) -> int | None:
    """How many of `in_threads` should read and decode these files: None, one a core, for files of
    this machine; more where reading one is waiting for a network."""
    if not any(is_remote(path) for path in paths):
        return None
    return max(FETCH_THREADS, usable_cores())


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Results in order, computed by `threads`, one for each usable core if None (decoders release
    the interpreter's lock).

    OpenCV's own threads are switched off in this process: many small images decoded side by side
    are faster than one at a time in parallel. Work is begun a little ahead of the caller, so
    memory does not grow with the number of items. When the caller stops early, what has not begun
    is cancelled.
    """
    cv2.setNumThreads(0)
    number = min(threads or usable_cores(), MAX_THREADS)
    begun: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(number)
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > _AHEAD * number:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


# --- decoding ----------------------------------------------------------------------------------


def _content(source: str | Path | bytes, name: str) -> tuple[bytes, str]:
    if not isinstance(source, bytes):
        return _content(read_bytes(source), name or str(source))
    name = name or f"<{len(source)} bytes>"
    if not source:
        raise UnreadableImageError(name, "the file is empty (0 bytes)")
    return source, name


def _turn_to_decode(name: str) -> contextlib.AbstractContextManager[object]:
    """Of the many threads that fetch, only one a core holds a decoded image at a time."""
    return _decoding() if is_remote(name) else contextlib.nullcontext()


@functools.cache
def _decoding() -> threading.Semaphore:
    return threading.Semaphore(usable_cores())


def _header(data: bytes, name: str) -> Encoded:
    try:
        encoded = read_header(data)
    except ValueError as error:
        raise UnreadableImageError(name, str(error)) from error
    _refuse_huge(encoded.width, encoded.height, name)
    return encoded


def _refuse_huge(width: int, height: int, name: str) -> None:
    """A small file may claim to hold more pixels than there is memory."""
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            name,
            f"{width} x {height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million that are "
            "decoded; save it smaller",
        )


def _reduction(encoded: Encoded, size: int) -> int:
    """By how much a JPEG's sides may be divided with both at least `size` still; 1 for others."""
    if encoded.jpeg:
        for factor in _REDUCED:
            if min(encoded.width, encoded.height) >= size * factor:
                return factor
    return 1


def _decode_with_opencv(encoded: Encoded, factor: int = 1) -> Pixels | None:
    """RGB as stored, not turned, each side divided by `factor`; None where Pillow has to try."""
    if not encoded.plain:
        return None
    # Turned by us: one reader of the orientation for all scales.
    flags = _REDUCED.get(factor, cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded.content, np.uint8), flags)
    except cv2.error:
        return None
    if pixels is None:
        return None
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """EXIF's orientations: 2 and 4 are mirrored, 3 is upside down, 5 to 8 lie on their side."""
    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)  # 5; the others are flips of it
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else cv2.flip(pixels, flip)


def _decode_with_pillow(data: bytes, name: str) -> Pixels:
    with _errors_of_pillow(name), Image.open(io.BytesIO(data)) as image:
        _refuse_huge(*image.size, name)
        image.load()
        upright = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
        return np.array(_to_rgb(upright, name), dtype=np.uint8)


class _errors_of_pillow:  # noqa: N801 (reads as a statement)
    """Whatever Pillow raises becomes an UnreadableImageError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        _silence_bomb_warnings()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, UnreadableImageError | MemoryError):
            return
        if isinstance(error, Image.UnidentifiedImageError):
            raise UnreadableImageError(self.name, "not an image in a known format") from error
        if isinstance(error, Exception):
            # Its plugins let out anything for broken files: OSError, ValueError, SyntaxError,
            # struct.error, zlib.error, KeyError, …
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UnreadableImageError(self.name, reason) from error


@functools.cache
def _silence_bomb_warnings() -> None:
    """Between half of MAX_PIXELS and MAX_PIXELS Pillow decodes and warns. We only decode."""
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF: any error; the pixels are as sound as they were
        return 1
    return found if found in range(1, 9) else 1


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
