"""Snapshots, averages, patience and TTA in whole fold runs: what is stored under which identity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.files import Location
from ensemble.store import OofStore, read_predictions
from search_spaces.config import Configuration
from tests.trainables.tiny_run import TinyRun, changed
from trainables.fold_files import stored_result
from trainables.loop import FoldRun, run_fold
from trainables.weights import read_weights

EPOCHS = 3


def chosen(run: TinyRun, **groups: dict[str, object]) -> Configuration:
    return changed(changed(run.configuration, train={"epochs": EPOCHS}), **groups)


def weights(run: TinyRun, configuration: Configuration) -> dict[str, torch.Tensor]:
    return read_weights(run.paths.weights(configuration.config_id, 0))[1]


def test_every_point_is_stored_as_a_configuration_of_its_own(tiny_run: TinyRun) -> None:
    one = chosen(tiny_run, averaging={"snapshots": 3})
    results = tiny_run.finish(tiny_run.task(configuration=one))
    points = [one.at_snapshot(number) for number in range(3)]
    assert len({point.config_id for point in points}) == 3
    assert points[0].config_id == one.config_id
    assert sorted(tiny_run.store.config_ids()) == sorted(point.config_id for point in points)
    for number, point in enumerate(points):
        where = tiny_run.store.fold_location("oof", point.config_id, 0)
        rows, metadata = read_predictions(where)
        epoch = number or EPOCHS  # point 0 is the end
        assert metadata.metrics["best_epoch"] == epoch
        assert metadata.configuration["averaging"]["snapshot"] == number
        assert Configuration.model_validate(metadata.configuration) == point
        assert len(rows.ids) == 8
        assert tiny_run.store.has("test", point.config_id, 0)
        assert metadata.metrics["log_loss"] == results[epoch - 1].metrics["log_loss"]


def test_a_point_holds_the_weights_of_its_epoch(tiny_run: TinyRun, tmp_path: Path) -> None:
    one = chosen(tiny_run, averaging={"snapshots": 3})
    tiny_run.finish(tiny_run.task(configuration=one))
    stopped = tiny_run.copy(tmp_path / "stopped")
    run = FoldRun(stopped.task(configuration=one), stopped.data, torch.device("cpu"))
    run.next_epoch()
    expected = run.model.state_dict()
    found = weights(tiny_run, one.at_snapshot(1))
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_a_kill_after_a_snapshot_writes_it_again_and_the_same(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    one = chosen(tiny_run, averaging={"snapshots": 3, "name": "ema"})
    whole = tiny_run.copy(tmp_path / "whole")
    whole.finish(whole.task(configuration=one))
    results = run_fold(tiny_run.task(configuration=one), tiny_run.data)
    next(results)
    results.close()  # type: ignore[attr-defined]
    tiny_run.paths.checkpoint_folder(one.config_id, 0).delete()  # it starts over
    tiny_run.finish(tiny_run.task(configuration=one))
    for number in range(3):
        task = tiny_run.task(configuration=one.at_snapshot(number))
        assert tiny_run.files(task) == whole.files(whole.task(configuration=task.configuration))


def test_an_exponential_average_is_what_is_stored_and_validated(tiny_run: TinyRun) -> None:
    one = chosen(tiny_run, averaging={"name": "ema", "decay": 0.9})
    results = tiny_run.finish(tiny_run.task(configuration=one))
    plain = chosen(tiny_run)
    plain_results = tiny_run.finish(tiny_run.task(configuration=plain))
    averaged, last = weights(tiny_run, one), weights(tiny_run, plain)
    assert any((averaged[key] != last[key]).any() for key in last)
    # Epochs train alike only where the seed is the same: it holds the configuration's id.
    assert results[0].metrics["log_loss"] != plain_results[0].metrics["log_loss"]
    rows, metadata = read_predictions(tiny_run.store.fold_location("oof", one.config_id, 0))
    assert metadata.metrics["log_loss"] == pytest.approx(results[-1].metrics["log_loss"])
    np.testing.assert_allclose(rows.proba.sum(axis=1), 1.0, atol=1e-5)


def test_an_equal_average_is_the_mean_of_the_last_epochs(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = chosen(tiny_run, averaging={"name": "swa", "swa_from": 0.33})
    seen: list[dict[str, torch.Tensor]] = []
    real = FoldRun._average_epoch

    def average(run: FoldRun) -> None:
        seen.append({key: value.clone() for key, value in run.model.state_dict().items()})
        real(run)

    monkeypatch.setattr(FoldRun, "_average_epoch", average)
    tiny_run.finish(tiny_run.task(configuration=one))
    found = weights(tiny_run, one)
    for key, value in found.items():
        if key.endswith("weight"):  # statistics of batch norm are measured anew
            expected = (seen[1][key] + seen[2][key]) / 2
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    statistics = [key for key in found if key.endswith("running_mean")]
    assert any((found[key] != seen[2][key]).any() for key in statistics)


def test_without_a_better_score_a_fold_run_ends_early(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FoldRun._scores
    script = {1: 0.5, 2: 0.4, 3: 0.6, 4: 0.7}

    def scores(run: FoldRun, proba: np.ndarray) -> dict[str, float]:
        return real(run, proba) | {"log_loss": script[run.epoch]}

    monkeypatch.setattr(FoldRun, "_scores", scores)
    one = chosen(tiny_run, train={"epochs": 9, "patience": 2})
    task = tiny_run.task(configuration=one)
    results = tiny_run.finish(task)
    assert [(result.epoch, result.done) for result in results] == [
        (1, False), (2, False), (3, False), (4, True),
    ]  # fmt: skip
    again = stored_result(task)
    assert again is not None
    assert again.epoch == 4
    assert one.train.is_optimistic


def test_the_store_says_which_views_were_averaged_and_how(tiny_run: TinyRun) -> None:
    tta = {"name": "mine", "vertical_flip": True, "training": 2, "average": "logits"}
    one = chosen(tiny_run, tta=tta)
    tiny_run.finish(tiny_run.task(configuration=one))
    store = OofStore(Location.of(tiny_run.root))
    for kind in ("oof", "test"):
        _, metadata = read_predictions(store.fold_location(kind, one.config_id, 0))  # type: ignore[arg-type]
        assert metadata.configuration["tta"] == one.tta.model_dump(mode="json")
        assert metadata.configuration["tta"]["average"] == "logits"
