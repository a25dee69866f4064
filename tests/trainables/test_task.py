from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tests.trainables.tiny_run import TinyRun
from trainables.task import EpochResult, FoldTask, fold_run_name


def test_a_task_travels_as_json(tiny_run: TinyRun) -> None:
    task = replace(tiny_run.task(2), reported_epochs=3, threads=4)
    assert FoldTask.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_the_defaults_are_nothing_reported_and_one_thread(tiny_run: TinyRun) -> None:
    values = tiny_run.task().to_dict()
    del values["reported_epochs"], values["threads"]
    task = FoldTask.from_dict(values)
    assert (task.reported_epochs, task.threads) == (0, 1)


def test_an_unknown_key_is_not_dropped(tiny_run: TinyRun) -> None:
    with pytest.raises(TypeError, match="colour"):
        FoldTask.from_dict(tiny_run.task().to_dict() | {"colour": "blue"})
    values = tiny_run.task().to_dict()
    values["configuration"] = values["configuration"] | {"colour": "blue"}
    with pytest.raises(ValidationError, match="colour"):
        FoldTask.from_dict(values)


def test_the_task_it_was_made_from_is_not_changed(tiny_run: TinyRun) -> None:
    values = tiny_run.task().to_dict()
    before = json.dumps(values)
    FoldTask.from_dict(values)
    assert json.dumps(values) == before


@pytest.mark.parametrize("done", [True, False])
def test_a_result_travels_as_json(done: bool) -> None:
    result = EpochResult(3, {"log_loss": 0.125, "seconds": 1.5}, done)
    again = EpochResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    assert isinstance(again.epoch, int)


def test_a_fold_run_s_name_is_fit_for_a_folder() -> None:
    assert fold_run_name("resnet18.a1_in1k", "c1", 0) == "resnet18.a1_in1k-c1-fold0"
    assert fold_run_name("hf_hub:timm/resnet18", "c1", 2) == "hf_hub_timm_resnet18-c1-fold2"
    assert "/" not in fold_run_name("/weights/my model", "c1", 2)


def test_a_task_bears_the_name_of_its_fold_run(tiny_run: TinyRun) -> None:
    task = tiny_run.task(2)
    backbone = task.configuration.backbone.name
    assert task.name == fold_run_name(backbone, task.config_id, 2)


def test_where_it_ran_is_told_by_whoever_ran_it() -> None:
    assert "node" not in EpochResult(1, {}, node="10.0.0.2").to_dict()
