"""Twelve mistakes that people make: each is one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.command import Command
from tests.conftest import MakeTinyImages, TinyImages


@pytest.fixture
def foldblend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def images(tiny_images: MakeTinyImages) -> TinyImages:
    return tiny_images(classes=2, per_class=4, size=24)


def search(images: TinyImages, tmp_path: Path, *more: str) -> list[str]:
    """A search so small that it ends in seconds, without Ray."""
    return [
        *("search", "--in-process", "experiment=scratch", f"storage={tmp_path}", "name=run"),
        *("data=csv", f"data.path={images.csv}", f"data.images={images.images}"),
        *("backbone=test_resnet", "augment=none", "train.epochs=1", "train.image_size=32"),
        *("folds.k=2", "search.budget.configurations=1", "search.promotion.members=1"),
        *more,
    ]


def test_a_missing_file(foldblend: Command, images: TinyImages, tmp_path: Path) -> None:
    answer = foldblend(*search(images, tmp_path, f"data.path={tmp_path}/trian.csv"))
    assert "trian.csv: no such file or folder" in answer.one_line_error()


def test_an_unreadable_image(foldblend: Command, images: TinyImages, tmp_path: Path) -> None:
    name = images.ids[0]
    (images.images / name).write_bytes(b"no image at all")
    answer = foldblend(*search(images, tmp_path))
    message = answer.one_line_error()
    assert "1 unreadable image" in message
    assert "data.on_bad_image=drop" in message
    assert name in answer.err.replace("\n", "")
    assert not (tmp_path / "run" / "run.yaml").exists()


def test_an_unknown_key(foldblend: Command, images: TinyImages, tmp_path: Path) -> None:
    answer = foldblend(*search(images, tmp_path, "train.epoch=3"))
    assert "did you mean epochs?" in answer.one_line_error()


def test_an_unknown_backbone(foldblend: Command, images: TinyImages, tmp_path: Path) -> None:
    member = foldblend(*search(images, tmp_path, "backbone=test_resnt")).one_line_error()
    assert "did you mean test_resnet?" in member
    model = foldblend(*search(images, tmp_path, "backbone.name=test_resnt")).one_line_error()
    assert "did you mean test_resnet" in model


def test_a_range_upside_down(foldblend: Command, images: TinyImages, tmp_path: Path) -> None:
    answer = foldblend(*search(images, tmp_path, "optimizer.lr=interval(1e-2, 1e-4)"))
    message = answer.one_line_error()
    assert "optimizer.lr" in message
    assert "upside down" in message


def test_more_folds_than_rows_of_the_smallest_class(
    foldblend: Command, images: TinyImages, tmp_path: Path
) -> None:
    answer = foldblend(*search(images, tmp_path, "folds.k=5"))
    assert "2 small classes" in answer.one_line_error()
    assert "set folds.k=4" in answer.err


def test_a_label_that_is_not_a_class(
    foldblend: Command, images: TinyImages, tmp_path: Path
) -> None:
    meta = tmp_path / "meta.csv"
    known = [f"{label},name of {label}\n" for label in images.classes[1:]]
    meta.write_text("label,class_name\n" + "".join(known) + "other,name of other\n")
    answer = foldblend(*search(images, tmp_path, f"data.classes={meta}"))
    assert "unknown label" in answer.one_line_error()
    assert f"label {images.classes[0]} is not one of the 2 classes" in " ".join(answer.err.split())


def test_an_empty_folder(foldblend: Command, images: TinyImages, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    answer = foldblend(*search(images, tmp_path, f"data.images={empty}"))
    assert str(empty) in answer.one_line_error()


@pytest.mark.parametrize("verb", ["status", "blend", "export", "search"])
def test_a_run_directory_that_is_none(foldblend: Command, tmp_path: Path, verb: str) -> None:
    arguments = {
        "status": ["status", tmp_path],
        "blend": ["blend", tmp_path],
        "export": ["export", tmp_path, "-o", tmp_path / "bundle"],
        "search": ["search", "--resume", tmp_path],
    }[verb]
    message = foldblend(*arguments).one_line_error()
    if verb == "blend":  # which takes files of other programs as well
        assert message.startswith(f"{tmp_path}: no OOF predictions: expected a run directory")
    else:
        assert message.startswith(f"{tmp_path}: not a run directory (it has no run.yaml)")


def test_an_out_of_fold_file_with_a_duplicate_id(
    foldblend: Command, images: TinyImages, tmp_path: Path
) -> None:
    assert foldblend(*search(images, tmp_path)).code == 0
    file = next((tmp_path / "run" / "oof").glob("*/fold=0.parquet"))
    table = pq.ParquetFile(file).read()
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), file)
    message = foldblend("blend", tmp_path / "run").one_line_error()
    assert str(file) in message
    assert table["id"][0].as_py() in message


def test_pretrained_weights_without_a_network(
    foldblend: Command, images: TinyImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    answer = foldblend(*search(images, tmp_path, "backbone.pretrained=true"))
    message = answer.one_line_error()
    assert "pretrained weights cannot be loaded" in message
    assert "backbone.pretrained=false" in message


def _may_mount() -> bool:
    """Whether a small file system of our own can be had: a name space is enough, not root."""
    if not shutil.which("unshare"):
        return False
    probe = 'd=$(mktemp -d) && mount -t tmpfs -o size=64k none "$d" && umount "$d"; rmdir "$d"'
    return (
        subprocess.run(["unshare", "-rm", "sh", "-c", probe], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not _may_mount(), reason="no name space with a mount of its own to be had here")
def test_no_space_left_on_the_device(images: TinyImages, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "tuner.cli", *search(images, disk, "train.epochs=2")]
    script = f'mount -t tmpfs -o size=200k none "{disk}" && exec "$@"'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line
    assert "--resume" in line
