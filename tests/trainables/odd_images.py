"""Image files of every odd kind, made on the spot: name to bytes."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATIONS = range(1, 9)


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    """Smooth, so that JPEG keeps it nearly as it is; no two of its eight turns are alike."""
    coarse = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image: Image.Image | np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    made = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    made.save(buffer, form, **options)
    return buffer.getvalue()


def turned_file(form: str, orientation: int, image: np.ndarray) -> bytes:
    """A file whose stored pixels are `image` and whose EXIF tells how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif, quality=95)


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """What a viewer shows of stored pixels, by the words of the EXIF standard: which edge of the
    scene row 0 and column 0 are."""
    flips = {
        1: image,  # row 0 is the top, column 0 the left side
        2: image[:, ::-1],  # top, right
        3: image[::-1, ::-1],  # bottom, right
        4: image[::-1],  # bottom, left
        5: image.transpose(1, 0, 2),  # left, top
        6: image.transpose(1, 0, 2)[:, ::-1],  # right, top
        7: image.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: image.transpose(1, 0, 2)[::-1],  # left, bottom
    }
    return np.ascontiguousarray(flips[orientation])


def chunk(name: bytes, content: bytes, *, damaged: bool = False) -> bytes:
    checksum = zlib.crc32(name + content) ^ damaged
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(
    before_pixels: bytes = b"", *, damaged: bool = False, end: bool = True, image: Any = None
) -> bytes:
    """An 8-bit RGB PNG written by hand."""
    pixels = picture() if image is None else image
    lines = b"".join(b"\x00" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    return b"".join(
        (
            SIGNATURE,
            chunk(b"IHDR", header),
            before_pixels,
            chunk(b"IDAT", zlib.compress(lines), damaged=damaged),
            chunk(b"IEND", b"") if end else b"",
        )
    )


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return SIGNATURE + b"".join(parts)


def ycck_jpeg() -> bytes:
    """CMYK stored as luma and chroma: the Adobe marker's transform byte says so (2). Adobe stores
    ink inverted, and the luma is that of the inverted colours once more."""
    luma = np.asarray(Image.fromarray(255 - picture()).convert("YCbCr"))
    stored = np.dstack([luma, np.full(luma.shape[:2], 255, np.uint8)])
    image = Image.frombytes("CMYK", (stored.shape[1], stored.shape[0]), (255 - stored).tobytes())
    made = bytearray(encoded(image, "JPEG", quality=95, subsampling=0))
    made[made.find(b"Adobe") + 11] = 2
    return bytes(made)


def interlaced_png() -> bytes:
    """Adam7, by hand: seven passes of unfiltered lines."""
    image = picture()
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
    lines = b""
    for top, left, down, right in (*passes, (1, 0, 2, 1)):
        lines += b"".join(b"\x00" + line.tobytes() for line in image[top::down, left::right])
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 2, 0, 0, 1)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return SIGNATURE + b"".join(parts)


BROKEN_PROFILE = chunk(b"iCCP", b"sRGB\x00\x00" + zlib.compress(b"no profile"))
BROKEN_TEXT = chunk(b"tEXt", b"Comment\x00hello", damaged=True)


@functools.cache
def sound_files() -> dict[str, bytes]:
    """All of these are decoded, and all show `picture()` or something of it."""
    image = Image.fromarray(picture())
    wide = picture().astype(np.uint16) * 257
    frames = [Image.fromarray(picture()[::-1])]
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    return {
        "plain.jpg": encoded(image, "JPEG", quality=95),
        "progressive.jpg": encoded(image, "JPEG", quality=95, progressive=True),
        "grey.jpg": encoded(image.convert("L"), "JPEG", quality=95),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG", quality=95),
        "ycck.jpg": ycck_jpeg(),
        "turned.jpg": turned_file("JPEG", 6, picture()),
        "tail.jpg": encoded(image, "JPEG", quality=95) + b"camera maker's notes",
        "plain.png": png(),
        "interlaced.png": interlaced_png(),
        "bad_profile.png": png(BROKEN_PROFILE),
        "bad_text.png": png(BROKEN_TEXT),
        "grey16.png": cv2.imencode(".png", wide[..., 1])[1].tobytes(),
        "rgb16.png": cv2.imencode(".png", wide[..., ::-1])[1].tobytes(),
        "palette.png": encoded(palette, "PNG"),
        "palette_transparent.png": encoded(palette, "PNG", transparency=3),
        "alpha.png": encoded(image.convert("RGBA"), "PNG"),
        "grey_alpha.png": encoded(image.convert("LA"), "PNG"),
        "one_bit.png": encoded(image.convert("1"), "PNG"),
        "turned.png": turned_file("PNG", 6, picture()),
        "animated.png": encoded(image, "PNG", save_all=True, append_images=frames),
        "gif_in_clothes.png": encoded(image, "GIF", save_all=True, append_images=frames),
        "lossy.webp": encoded(image, "WEBP", quality=95),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "animated.webp": encoded(image, "WEBP", save_all=True, append_images=frames),
        "turned.webp": turned_file("WEBP", 6, picture()),
        "one_bit.tif": encoded(image.convert("1"), "TIFF", compression="group4"),
        "cmyk.tif": encoded(image.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "turned.tif": turned_file("TIFF", 6, picture()),
        "plain.bmp": encoded(image, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
    }


@functools.cache
def broken_files() -> dict[str, bytes]:
    """All of these are reported."""
    plain = encoded(picture(), "JPEG", quality=95)
    return {
        "empty.jpg": b"",
        "cut.jpg": plain[: len(plain) // 2],
        "zeros.jpg": plain[: len(plain) // 2] + bytes(len(plain) // 2),
        "header_only.jpg": plain[:20],
        "text.jpg": b"<html>404 Not Found</html>",
        "cut.png": png()[: len(png()) // 2],
        "endless.png": png(end=False),
        "damaged.png": png(damaged=True),
        "signature_only.png": SIGNATURE,
        "huge.png": png_that_claims(40_000, 40_000),
        "no_size.png": png_that_claims(0, 10),
        "float.tif": encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"),
    }
