from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trainables.errors import DataError, OtherImagesError, UnreachableError, UnreadableImageError
from trainables.failure import describe
from trainables.machine_fault import can_read, machine_failure


@pytest.fixture(autouse=True)
def name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-3")


def test_a_missing_file_names_machine_path_and_remedy() -> None:
    error = UnreadableImageError("/data/a.jpg", "No such file or directory")
    failure = machine_failure(error)
    assert failure.kind == "lost"
    assert failure.message.startswith(
        "machine gpu-3 cannot read the images: /data/a.jpg: No such file or directory; "
    )
    assert "file_mounts" in failure.message
    assert "\n" not in failure.message


@pytest.mark.parametrize(
    "error", [UnreachableError("s3://b/a.jpg: access denied"), OtherImagesError("other images")]
)
def test_a_store_or_another_copy_is_told_as_it_is(error: DataError) -> None:
    failure = machine_failure(error)
    assert failure.kind == "lost"
    assert failure.message == f"machine gpu-3 cannot read the images: {error}"


def test_where_there_is_no_other_machine_it_ends_the_search() -> None:
    assert describe(UnreadableImageError("/data/a.jpg", "gone")).kind == "fatal"
    assert describe(UnreachableError("s3://b/a.jpg: access denied")).kind == "fatal"


def test_a_machine_can_read_again_when_the_file_is_there_and_the_run_loads(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    error = UnreadableImageError(str(path), "No such file or directory")
    loads: list[str] = []
    assert not can_read(error, lambda: loads.append("run"))
    assert not loads
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    assert can_read(error, lambda: loads.append("run"))
    assert loads == ["run"]


def test_a_run_that_still_cannot_be_loaded_is_not_readable() -> None:
    def load() -> None:
        raise UnreachableError("s3://b/a.jpg: access denied")

    assert not can_read(UnreachableError("s3://b/b.jpg: access denied"), load)
