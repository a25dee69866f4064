"""What is random about a batch, as values. The CPU's kernels (`cpu_augment.py`) and the device's
(`device_augment.py`) turn the same draws into the same pixels.

Positions are fractions of a side: (0, 0) is the upper left corner of an image, (1, 1) the lower
right one, and the centre of pixel x of `size` is at (x + 0.5) / size. A stored square is the whole
upright original, squashed: fractions of its sides are fractions of the original's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables.crops import draw_crops, draw_rectangles

Floats = npt.NDArray[np.float32]
Change = np.ndarray | None
# Ratio of the sides of an erased rectangle, as in Zhong et al. 2020, torchvision and timm.
ERASE_RATIO = 1 / 0.3


@dataclass(frozen=True)
class Draws:
    """The random numbers of n images, applied.

    matrix   (n, 2, 3) float32: output position (u, v, 1) to source position (x, y). An output
             pixel whose centre lies outside of the source is fill
    colour   (n, 3) float32: factors of brightness, contrast and saturation
    erase    (n, 4) int32: y0, x0, y1, x1 in output pixels, zeros for nothing
    """

    matrix: Floats
    colour: Floats
    erase: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, chosen: slice | npt.NDArray[np.intp]) -> Draws:
        """The draws of some of the images."""
        return Draws(self.matrix[chosen], self.colour[chosen], self.erase[chosen])

    @property
    def axis_aligned(self) -> bool:
        """Whether no image is rotated, sheared or turned by 90 or 270 degrees."""
        return not (self.matrix[:, 0, 1].any() or self.matrix[:, 1, 0].any())

    @property
    def is_identity(self) -> bool:
        """Whether every pixel stays what and where it is (at the source's own size)."""
        return bool(
            np.array_equal(self.matrix, _identity(len(self)))
            and (self.colour == 1.0).all()
            and not self.erase.any()
        )

    def moved_only(self) -> Draws:
        """The geometry without colour and erasing."""
        return Draws(self.matrix, np.ones_like(self.colour), np.zeros_like(self.erase))

    def finish_only(self) -> Draws:
        """Colour and erasing without the geometry."""
        return Draws(_identity(len(self)), self.colour, self.erase)


@dataclass(frozen=True)
class View:
    """A fixed look at an image, for test-time augmentation: the middle at `scale` times its size,
    then flipped, then turned by `quarter_turns` times 90 degrees counter-clockwise."""

    horizontal_flip: bool = False
    vertical_flip: bool = False
    quarter_turns: int = 0
    scale: float = 1.0


AS_IT_IS = View()


def draw_batch(
    augment: AugmentConfig,
    preprocess: PreprocessConfig,
    aspects: npt.NDArray[np.float32],
    image_size: int,
    generator: np.random.Generator,
) -> Draws:
    """The draws of a training batch. `aspects`: (n,) width / height of the originals;
    `image_size`: side of the output in pixels. Nothing is drawn for what is switched off, so the
    stream of `generator` depends on the configuration."""
    n = len(aspects)
    matrix = _draw_frames(augment, preprocess, aspects, generator)
    for turn in (_draw_flips, _draw_turns, _draw_affine):
        change = turn(augment, n, generator)
        matrix = matrix if change is None else _after(matrix, change)
    colour = _draw_colour(augment, n, generator)
    erase = _draw_erasing(augment, n, image_size, generator)
    return Draws(matrix.astype(np.float32), colour, erase)


def draw_each(
    augment: AugmentConfig,
    preprocess: PreprocessConfig,
    aspects: npt.NDArray[np.float32],
    image_size: int,
    seeds: Sequence[int],
) -> Draws:
    """As `draw_batch`, but image i depends on `seeds[i]` alone, whatever is beside it."""
    if len(seeds) != len(aspects):
        raise ValueError(f"{len(seeds)} seeds for {len(aspects)} aspects; pass one a image")
    each = [
        draw_batch(
            augment, preprocess, aspects[i : i + 1], image_size, np.random.default_rng(seeds[i])
        )
        for i in range(len(seeds))
    ]
    return Draws(
        np.concatenate([_identity(0), *(one.matrix for one in each)]),
        np.concatenate([_neutral(0), *(one.colour for one in each)]),
        np.concatenate([_nothing(0), *(one.erase for one in each)]),
    )


def plain_draws(
    preprocess: PreprocessConfig, aspects: npt.NDArray[np.float32], view: View = AS_IT_IS
) -> Draws:
    """Nothing random: what validation, test and prediction see. `aspects`: (n,) width / height."""
    n = len(aspects)
    matrix = _frames(preprocess, aspects)
    if view != AS_IT_IS:
        matrix = _after(matrix, _view_matrix(view)[None])
    return Draws(matrix.astype(np.float32), _neutral(n), _nothing(n))


def grey_boxes(matrix: Floats, side: int) -> tuple[int, npt.NDArray[np.int32]]:
    """Where the mean grey for contrast is taken: `step`, and (n, 4) int32 y0, x0, y1, x1.

    The mean is over every `step`-th pixel each way of the part of the source that the output's
    frame covers: samples k of y0 <= k < y1 are rows k * step of the square of `side` pixels."""
    step = max(1, side // 32)
    samples = -(-side // step)
    linear = matrix[:, ::-1, :2]  # y before x, as in the box
    start = matrix[:, ::-1, 2]
    # Of a few pixels, in sums of two: `sum` and `clip` take several times as long.
    low, high = np.minimum(linear, 0.0), np.maximum(linear, 0.0)
    box = np.empty((len(matrix), 4))
    box[:, :2] = start + low[:, :, 0] + low[:, :, 1]
    box[:, 2:] = start + high[:, :, 0] + high[:, :, 1]
    box = np.ceil(box * (side / step) - 1e-3)
    box[:, :2] = np.minimum(np.maximum(box[:, :2], 0), samples - 1)
    box[:, 2:] = np.minimum(np.maximum(box[:, 2:], box[:, :2] + 1), samples)
    return step, box.astype(np.int32)


# --- matrices: (n or 1, 2, 3), positions to positions ------------------------------------------


def _identity(n: int) -> Floats:
    return np.tile(np.eye(2, 3, dtype=np.float32), (n, 1, 1))


def _neutral(n: int) -> Floats:
    return np.ones((n, 3), np.float32)


def _nothing(n: int) -> npt.NDArray[np.int32]:
    return np.zeros((n, 4), np.int32)


def _after(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """outer(inner(position)): the step nearer to the output is `inner`."""
    product = outer[:, :, :2] @ inner
    product[:, :, 2] += outer[:, :, 2]
    return product


def _scalings(boxes: np.ndarray) -> np.ndarray:
    """The frame to boxes (n, 4) of x0, y0, width, height within the source."""
    matrix = np.zeros((len(boxes), 2, 3))
    matrix[:, 0, 0], matrix[:, 1, 1] = boxes[:, 2], boxes[:, 3]
    matrix[:, :, 2] = boxes[:, :2]
    return matrix


def _frames(preprocess: PreprocessConfig, aspects: np.ndarray) -> np.ndarray:
    """What the output shows of the stored squares before anything random."""
    boxes = np.zeros((len(aspects), 4))
    boxes[:, 2:] = 1.0
    if preprocess.resize != "squash":
        wide = aspects.astype(np.float64)
        # letterbox: the frame is a square over the longer side; crop: over the shorter one.
        choose = np.maximum if preprocess.resize == "letterbox" else np.minimum
        boxes[:, 2] = choose(1.0, 1.0 / wide)
        boxes[:, 3] = choose(1.0, wide)
        boxes[:, :2] = (1.0 - boxes[:, 2:]) / 2.0
    return _scalings(boxes)


def _about_the_middle(linear: np.ndarray) -> np.ndarray:
    """(n, 2, 2) applied to positions as seen from the middle, (0.5, 0.5)."""
    matrix = np.empty((len(linear), 2, 3))
    matrix[:, :, :2] = linear
    matrix[:, :, 2] = 0.5 - (linear[:, :, 0] + linear[:, :, 1]) * 0.5
    return matrix


def _flip_matrix(horizontal: np.ndarray, vertical: np.ndarray) -> np.ndarray:
    boxes = np.empty((len(horizontal), 4))
    boxes[:, 0], boxes[:, 1] = horizontal, vertical
    boxes[:, 2:] = 1.0 - 2.0 * boxes[:, :2]  # from the right end, of width -1
    return _scalings(boxes)


def _turn_matrix(quarters: np.ndarray) -> np.ndarray:
    """Counter-clockwise, exact: no cosine of 90 degrees that is nearly zero."""
    cosine = np.array([1.0, 0.0, -1.0, 0.0])[quarters % 4]
    sine = np.array([0.0, 1.0, 0.0, -1.0])[quarters % 4]
    linear = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)
    return _about_the_middle(linear)


def _view_matrix(view: View) -> np.ndarray:
    if view.scale <= 0.0:
        raise ValueError(f"View.scale is {view.scale:g}; it must be above 0, 1 for the whole image")
    middle = _about_the_middle(np.eye(2)[None] / view.scale)
    flips = _flip_matrix(np.array([view.horizontal_flip]), np.array([view.vertical_flip]))
    turns = _turn_matrix(np.array([view.quarter_turns]))
    return np.asarray(_after(_after(middle, flips), turns)[0])


# --- what is drawn; None for what is switched off ----------------------------------------------


def _draw_frames(
    augment: AugmentConfig,
    preprocess: PreprocessConfig,
    aspects: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Random crops of the original where that is what gets cropped, else of the squashed or padded
    square."""
    if augment.crop_min == 1.0:
        return _frames(preprocess, aspects)
    cropped = preprocess.resize == "crop"
    seen = aspects if cropped else np.ones_like(aspects)
    crops = _scalings(draw_crops(seen, augment.crop_min, augment.crop_ratio, generator))
    if cropped or preprocess.resize == "squash":
        return crops
    return _after(_frames(preprocess, aspects), crops)


def _draw_flips(augment: AugmentConfig, n: int, generator: np.random.Generator) -> Change:
    if not (augment.horizontal_flip or augment.vertical_flip):
        return None
    chances = np.array([augment.horizontal_flip, augment.vertical_flip])
    flips = generator.random((n, 2)) < chances
    return _flip_matrix(flips[:, 0], flips[:, 1])


def _draw_turns(augment: AugmentConfig, n: int, generator: np.random.Generator) -> Change:
    if not augment.quarter_turns:
        return None
    turned = generator.random(n) < augment.quarter_turns
    return _turn_matrix(generator.integers(1, 4, n) * turned)


def _draw_affine(augment: AugmentConfig, n: int, generator: np.random.Generator) -> Change:
    """The image is zoomed, rotated counter-clockwise, sheared along x and shifted, in this order
    and about its middle; the matrix undoes that. (Shear along both axes could fold it flat.)"""
    ranges = (augment.zoom, augment.rotate_degrees, augment.shear_degrees, augment.shift)
    if not (augment.affine and any(ranges)):
        return None
    happens = generator.random(n) < augment.affine
    unit = generator.uniform(-1.0, 1.0, (5, n)) * happens
    zoom = 1.0 + unit[0] * augment.zoom
    angle = np.deg2rad(unit[1] * augment.rotate_degrees)
    shear = np.tan(np.deg2rad(unit[2] * augment.shear_degrees))
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    first = np.stack([cosine, -sine - cosine * shear], 1)
    second = np.stack([sine, cosine - sine * shear], 1)
    matrix = _about_the_middle(np.stack([first, second], 1))
    matrix[:, :, 2:] -= matrix[:, :, :2] @ (unit[3:].T * augment.shift)[:, :, None]
    return matrix


def _draw_colour(augment: AugmentConfig, n: int, generator: np.random.Generator) -> Floats:
    reach = np.array([augment.brightness, augment.contrast, augment.saturation], np.float32)
    if not reach.any():
        return _neutral(n)
    return 1.0 + reach * generator.uniform(-1.0, 1.0, (n, 3)).astype(np.float32)


def _draw_erasing(
    augment: AugmentConfig, n: int, image_size: int, generator: np.random.Generator
) -> npt.NDArray[np.int32]:
    if not augment.erase:
        return _nothing(n)
    boxes = _nothing(n)
    happens = np.flatnonzero(generator.random(n) < augment.erase)
    areas = (augment.erase_min, augment.erase_max)
    boxes[happens] = draw_rectangles(len(happens), image_size, areas, ERASE_RATIO, generator)
    return boxes
