from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.command import Command
from tests.conftest import MakeTinyImages
from tuner.preview_command import PreviewRequest, write_preview


@pytest.fixture
def foldblend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Command:
    return Command(monkeypatch, capsys)


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_without_data_the_built_in_images_are_shown(foldblend: Command, tmp_path: Path) -> None:
    path = tmp_path / "preview.png"
    answer = foldblend("preview", "augment=document", "train.image_size=64", "-o", path)
    assert answer.code == 0, answer
    assert answer.out.replace("\n", "") == f"augment document: 4 images -> {path}"
    height, width = read(path).shape[:2]
    assert height > 4 * 112
    assert width > 7 * 112


def test_the_users_own_images_are_shown(
    foldblend: Command, tmp_path: Path, tiny_images: MakeTinyImages
) -> None:
    images = tiny_images(classes=3, per_class=4)
    path = tmp_path / "mine.png"
    answer = foldblend(
        *("preview", "experiment=csv", f"data.path={images.csv}", f"data.images={images.images}"),
        *("backbone=test_resnet", "train.image_size=32", "augment=light"),
        *("--images", 3, "--draws", 2, "-o", path),
    )
    assert answer.code == 0, answer
    assert "augment light: 3 images" in answer.out
    assert 3 * 112 < read(path).shape[0] < 4 * 112 + 60


def test_members_that_are_searched_stand_in_one_picture(tmp_path: Path) -> None:
    def made(overrides: str) -> tuple[str, int]:
        path = tmp_path / "preview.png"
        request = PreviewRequest((overrides, "train.image_size=32"), path, images=1, draws=2)
        return write_preview(request), read(path).size

    said, size = made("augment=choice(light,document)")
    assert said == "augment light, document: 1 image"
    assert size > made("augment=light")[1]


def test_a_searched_value_is_drawn_from_its_range(tmp_path: Path) -> None:
    overrides = ("augment=light", "augment.rotate_degrees=interval(5,50)", "train.image_size=32")
    said = write_preview(PreviewRequest(overrides, tmp_path / "a.png", images=1, draws=1))
    assert said == "augment light: 1 image"


def test_all_members_can_be_shown(foldblend: Command, tmp_path: Path) -> None:
    from search_spaces.tree import members

    path = tmp_path / "all.png"
    answer = foldblend(
        *("preview", "--all", "train.image_size=32", "--images", 1, "--draws", 1, "-o", path)
    )
    assert answer.code == 0, answer
    for name in members("augment"):
        assert name in answer.out
    assert read(path).size > 0


def test_what_validation_sees_can_be_shown(foldblend: Command, tmp_path: Path) -> None:
    path = tmp_path / "replay.png"
    answer = foldblend(
        *("preview", "experiment=digits", "replay=document", "--replay", "--images", 3, "-o", path)
    )
    assert answer.code == 0, answer
    assert "replay document: 3 images" in answer.out
    assert 2 * 112 < read(path).shape[1] < 3 * 112 + 40


def test_the_same_seed_gives_the_same_picture(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        request = PreviewRequest(
            ("augment=geometric", f"seed={seed}", "train.image_size=32"),
            tmp_path / name,
            images=1,
            draws=2,
        )
        write_preview(request)
        return (tmp_path / name).read_bytes()

    assert made("a.png", 0) == made("b.png", 0) != made("c.png", 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["augment=documnet"], "did you mean document?"),
        (["augment=light", "-o", "sheet.jpg"], "give -o a name that ends in .png"),
        (["augment=light", "-o", "no/such/sheet.png"], "there is no folder no/such"),
        (["experiment=csv", "data.path=gone.csv", "augment=light"], "gone.csv"),
    ],
)
def test_a_mistake_is_one_line(
    foldblend: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = foldblend("preview", *arguments, "--images", 1, "--draws", 1).one_line_error()
    assert expected in error
    assert list(tmp_path.iterdir()) == []
