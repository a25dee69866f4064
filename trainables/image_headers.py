"""What the first bytes of an image file say: size, orientation, and who decodes it right.

OpenCV is fast and right for complete, opaque JPEG, PNG, BMP and lossy WebP. Everything else is
Pillow's. Nothing is decoded here, and no file's header makes anything but `ValueError`.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that change pixels. All others (profiles, gamma, text, animation) go: libpng prints
# warnings about broken ones, Pillow refuses the file for them.
_PNG_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_ROTATION = re.compile(rb"Raw profile type exif|XML:com\.adobe\.xmp")

# JPEG markers that start a frame, but for those of tables (C4, C8, CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class Encoded:
    """An image file's bytes and what they say of themselves.

    content      what is to be decoded: for PNG without the chunks that pixels do not depend on
    width        stored pixels, before any turn; 0 where only Pillow can tell
    height       likewise
    orientation  EXIF's 1 to 8, to be applied after OpenCV decoded; 1 is upright
    plain        OpenCV decodes it right
    jpeg         it can be decoded at 1/2, 1/4 and 1/8 of its size for less
    """

    content: bytes
    width: int = 0
    height: int = 0
    orientation: int = 1
    plain: bool = False
    jpeg: bool = False

    def upright_size(self) -> tuple[int, int]:
        """(width, height) as seen."""
        if self.orientation >= 5:
            return self.height, self.width
        return self.width, self.height


def read_header(data: bytes) -> Encoded:
    """The header of an image file. ValueError with the reason for a PNG that is damaged."""
    if data.startswith(b"\xff\xd8\xff"):
        found = _jpeg(data)
    elif data.startswith(PNG_SIGNATURE):
        found = _png(data)
    elif data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8 ":
        found = _webp(data)
    elif data.startswith(b"BM"):
        found = _bmp(data)
    else:
        found = None
    return found or Encoded(data)


def exif_orientation(block: bytes) -> int:
    """1 to 8 out of EXIF's TIFF block (after "Exif" and two zeros); 1 where it is not there."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(count):
            tag, value = struct.unpack_from(f"{order}H6xH", block, start + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


# --- one function a format: None where Pillow has to look --------------------------------------


def _jpeg(data: bytes) -> Encoded | None:
    # The end-of-image marker must follow the last scan: a cut file may still hold the one of
    # the thumbnail in its header. Inside a scan neither marker can occur.
    whole = data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) >= 0
    orientation = None
    for marker, body in _jpeg_segments(data):
        if marker == 0xE1 and body[:6] == b"Exif\x00\x00" and orientation is None:
            orientation = exif_orientation(body[6:])
        elif marker in _FRAMES and len(body) >= 6:
            precision, height, width = struct.unpack_from(">BHH", body)
            known = precision == 8 and marker <= 0xC2 and width > 0 and height > 0
            return Encoded(data, width, height, orientation or 1, whole and known, jpeg=True)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) up to the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _png(data: bytes) -> Encoded:
    chunks = list(_png_chunks(data))
    names = [name for name, _ in chunks]
    if not chunks or names[0] != b"IHDR" or len(chunks[0][1]) != 25:
        raise ValueError("a PNG without a header")
    if names[-1] != b"IEND":
        raise ValueError("cut off: a PNG without its end")
    width, height, _, colour = struct.unpack_from(">IIBB", chunks[0][1], 8)
    opaque = colour in (0, 2, 3) and b"tRNS" not in names
    turned = any(name == b"eXIf" or name in _PNG_TEXTS for name in names)
    kept = b"".join(
        chunk for name, chunk in chunks if name != b"PLTE" or colour in (3, 6)
    )  # a suggested palette is a warning in grey images
    content = PNG_SIGNATURE + kept
    return Encoded(content, width, height, plain=opaque and not turned and width * height > 0)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, whole chunk) of all that pixels and orientation depend on. ValueError where one of
    the former is cut off or its checksum is wrong."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        at += 12 + length
        shapes_pixels = name in _PNG_PIXELS
        if not shapes_pixels and not _turns_png(name, chunk):
            continue
        sound = len(chunk) == 12 + length and zlib.crc32(chunk[4:-4]) == int.from_bytes(
            chunk[-4:], "big"
        )
        if sound:
            yield name, chunk
        elif shapes_pixels and len(chunk) < 12 + length:
            raise ValueError(f"cut off in the {name.decode()} chunk of a PNG")
        elif shapes_pixels:
            raise ValueError(f"damaged: wrong checksum of the {name.decode()} chunk of a PNG")
        if name == b"IEND":
            return


def _turns_png(name: bytes, chunk: bytes) -> bool:
    """Whether the chunk may hold an orientation, for Pillow to find."""
    if name == b"eXIf":
        return True
    return name in _PNG_TEXTS and _PNG_ROTATION.match(chunk, 8) is not None


def _webp(data: bytes) -> Encoded | None:
    if len(data) < 30 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return None
    width, height = struct.unpack_from("<HH", data, 26)
    return replace(Encoded(data, width & 0x3FFF, height & 0x3FFF), plain=True)


def _bmp(data: bytes) -> Encoded | None:
    if len(data) < 54 or int.from_bytes(data[28:30], "little") != 24:
        return None
    header, width, height = struct.unpack_from("<Iii", data, 14)
    if header < 40 or width <= 0 or height == 0:
        return None
    return Encoded(data, width, abs(height), plain=True)
