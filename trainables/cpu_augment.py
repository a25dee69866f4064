"""Draws to pixels on the CPU: one compiled pass from stored squares to the network's input.

The kernels hold no lock of the interpreter, and every image is written by itself: threads may run
parts of one job side by side, and its result does not depend on how it was split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.kernels import readable
from trainables import warp_kernels
from trainables.draws import Draws, Floats, grey_boxes
from trainables.images import Pixels
from trainables.mixing import Mix
from trainables.recipe import Channels

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """`run(start, stop)` does so much of `size` pieces of work; disjoint parts in any threads."""

    size: int
    run: Callable[[int, int], None]


def render(
    squares: Pixels,
    draws: Draws,
    size: int,
    mean: Channels,
    std: Channels,
    fill: int = 0,
    out: Floats | None = None,
    *,
    rows: Rows | None = None,
    mix: Mix | None = None,
) -> Floats:
    """Warped, coloured, normalised, erased and mixed images, (n, size, size, 3) float32.

    `squares`: (N, S, S, 3), read where they lie (a memory map is not copied); `rows`: (n,) which of
    them, None for all in order. `mean`, `std`: of channels in [0, 1]. `fill`: grey value outside.
    `out`: written and returned, C-contiguous; permuted to (n, 3, size, size) it is a channels-last
    tensor. Erased pixels become 0, the mean colour. Raises ValueError on a mismatch of shapes.
    """
    if out is None:
        out = np.empty((len(draws), size, size, 3), np.float32)
    job = render_job(squares, draws, mean, std, fill, out, rows=rows, mix=mix)
    job.run(0, job.size)
    return out


def render_job(
    squares: Pixels,
    draws: Draws,
    mean: Channels,
    std: Channels,
    fill: int,
    out: Floats,
    *,
    rows: Rows | None = None,
    mix: Mix | None = None,
) -> Job:
    """`render` in pieces: two partners of a mix, or one image, are a piece of work."""
    squares, rows = _checked(squares, draws, out, rows)
    if mix is None:
        pairs = np.repeat(np.arange(len(draws)), 2).reshape(-1, 2)
        lam, box = 1.0, (0, 0, 0, 0)
    else:
        if len(mix.partner) != len(draws):
            raise ValueError(f"a mix of {len(mix.partner)} images for {len(draws)} draws")
        pairs = mix.pairs
        whole = (0, 0, *out.shape[1:3])
        lam, box = (mix.lam, whole) if mix.kind == "mixup" else (0.0, mix.box)
    scale = (1.0 / (255.0 * np.asarray(std))).astype(np.float32)
    offset = (-np.asarray(mean) / np.asarray(std)).astype(np.float32)
    step, boxes = grey_boxes(draws.matrix, squares.shape[1])
    lines = out.reshape(*out.shape[:2], out.shape[2] * 3)

    def run(start: int, stop: int) -> None:
        warp_kernels.render_floats(
            squares, rows, draws.matrix, draws.colour, draws.erase, boxes, step, scale, offset,
            np.float32(fill), pairs, np.float32(lam), np.asarray(box, np.int64), lines, start, stop,
        )  # fmt: skip

    return Job(len(pairs), run)


def warp(
    squares: Pixels,
    draws: Draws,
    size: int,
    fill: int = 0,
    out: Pixels | None = None,
    *,
    rows: Rows | None = None,
) -> Pixels:
    """The geometry alone, (n, size, size, 3) uint8."""
    if out is None:
        out = np.empty((len(draws), size, size, 3), np.uint8)
    job = bytes_job(squares, draws.moved_only(), fill, out, rows=rows)
    job.run(0, job.size)
    return out


def finish(
    images: Pixels, draws: Draws, mean: Channels, std: Channels, out: Floats | None = None
) -> Floats:
    """Colour, erasing and normalising of images that are moved already: float32."""
    return render(images, draws.finish_only(), images.shape[1], mean, std, 0, out)


def finish_bytes(images: Pixels, draws: Draws, mean: Channels = (0.0, 0.0, 0.0)) -> Pixels:
    """Colour and erasing alone, uint8. What is erased becomes `mean`, in [0, 1]."""
    out = np.empty_like(images)
    job = bytes_job(images, draws.finish_only(), 0, out, mean)
    job.run(0, job.size)
    return out


def bytes_job(
    squares: Pixels,
    draws: Draws,
    fill: int,
    out: Pixels,
    mean: Channels = (0.0, 0.0, 0.0),
    *,
    rows: Rows | None = None,
) -> Job:
    """Geometry, colour and erasing (to `mean`, in [0, 1]) into bytes; an image is a piece."""
    squares, rows = _checked(squares, draws, out, rows)
    step, boxes = grey_boxes(draws.matrix, squares.shape[1])
    blank = np.asarray(mean, np.float32) * np.float32(255.0)
    lines = out.reshape(*out.shape[:2], out.shape[2] * 3)

    def run(start: int, stop: int) -> None:
        warp_kernels.render_bytes(
            squares, rows, draws.matrix, draws.colour, draws.erase, boxes, step, np.float32(fill),
            blank, lines, start, stop,
        )  # fmt: skip

    return Job(len(draws), run)


def _checked(
    squares: Pixels, draws: Draws, out: np.ndarray, rows: Rows | None
) -> tuple[Pixels, Rows]:
    """The kernels trust their arguments: a wrong row reads another process's memory."""
    if squares.ndim != 4 or squares.shape[1] != squares.shape[2] or squares.shape[3] != 3:
        raise ValueError(f"squares are {squares.shape}; expected (n, side, side, 3)")
    if squares.dtype != np.uint8 or squares.shape[1] < 2:
        raise ValueError(f"squares are {squares.dtype} of side {squares.shape[1]}; expected uint8")
    rows = np.arange(len(squares)) if rows is None else np.asarray(rows, np.int64)
    if len(rows) != len(draws) or (len(rows) and not 0 <= rows.min() <= rows.max() < len(squares)):
        raise ValueError(
            f"{len(draws)} draws for {len(rows)} rows of {len(squares)} squares; pass one draw a "
            "row, and rows that are there"
        )
    if out.shape != (len(draws), out.shape[1], out.shape[1], 3) or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.shape}; expected {len(draws)} C-contiguous square images")
    return readable(squares), rows
