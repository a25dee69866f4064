"""Draws to pixels on the device: what `cpu_augment` computes, batched in torch.

Legend: n squares of S x S pixels, output of T x T. No loop over images, and nothing waits for the
device: images are sorted by how they are sampled on the host, where the draws are. Axis-aligned
images are two products with weights (T, S), others `grid_sample`; both as `warp_kernels` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.draws import Draws, grey_boxes
from trainables.mixing import Mix, mix_images
from trainables.on_device import constant, sent
from trainables.recipe import Channels
from trainables.warp_kernels import BLUE, EDGE, GREEN, RED, SHARP

GREY = (float(RED), float(GREEN), float(BLUE))


@dataclass(frozen=True)
class Group:
    """Images that are sampled alike. `rows`: (k,); `halvings`: None for axis-aligned ones."""

    rows: np.ndarray
    turned: bool
    halvings: int | None


def render(
    squares: Tensor,
    draws: Draws,
    size: int,
    mean: Channels,
    std: Channels,
    fill: int = 0,
    *,
    mix: Mix | None = None,
    dtype: torch.dtype = torch.float32,
    at_once: int | None = None,
) -> Tensor:
    """Warped, coloured, normalised, erased and mixed images, (n, 3, size, size), channels last.

    `squares`: (n, S, S, 3) uint8 on any device; `mean`, `std`: of channels in [0, 1]; `fill`: grey
    value outside; `dtype`: of the result, the arithmetic is float32 also under autocast. Where TF32
    is allowed, products are good to a quarter of a grey level. `at_once`: so many images are in the
    making at a time, for what that takes is several times what they take; None for all."""
    if len(squares) != len(draws):
        raise ValueError(f"{len(draws)} draws for {len(squares)} squares; pass one draw a square")
    with torch.no_grad(), torch.autocast(squares.device.type, enabled=False):
        count = len(squares)
        if at_once is None or count <= at_once:
            images = _rendered(squares, draws, size, mean, std, float(fill))
        else:
            images = squares.new_empty((count, 3, size, size), dtype=torch.float32)
            for start in range(0, count, at_once):
                part = slice(start, start + at_once)
                images[part] = _rendered(squares[part], draws[part], size, mean, std, float(fill))
        if mix is not None:
            images = mix_images(images, mix)
        return images.to(dtype=dtype, memory_format=torch.channels_last)


def _rendered(
    squares: Tensor, draws: Draws, size: int, mean: Channels, std: Channels, fill: float
) -> Tensor:
    images = _sample(squares, draws.matrix, size, fill)
    images = _colour(images, squares, draws)
    images = _normalise(images, mean, std)
    if draws.erase.any():
        images.masked_fill_(_inside(draws.erase, size, images.device)[:, None], 0.0)
    return images


# --- geometry ----------------------------------------------------------------------------------


def groups(matrix: np.ndarray, side: int, size: int) -> list[Group]:
    """The images of a batch, sorted by how they are sampled. `matrix`: (n, 2, 3), see Draws."""
    crossed = (matrix[:, 0, 1] != 0.0) | (matrix[:, 1, 0] != 0.0)
    straight = (matrix[:, 0, 0] != 0.0) | (matrix[:, 1, 1] != 0.0)
    kinds = np.where(crossed & straight, _halvings(matrix, side, size), np.where(crossed, -1, -2))
    return [
        Group(np.flatnonzero(kinds == kind), kind == -1, int(kind) if kind >= 0 else None)
        for kind in np.unique(kinds)
    ]


def _halvings(matrix: np.ndarray, side: int, size: int) -> np.ndarray:
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    shrink = np.sqrt(np.abs(a * d - b * c)) * side / size
    count = np.zeros(len(matrix), np.int64)
    now = side
    while now >= 4 and (shrink > SHARP).any():
        count += shrink > SHARP
        shrink, now = shrink / 2.0, now // 2
    return count


def _sample(squares: Tensor, matrix: np.ndarray, size: int, fill: float) -> Tensor:
    """(n, 3, T, T) float32 before colour."""
    parts = list(_sampled_groups(squares, matrix, size, fill))
    if len(parts) == 1:
        return parts[0][1]
    images = squares.new_empty((len(squares), 3, size, size), dtype=torch.float32)
    for rows, part in parts:
        images[sent(rows, squares.device)] = part
    return images


def _sampled_groups(
    squares: Tensor, matrix: np.ndarray, size: int, fill: float
) -> Iterator[tuple[np.ndarray, Tensor]]:
    side = squares.shape[1]
    for group in groups(matrix, side, size):
        alone = len(group.rows) == len(squares)
        chosen = squares if alone else squares[sent(group.rows, squares.device)]
        m = matrix[group.rows]
        if group.halvings is not None:
            planes = _floats(chosen.permute(0, 3, 1, 2))
            yield group.rows, _warp(planes, m, size, fill, group.halvings)
        elif group.turned:
            yield group.rows, _resize(_floats(chosen.permute(0, 2, 3, 1)), m[:, ::-1], size, fill)
        else:
            yield group.rows, _resize(_floats(chosen.permute(0, 1, 3, 2)), m, size, fill)


def _floats(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32, memory_format=torch.contiguous_format)


def _resize(lines: Tensor, m: np.ndarray, size: int, fill: float) -> Tensor:
    """Axis-aligned: weights (k, T, S) along y and along x. `lines`: (k, S, 3, S), the channels
    between y and x, so that neither product needs a copy of its weights for each of them. Row 0 of
    `m` is x, with its gain in column 0; transposed images come with the rows changed over, and
    columns 0 and 1 stay."""
    count, side = lines.shape[:2]
    x_gain, y_gain = m[:, 0, 0], m[:, 1, 1]
    down, in_y = _weights(y_gain, m[:, 1, 2], side, size, lines.device)
    across, in_x = _weights(x_gain, m[:, 0, 2], side, size, lines.device)
    rows = (down @ lines.view(count, side, -1)).view(count, size * 3, side)
    images = (rows @ across.transpose(1, 2)).view(count, size, 3, size).transpose(1, 2)
    inside = (in_y[:, :, None] & in_x[:, None, :])[:, None]
    return torch.where(inside, images, fill)


def _weights(
    gain: np.ndarray, offset: np.ndarray, side: int, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(k, T, S) triangles about the centres, each summing to 1, and (k, T) whether inside."""
    slope, start = sent(gain, device)[:, None], sent(offset, device)[:, None]
    outputs = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    centre = (slope * outputs + start) * side
    shrink = slope.abs() * side / size
    support = torch.where(shrink > SHARP, shrink, 1.0)[:, :, None]
    pixels = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    weight = pixels - centre[:, :, None]
    weight.abs_().div_(support).neg_().add_(1.0).clamp_(min=0.0)
    weight /= weight.sum(2, keepdim=True).clamp_(min=1e-12)
    return weight, (centre >= -EDGE) & (centre <= side + EDGE)


