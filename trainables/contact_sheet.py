"""A contact sheet: one picture that shows what a random policy does to a few images."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables.errors import DataError
from trainables.images import Pixels

INK, FAINT, GROUND = (24, 24, 28), (110, 110, 118), (255, 255, 255)
GAP, MARGIN = 4, 16
TITLE, HEADING, SMALL = 20, 15, 11
# Pixels from the top of one line of small text to the next, and how wide a letter of it is.
LINE, LETTER = 14, 5.9
# PNG by a palette of so many colours: a quarter of the bytes, and the eye sees no difference.
COLOURS = 256


@dataclass(frozen=True)
class Block:
    """What one policy does. `rows`: for each image the original and its draws, uint8 RGB squares
    of any size, the same number in every row. `captions`: one a column."""

    title: str
    note: str
    captions: tuple[str, ...]
    rows: tuple[tuple[Pixels, ...], ...]

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.rows}
        if widths != {len(self.captions)}:
            raise ValueError(
                f"{self.title}: {len(self.captions)} captions for rows of {sorted(widths)} images"
            )


def note_of(augment: AugmentConfig, preprocess: PreprocessConfig) -> str:
    """What a policy changes, in the words of the configuration: `rotate_degrees=10 zoom=0.1`."""
    values = augment.model_dump(exclude_defaults=True, exclude={"name"})
    if not (augment.rotate_degrees or augment.shear_degrees or augment.shift or augment.zoom):
        values.pop("affine", None)
    values |= {
        f"preprocess.{key}": value
        for key, value in preprocess.model_dump(exclude_defaults=True, exclude={"name"}).items()
    }
    return " ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )


def contact_sheet(title: str, blocks: Sequence[Block], tile: int = 112) -> Pixels:
    """uint8 RGB (H, W, 3): the blocks under `title`, side by side so that the whole is about as
    high as wide. `tile`: the side of each image in pixels. ValueError without a block."""
    if not blocks:
        raise ValueError("a contact sheet needs at least one block")
    drawn = [_draw_block(block, tile) for block in blocks]
    columns = _arranged(drawn)
    top = MARGIN + TITLE + MARGIN
    width = MARGIN + sum(_width(column) + MARGIN for column in columns)
    height = top + max(_height(column) for column in columns)
    sheet = np.full((height, width, 3), GROUND, np.uint8)
    across = MARGIN
    for column in columns:
        down = top
        for block in column:
            sheet[down : down + block.shape[0], across : across + block.shape[1]] = block
            down += block.shape[0] + MARGIN
        across += _width(column) + MARGIN
    return _written(sheet, [(title, (MARGIN, MARGIN - 2), TITLE, INK)])


def write_sheet(sheet: Pixels, path: Path) -> None:
    """As PNG with a palette, aside and then renamed. DataError where its folder is not there."""
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}; make it, or give another -o")
    content = io.BytesIO()
    image = Image.fromarray(sheet).quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(content, "PNG", optimize=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content.getvalue())
    temporary.replace(path)


def _arranged(blocks: list[Pixels]) -> list[list[Pixels]]:
    """In columns, read downwards; so many that the sheet comes nearest to a square."""

    def lopsided(columns: list[list[Pixels]]) -> float:
        height = max(_height(column) for column in columns)
        width = sum(_width(column) + MARGIN for column in columns)
        return max(height / width, width / height)

    return min((_columns(blocks, count) for count in range(1, len(blocks) + 1)), key=lopsided)


def _columns(blocks: list[Pixels], count: int) -> list[list[Pixels]]:
    each = -(-len(blocks) // count)
    return [blocks[start : start + each] for start in range(0, len(blocks), each)]


def _height(column: list[Pixels]) -> int:
    return sum(block.shape[0] + MARGIN for block in column)


def _width(column: list[Pixels]) -> int:
    return max(block.shape[1] for block in column)


def _draw_block(block: Block, tile: int) -> Pixels:
    """Title, note, captions, then the images."""
    step = tile + GAP
    width = max(len(block.captions) * step - GAP, 160)
    note = textwrap.wrap(block.note, int(width / LETTER))
    top = HEADING + 6 + LINE * len(note) + LINE + 4
    drawn = np.full((top + len(block.rows) * step - GAP, width, 3), GROUND, np.uint8)
    for number, row in enumerate(block.rows):
        for place, image in enumerate(row):
            down, across = top + number * step, place * step
            drawn[down : down + tile, across : across + tile] = _fitted(image, tile)
    texts = [(block.title, (0, 0), HEADING, INK)]
    texts += [(line, (0, HEADING + 6 + LINE * at), SMALL, FAINT) for at, line in enumerate(note)]
    captions = top - LINE - 2
    texts += [
        (text, (place * step, captions), SMALL, INK) for place, text in enumerate(block.captions)
    ]
    return _written(drawn, texts)


def _fitted(image: Pixels, tile: int) -> Pixels:
    """Small images enlarged as squares, so that their pixels are seen."""
    shrinks = image.shape[0] > tile
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image, (tile, tile), interpolation=how), dtype=np.uint8)


def _written(
    picture: Pixels, texts: Sequence[tuple[str, tuple[int, int], int, tuple[int, int, int]]]
) -> Pixels:
    """`picture` with each text at (across, down) of its top left corner."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for text, at, size, colour in texts:
        pen.text(at, text, fill=colour, font=ImageFont.load_default(size))
    return np.asarray(image)
