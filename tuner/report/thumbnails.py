"""Small pictures inside the page. An image that is gone or broken has none, and stops nothing."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping

from PIL import Image

from ensemble.files import Location
from trainables.errors import UnreadableImageError
from trainables.images import decode_image, in_threads, read_bytes, reading_threads
from trainables.remote_files import is_remote

MAX_SIDE = 96  # pixels
MAX_THUMBNAILS = 40
MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 100_000_000
JPEG_QUALITY = 78
MAX_URI_CHARACTERS = 12_000  # noise compresses badly; 40 of these are half a megabyte


def thumbnails(paths: Mapping[str, str]) -> dict[str, str | None]:
    """By id a data URI of the image at `paths[id]`, None where it cannot be shown. Of more than
    MAX_THUMBNAILS the first are taken."""
    wanted = dict(list(paths.items())[:MAX_THUMBNAILS])
    threads = reading_threads(list(wanted.values()))
    return dict(zip(wanted, in_threads(thumbnail, wanted.values(), threads), strict=True))


def thumbnail(path: str) -> str | None:
    """`data:image/jpeg;base64,…` of at most 96 x 96 pixels, upright, without the file's metadata.
    None for what is missing, no image, or too large to be opened for a thumbnail."""
    try:
        content = _moderate(path)
        if content is None:
            return None
        image = Image.fromarray(decode_image(content, path))
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        return _data_uri(image)
    except (UnreadableImageError, OSError, ValueError, SyntaxError, MemoryError):
        return None
    except Image.DecompressionBombError:
        return None


def first_ids(*columns: Iterable[str]) -> tuple[str, ...]:
    """The ids of all columns in turn, every one once, at most MAX_THUMBNAILS."""
    return tuple(dict.fromkeys(name for column in columns for name in column))[:MAX_THUMBNAILS]


def _moderate(path: str) -> bytes | None:
    """A plain file's content. None where it is larger than a thumbnail is worth, or its header
    announces more pixels."""
    if not is_remote(path) and not os.path.isfile(path):
        return None
    if Location.of(path).size() > MAX_FILE_BYTES:
        return None
    content = read_bytes(path)
    with Image.open(io.BytesIO(content)) as image:  # reads the header alone
        return content if image.width * image.height <= MAX_PIXELS else None


def _data_uri(image: Image.Image) -> str | None:
    for quality in (JPEG_QUALITY, JPEG_QUALITY // 2):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        if len(uri) <= MAX_URI_CHARACTERS:
            return uri
    return None
