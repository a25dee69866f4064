from __future__ import annotations

import numpy as np
import pytest

from ensemble.store import read_predictions
from tests.trainables.tiny_run import TinyRun
from trainables.backbone import build_backbone
from trainables.fold_files import WALL_CLOCK, FoldFiles, paths_of, stored_result


def written(run: TinyRun, *, with_test: bool = True, fold: int = 1) -> None:
    backbone = build_backbone(run.configuration.backbone, 3, 32)
    proba = np.full((8, 3), 1 / 3, np.float32)
    test = np.full((6, 3), 1 / 3, np.float32) if with_test else None
    metrics = {"log_loss": 1.1, "epochs": 2.0, **dict.fromkeys(WALL_CLOCK, 9.0)}
    FoldFiles(run.task(fold), run.data).write(backbone.model, backbone.recipe, proba, test, metrics)


def test_rows_bear_the_ids_labels_and_fold_of_their_images(tiny_run: TinyRun) -> None:
    written(tiny_run)
    stored = tiny_run.oof(tiny_run.task(1))
    rows = tiny_run.data.folds.validation_rows(1)
    assert stored.ids.tolist() == [tiny_run.data.folds.ids[row] for row in rows]
    assert stored.labels.tolist() == tiny_run.data.folds.labels[rows].tolist()
    assert set(stored.folds.tolist()) == {1}
    test = tiny_run.test(tiny_run.task(1))
    assert tiny_run.data.test is not None
    assert tuple(test.ids) == tiny_run.data.test.ids
    assert set(test.labels.tolist()) == {-1}


def test_metrics_of_the_clock_are_not_stored(tiny_run: TinyRun) -> None:
    written(tiny_run)
    task = tiny_run.task(1)
    _, metadata = read_predictions(tiny_run.store.fold_location("oof", task.config_id, 1))
    assert dict(metadata.metrics) == {"log_loss": 1.1, "epochs": 2.0}


def test_what_is_stored_is_the_result_of_a_complete_fold_run(tiny_run: TinyRun) -> None:
    assert stored_result(tiny_run.task(1)) is None
    written(tiny_run)
    found = stored_result(tiny_run.task(1))
    assert found is not None
    assert (found.epoch, found.done, found.metrics["log_loss"]) == (2, True, 1.1)
    assert stored_result(tiny_run.task(0)) is None


@pytest.mark.parametrize("with_test", [True, False])
def test_test_rows_are_written_where_there_are_any(tiny_run: TinyRun, with_test: bool) -> None:
    written(tiny_run, with_test=with_test)
    task = tiny_run.task(1)
    assert tiny_run.store.has("test", task.config_id, 1) is with_test
    assert paths_of(task).weights(task.config_id, 1).exists()
