"""The same task gives the same files, whatever ran before and wherever its batches are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.tiny_run import TinyRun, changed
from trainables.loop import FoldRun
from trainables.weights import copy_of


def test_the_same_task_gives_the_same_files(
    tiny_run: TinyRun, prepared_run: TinyRun, tmp_path: Path
) -> None:
    tiny_run.finish()
    again = prepared_run.copy(tmp_path / "again")
    torch.manual_seed(1234)
    np.random.seed(1234)
    again.finish(again.task(1))  # a warm worker has done other things before
    again.finish()
    assert again.files() == tiny_run.files()


def test_another_seed_gives_other_weights(
    tiny_run: TinyRun, prepared_run: TinyRun, tmp_path: Path
) -> None:
    tiny_run.finish()
    again = prepared_run.copy(tmp_path / "again")
    record = again.data.record
    config = record.config.model_copy(update={"seed": 1})
    again.finish(data=replace(again.data, record=replace(record, config=config)))
    assert again.files()["weights"] != tiny_run.files()["weights"]


def test_folds_and_configurations_do_not_share_their_random_numbers(tiny_run: TinyRun) -> None:
    """Each begins with weights of its own."""
    device = torch.device("cpu")
    other = changed(tiny_run.configuration, optimizer={"lr": 0.02})
    tasks = [tiny_run.task(0), tiny_run.task(1), tiny_run.task(0, other), tiny_run.task(0)]
    heads = [copy_of(FoldRun(task, tiny_run.data, device).model)["fc.weight"] for task in tasks]
    assert torch.equal(heads[0], heads[3])
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.slow
def test_processes_that_make_batches_change_nothing(
    tiny_run: TinyRun, prepared_run: TinyRun, tmp_path: Path
) -> None:
    """Dropout included: the loader must not draw from its generator."""
    chosen = changed(tiny_run.configuration, backbone={"drop_rate": 0.5})
    tiny_run.finish(tiny_run.task(configuration=chosen))
    again = prepared_run.copy(tmp_path / "again")
    record = again.data.record
    data = record.config.data.model_copy(update={"workers": 2})
    config = record.config.model_copy(update={"data": data})
    again.finish(
        again.task(configuration=chosen),
        replace(again.data, record=replace(record, config=config)),
    )
    assert again.files(again.task(configuration=chosen)) == tiny_run.files(
        tiny_run.task(configuration=chosen)
    )
