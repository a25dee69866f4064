from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from ensemble.files import Location
from trainables.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, unreported
from trainables.errors import DataError
from trainables.task import EpochResult

HISTORY = (
    EpochResult(1, {"log_loss": 0.9, "seconds": 1.25}),
    EpochResult(2, {"log_loss": 0.5, "seconds": 1.5}),
)


def a_checkpoint() -> Checkpoint:
    return Checkpoint(
        epoch=2,
        model={"head.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)},
        optimizer={"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 0.1}]},
        schedule={"base": 0.5, "steps": 3, "rates": [0.1, 0.2]},
        scaler={},
        history=HISTORY,
        best_epoch=1,
        best_model={"head.weight": torch.ones(2, 3)},
        averager={"steps": 4, "state": {"head.weight": torch.zeros(2, 3)}},
        micro_batch=16,
    )


@pytest.fixture
def location(tmp_path: Path) -> Location:
    return Location.of(tmp_path / "checkpoints" / "last.pt")


def test_a_checkpoint_comes_back_as_it_was(location: Location) -> None:
    stored = a_checkpoint()
    save_checkpoint(location, stored)
    found = load_checkpoint(location)
    assert found is not None
    assert found.epoch == 2
    assert found.history == HISTORY
    assert found.schedule == {"base": 0.5, "steps": 3, "rates": [0.1, 0.2]}
    assert found.optimizer == stored.optimizer
    assert found.best_epoch == 1
    assert found.micro_batch == 16
    assert found.averager is not None
    assert torch.equal(found.averager["state"]["head.weight"], torch.zeros(2, 3))
    assert stored.best_model is not None
    assert found.best_model is not None
    assert torch.equal(found.best_model["head.weight"], stored.best_model["head.weight"])
    assert torch.equal(found.model["head.weight"], stored.model["head.weight"])


def test_where_there_is_none_there_is_none(location: Location) -> None:
    assert load_checkpoint(location) is None


def test_a_later_one_replaces_it_and_leaves_nothing_beside(location: Location) -> None:
    save_checkpoint(location, a_checkpoint())
    save_checkpoint(location, a_checkpoint())
    assert [path.name for path in location.local_path.parent.iterdir()] == ["last.pt"]


def test_nothing_is_executed_when_it_is_read(location: Location, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'exploded')!r}, 'w')",))

    torch.save({"version": 2, "epoch": Bomb()}, location_file(location))
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        load_checkpoint(location)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", pickle.dumps({"version": 2}, protocol=2)],
    ids=["empty", "words", "a pickle of something else"],
)
def test_what_is_no_checkpoint_is_one_line(location: Location, content: bytes) -> None:
    location.write_bytes(content)
    with pytest.raises(DataError, match=r"last\.pt: cannot be read as a checkpoint") as caught:
        load_checkpoint(location)
    assert "\n" not in str(caught.value)
    assert "delete it, and the fold run starts over" in str(caught.value)


def test_one_of_another_version_is_refused(location: Location) -> None:
    torch.save({"version": 9}, location_file(location))
    with pytest.raises(DataError, match="version 9, this foldblend reads 2"):
        load_checkpoint(location)


def test_only_what_the_search_has_not_heard_of_is_unreported() -> None:
    assert unreported(HISTORY, 0) == list(HISTORY)
    assert unreported(HISTORY, 1) == [HISTORY[1]]
    assert unreported(HISTORY, 2) == []
    assert unreported((), 5) == []


def location_file(location: Location) -> Path:
    location.local_path.parent.mkdir(parents=True)
    return location.local_path
