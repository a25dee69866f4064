"""The operations that AutoAugment, RandAugment and TrivialAugment choose from, with magnitudes.

Each is pure: uint8 RGB (s, s, 3) in and out. What they do to values follows Pillow's ImageOps and
ImageEnhance, which the papers used, within two grey values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from trainables.images import Pixels

Change = Callable[[Pixels, float, int], Pixels]

SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13.0


@dataclass(frozen=True)
class Operation:
    """`change(image, value, fill)`; `value` for a magnitude m from 0 to 1 is start + (end - start)
    * m, where `end` is `standard` (Cubuk et al. 2019, arXiv:1805.09501) or `wide` (Müller and
    Hutter 2021, arXiv:2103.10158), and on either side of `start` where `signed`."""

    change: Change
    start: float = 0.0
    standard: float = 0.0
    wide: float = 0.0
    signed: bool = False

    @property
    def has_magnitude(self) -> bool:
        return self.start != self.standard

    def value(self, magnitude: float, *, wide: bool = False, negative: bool = False) -> float:
        """What `change` takes for `magnitude` in [0, 1]; `negative` acts where it is signed."""
        step = ((self.wide if wide else self.standard) - self.start) * magnitude
        return self.start - step if self.signed and negative else self.start + step


Chosen = tuple[str, float]


def apply_operations(image: Pixels, chosen: Iterable[Chosen], fill: int) -> Pixels:
    """`image` through the named operations with their values, one after the other."""
    for name, value in chosen:
        image = OPERATIONS[name].change(image, value, fill)
    return image


# --- geometry: about the image's middle ----------------------------------------------------------


def shear_x(image: Pixels, value: float, fill: int) -> Pixels:
    """Rows move across by `value` times their distance from the middle."""
    return _warp(image, [[1.0, value], [0.0, 1.0]], fill)


def shear_y(image: Pixels, value: float, fill: int) -> Pixels:
    """Columns move down by `value` times their distance from the middle."""
    return _warp(image, [[1.0, 0.0], [value, 1.0]], fill)


def translate_x(image: Pixels, value: float, fill: int) -> Pixels:
    """To the right by `value` times the side."""
    return _warp(image, [[1.0, 0.0], [0.0, 1.0]], fill, (value * image.shape[1], 0.0))


def translate_y(image: Pixels, value: float, fill: int) -> Pixels:
    """Down by `value` times the side."""
    return _warp(image, [[1.0, 0.0], [0.0, 1.0]], fill, (0.0, value * image.shape[0]))


def rotate(image: Pixels, value: float, fill: int) -> Pixels:
    """Counter-clockwise by `value` degrees."""
    cosine, sine = math.cos(math.radians(value)), math.sin(math.radians(value))
    return _warp(image, [[cosine, sine], [-sine, cosine]], fill)


def _warp(
    image: Pixels,
    linear: list[list[float]],
    fill: int,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Pixels:
    height, width = image.shape[:2]
    middle = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
    matrix = np.empty((2, 3))
    matrix[:, :2] = linear
    matrix[:, 2] = middle - matrix[:, :2] @ middle + shift
    warped = cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill, fill, fill),
    )
    return np.asarray(warped, dtype=np.uint8)


# --- values ---------------------------------------------------------------------------------------


def identity(image: Pixels, value: float, fill: int) -> Pixels:
    """Nothing."""
    return image


def autocontrast(image: Pixels, value: float, fill: int) -> Pixels:
    """Each channel stretched so that its darkest value is 0 and its lightest 255."""
    low, high = image.min(axis=(0, 1)).astype(float), image.max(axis=(0, 1)).astype(float)
    flat = high <= low
    scale = np.where(flat, 1.0, 255.0 / np.where(flat, 1.0, high - low))
    offset = np.where(flat, 0.0, -low * scale)
    table = np.arange(256.0)[:, None] * scale + offset
    return _look_up(image, np.clip(table + 1e-9, 0.0, 255.0).astype(np.uint8))


def equalize(image: Pixels, value: float, fill: int) -> Pixels:
    """Each channel with a flat histogram."""
    return _look_up(image, np.stack([_equal(image[:, :, c]) for c in range(3)], axis=1))


def invert(image: Pixels, value: float, fill: int) -> Pixels:
    """255 minus each value."""
    return np.asarray(cv2.bitwise_not(image), dtype=np.uint8)


def posterize(image: Pixels, value: float, fill: int) -> Pixels:
    """Only the `value` (rounded) highest of the 8 bits kept."""
    bits = min(8, max(1, round(value)))
    return image & np.uint8(256 - 2 ** (8 - bits))


def solarize(image: Pixels, value: float, fill: int) -> Pixels:
    """Values from `value` on inverted."""
    levels = np.arange(256)
    return _look_up(image, np.where(levels < value, levels, 255 - levels).astype(np.uint8))


def color(image: Pixels, value: float, fill: int) -> Pixels:
    """Saturation times `value`: 0 is grey-scale."""
    return _blend(image, cv2.cvtColor(_luma(image), cv2.COLOR_GRAY2RGB), value)


def contrast(image: Pixels, value: float, fill: int) -> Pixels:
    """Distance from the mean lightness times `value`."""
    mean = math.floor(float(_luma(image).mean()) + 0.5)
    table = np.clip(mean + value * (np.arange(256.0) - mean), 0.0, 255.0)
    return _look_up(image, table.astype(np.uint8))


def brightness(image: Pixels, value: float, fill: int) -> Pixels:
    """Every value times `value`."""
    return _look_up(image, np.clip(value * np.arange(256.0), 0.0, 255.0).astype(np.uint8))


def sharpness(image: Pixels, value: float, fill: int) -> Pixels:
    """Distance from a smoothed image times `value`: 0 is smoothed, above 1 sharper."""
    smooth = cv2.filter2D(image, -1, SMOOTH, borderType=cv2.BORDER_REPLICATE)
    return _blend(image, smooth, value)


def _equal(channel: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(256,): the table by which Pillow equalizes. OpenCV's own differs by several values."""
    counts = np.bincount(channel.ravel(), minlength=256)
    seen = counts[counts > 0]
    step = int(seen.sum() - seen[-1]) // 255
    if len(seen) <= 1 or step == 0:
        return np.arange(256, dtype=np.uint8)
    below = np.cumsum(counts) - counts
    return np.minimum((step // 2 + below) // step, 255).astype(np.uint8)


def _luma(image: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _blend(image: Pixels, other: npt.ArrayLike, value: float) -> Pixels:
    return np.asarray(cv2.addWeighted(image, value, other, 1.0 - value, 0.0), dtype=np.uint8)


def _look_up(image: Pixels, table: npt.NDArray[np.uint8]) -> Pixels:
    """`table`: (256,) for all channels, or (256, 3)."""
    return np.asarray(cv2.LUT(image, table.reshape(256, 1, -1)), dtype=np.uint8)


OPERATIONS: Mapping[str, Operation] = {
    "identity": Operation(identity),
    "shear_x": Operation(shear_x, 0.0, 0.3, 0.99, signed=True),
    "shear_y": Operation(shear_y, 0.0, 0.3, 0.99, signed=True),
    # 150 of 331 pixels; TrivialAugment's 32 pixels are a seventh of 224 and the whole of 32.
    "translate_x": Operation(translate_x, 0.0, 0.45, 0.45, signed=True),
    "translate_y": Operation(translate_y, 0.0, 0.45, 0.45, signed=True),
    "rotate": Operation(rotate, 0.0, 30.0, 135.0, signed=True),
    "autocontrast": Operation(autocontrast),
    "equalize": Operation(equalize),
    "invert": Operation(invert),
    "posterize": Operation(posterize, 8.0, 4.0, 2.0),
    "solarize": Operation(solarize, 256.0, 0.0, 0.0),
    "color": Operation(color, 1.0, 1.9, 1.99, signed=True),
    "contrast": Operation(contrast, 1.0, 1.9, 1.99, signed=True),
    "brightness": Operation(brightness, 1.0, 1.9, 1.99, signed=True),
    "sharpness": Operation(sharpness, 1.0, 1.9, 1.99, signed=True),
}
# What RandAugment and TrivialAugment choose from: all but the inversion.
FOURTEEN = tuple(name for name in OPERATIONS if name != "invert")