def _warp(planes: Tensor, m: np.ndarray, size: int, fill: float, halvings: int) -> Tensor:
    side = planes.shape[2]
    for _ in range(halvings):
        planes = torch.floor(F.avg_pool2d(planes, 2) + 0.5)
    outputs = (torch.arange(size, device=planes.device, dtype=torch.float32) + 0.5) / size
    v, u = torch.meshgrid(outputs, outputs, indexing="ij")
    # No product of matrices: TF32 would move positions by a tenth of a pixel.
    a = sent(m, planes.device)[:, None, None]  # (k, 1, 1, 2, 3)
    source = a[..., 0] * u[:, :, None] + a[..., 1] * v[:, :, None] + a[..., 2]  # (k, T, T, 2)
    # An odd side loses its last pixel when halved: fractions of what is left are larger.
    grid = source * (2.0 * side / 2**halvings / planes.shape[2]) - 1.0
    images = F.grid_sample(planes, grid, "bilinear", "border", align_corners=False)
    edge = EDGE * 2**halvings / side
    inside = ((source >= -edge) & (source <= 1.0 + edge)).all(-1)
    return torch.where(inside[:, None], images, fill)


# --- colour ------------------------------------------------------------------------------------


def _colour(images: Tensor, squares: Tensor, draws: Draws) -> Tensor:
    if (draws.colour == 1.0).all():
        return images
    factors = sent(draws.colour, images.device)[:, :, None, None, None]
    bright, contrast, colourful = factors[:, 0], factors[:, 1], factors[:, 2]
    changed = images * (colourful * contrast * bright)
    if (draws.colour[:, 2] != 1.0).any():
        weights = constant(GREY, images.device)[None, :, None, None]
        grey = (images * weights).sum(1, keepdim=True)
        changed = changed + (1.0 - colourful) * contrast * bright * grey
    if (draws.colour[:, 1] != 1.0).any():
        middle = _mean_greys(squares, draws.matrix)[:, None, None, None]
        changed = changed + (1.0 - contrast) * bright * middle
    return changed.clamp_(0.0, 255.0)


def _mean_greys(squares: Tensor, matrix: np.ndarray) -> Tensor:
    """(n,): see `grey_boxes`."""
    step, boxes = grey_boxes(matrix, squares.shape[1])
    samples = squares[:, ::step, ::step].to(torch.float32)
    grey = samples @ constant(GREY, squares.device)
    inside = _inside(boxes, grey.shape[1], squares.device).to(torch.float32)
    return (grey * inside).sum((1, 2)) / inside.sum((1, 2))


def _normalise(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    shape = (1, 3, 1, 1)
    scale = 1.0 / (255.0 * constant(std, images.device).view(shape))
    offset = -constant(mean, images.device).view(shape) * 255.0 * scale
    return torch.addcmul(offset, images, scale)


def _inside(boxes: np.ndarray, size: int, device: torch.device) -> Tensor:
    """(n, size, size): whether a pixel is within (n, 4) y0, x0, y1, x1."""
    y0, x0, y1, x1 = sent(boxes, device)[:, :, None].unbind(1)
    places = torch.arange(size, device=device)
    rows, columns = (places >= y0) & (places < y1), (places >= x0) & (places < x1)
    return rows[:, :, None] & columns[:, None, :]
