from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables.contact_sheet import Block, contact_sheet, note_of, write_sheet
from trainables.errors import DataError
from trainables.images import Pixels

RED, BLUE = (220, 20, 30), (20, 40, 220)


def square(colour: tuple[int, int, int], side: int = 20) -> Pixels:
    return np.full((side, side, 3), colour, np.uint8)


def block(name: str = "light", rows: int = 1, draws: int = 2, side: int = 20) -> Block:
    captions = ("original", *(str(draw + 1) for draw in range(draws)))
    row = (square(RED, side), *(square(BLUE, side) for _ in range(draws)))
    return Block(name, "rotate_degrees=10", captions, (row,) * rows)


def share(sheet: Pixels, colour: tuple[int, int, int]) -> int:
    return int((sheet == np.array(colour, np.uint8)).all(axis=2).sum())


def test_every_image_is_there_at_the_size_of_a_tile() -> None:
    sheet = contact_sheet("A title", [block(rows=3), block("strong")], tile=40)
    assert share(sheet, RED) == 4 * 40 * 40
    assert share(sheet, BLUE) == 8 * 40 * 40


def test_the_original_comes_first() -> None:
    sheet = contact_sheet("A title", [block()], tile=40)
    columns = (sheet == np.array(RED, np.uint8)).all(axis=2).any(axis=0).nonzero()[0]
    others = (sheet == np.array(BLUE, np.uint8)).all(axis=2).any(axis=0).nonzero()[0]
    assert columns.max() < others.min()


@pytest.mark.parametrize("side", [8, 40, 300])
def test_small_and_large_images_fill_their_tile(side: int) -> None:
    assert share(contact_sheet("t", [block(side=side)], tile=40), RED) == 40 * 40


def test_title_note_and_captions_are_written() -> None:
    def dark(of: Block, title: str) -> int:
        return int((contact_sheet(title, [of]).max(axis=2) < 140).sum())

    bare = Block("", "", ("", ""), ((square(RED), square(RED)),))
    blank = dark(bare, "")
    assert blank == 0
    assert dark(bare, "A title") > 100
    assert dark(Block("light", "", ("", ""), bare.rows), "") > 50
    assert dark(Block("", "zoom=0.1", ("", ""), bare.rows), "") > 20
    assert dark(Block("", "", ("original", "1"), bare.rows), "") > 20


def test_many_blocks_stand_side_by_side_in_about_a_square() -> None:
    sheet = contact_sheet("t", [block(f"member {n}") for n in range(20)], tile=40)
    height, width = sheet.shape[:2]
    assert 0.6 < height / width < 1.6
    assert share(sheet, RED) == 20 * 40 * 40


def test_a_long_note_is_wrapped_not_cut() -> None:
    long = Block("t", " ".join(["rotate_degrees=10"] * 20), ("a", "b"), block(draws=1).rows)
    short = Block("t", "rotate_degrees=10", ("a", "b"), block(draws=1).rows)
    one, other = contact_sheet("t", [long], tile=100), contact_sheet("t", [short], tile=100)
    assert one.shape[0] > other.shape[0] + 50
    assert one.shape[1] == other.shape[1]


def test_rows_of_another_length_than_the_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="light: 2 captions for rows of \\[1\\] images"):
        Block("light", "", ("original", "1"), ((square(RED),),))
    with pytest.raises(ValueError, match="at least one block"):
        contact_sheet("t", [])


def test_the_note_says_what_is_not_the_default() -> None:
    plain = PreprocessConfig()
    light = AugmentConfig(name="light", horizontal_flip=0.5, zoom=0.1, policy="document")
    assert note_of(light, plain) == "horizontal_flip=0.5 zoom=0.1 policy=document"
    assert note_of(AugmentConfig(name="none", affine=0.0), plain) == ""
    half = AugmentConfig(name="half", affine=0.5, rotate_degrees=90.0)
    assert note_of(half, plain) == "affine=0.5 rotate_degrees=90"
    letterbox = PreprocessConfig(name="mine", resize="letterbox", fill=255)
    assert note_of(AugmentConfig(name="none"), letterbox) == (
        "preprocess.resize=letterbox preprocess.fill=255"
    )


def test_the_picture_is_a_png_that_others_can_read(tmp_path: Path) -> None:
    sheet = contact_sheet("A title", [block()])
    write_sheet(sheet, tmp_path / "sheet.png")
    again = cv2.cvtColor(cv2.imread(str(tmp_path / "sheet.png")), cv2.COLOR_BGR2RGB)
    assert again.shape == sheet.shape
    assert np.abs(again.astype(int) - sheet).mean() < 2
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        write_sheet(contact_sheet("t", [block()]), tmp_path / "gone" / "sheet.png")
