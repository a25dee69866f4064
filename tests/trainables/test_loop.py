from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
import torch.fx
from sklearn.metrics import accuracy_score, f1_score, log_loss

from ensemble.store import read_predictions
from search_spaces.config import Configuration
from tests.trainables.tiny_run import TinyRun, changed
from trainables import evaluation, loop
from trainables.backbone import rebuild
from trainables.failure import DivergedError
from trainables.fold_files import WALL_CLOCK, stored_result
from trainables.loop import FoldRun, default_device
from trainables.losses import build_loss
from trainables.precision import FULL
from trainables.predict import predict_probabilities
from trainables.task import FoldTask
from trainables.views import PLAIN, cached, view_batches
from trainables.weights import copy_of, load_weights, read_recipe

CPU = torch.device("cpu")


def with_epochs(run: TinyRun, epochs: int, keep: str = "last") -> Configuration:
    return changed(run.configuration, train={"epochs": epochs, "keep": keep})


def predicted_by_the_stored_weights(run: TinyRun, task: FoldTask, rows: np.ndarray) -> np.ndarray:
    """The probabilities of the cached images `rows`, from the weights file alone."""
    location = run.paths.weights(task.config_id, task.fold)
    recipe = read_recipe(location)
    model = rebuild(recipe, len(run.data.record.classes))
    load_weights(location, model)
    names = [str(row) for row in rows]
    shown = cached(run.data.cache, rows, names, task.configuration.preprocess)
    return predict_probabilities(
        model.to(memory_format=torch.channels_last),
        view_batches(shown, task.configuration, PLAIN, seed=0, batch_size=16),
        recipe.normalisation,
        n_classes=len(run.data.record.classes),
        device=CPU,
        precision=FULL,
    )


def test_there_is_one_result_an_epoch_and_the_last_is_done(tiny_run: TinyRun) -> None:
    results = tiny_run.finish(tiny_run.task(configuration=with_epochs(tiny_run, 3)))
    assert [result.epoch for result in results] == [1, 2, 3]
    assert [result.done for result in results] == [False, False, True]
    for result in results:
        assert {"log_loss", "accuracy", "macro_f1", "train_loss", "lr"} <= result.metrics.keys()
        assert all(math.isfinite(value) for value in result.metrics.values())
    assert results[0].metrics["train_loss"] > results[2].metrics["train_loss"]


def test_the_learning_rate_follows_the_schedule_step_by_step(tiny_run: TinyRun) -> None:
    """Two batches an epoch, six steps: two of warm-up, four of cosine."""
    results = tiny_run.finish(tiny_run.task(configuration=with_epochs(tiny_run, 3)))
    floor = 0.01
    expected = [
        floor + 0.99 / 2,  # step 1, half way up
        floor + 0.5 * 0.99 * (1 + math.cos(math.pi / 4)),  # step 3
        floor + 0.5 * 0.99 * (1 + math.cos(math.pi * 3 / 4)),  # step 5, the last
    ]
    rates = [result.metrics["lr"] / 0.01 for result in results]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("fold", range(3))
def test_oof_rows_are_the_validation_rows_with_their_labels(tiny_run: TinyRun, fold: int) -> None:
    task = tiny_run.task(fold)
    tiny_run.finish(task)
    stored, folds = tiny_run.oof(task), tiny_run.data.folds
    rows = folds.validation_rows(fold)
    assert stored.ids.tolist() == [folds.ids[row] for row in rows]
    assert stored.labels.tolist() == folds.labels[rows].tolist()
    assert set(stored.folds.tolist()) == {fold}
    # The label of an image is in its name: nothing was shifted on the way here.
    assert [f"class_{label:02d}" for label in stored.labels] == [name[:8] for name in stored.ids]


def test_every_test_image_has_probabilities_and_no_label(tiny_run: TinyRun) -> None:
    tiny_run.finish()
    stored = tiny_run.test()
    assert tiny_run.data.test is not None
    assert tuple(stored.ids) == tiny_run.data.test.ids
    assert set(stored.labels.tolist()) == {-1}
    np.testing.assert_allclose(stored.proba.sum(axis=1), 1.0, atol=1e-5)
    rows = np.arange(6) + tiny_run.data.n_train
    expected = predicted_by_the_stored_weights(tiny_run, tiny_run.task(), rows)
    np.testing.assert_allclose(stored.proba, expected, atol=1e-6)


def test_without_test_images_only_oof_and_weights_are_written(tiny_run: TinyRun) -> None:
    tiny_run.finish(data=replace(tiny_run.data, test=None))
    task = tiny_run.task()
    assert tiny_run.store.has("oof", task.config_id, 0)
    assert not tiny_run.store.has("test", task.config_id, 0)
    assert tiny_run.paths.weights(task.config_id, 0).exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_stored_weights_give_the_stored_oof_rows(tiny_run: TinyRun, precision: str) -> None:
    """In full float32, whatever training computed in."""
    chosen = changed(tiny_run.configuration, train={"epochs": 1, "precision": precision})
    task = tiny_run.task(configuration=chosen)
    tiny_run.finish(task)
    rows = tiny_run.data.folds.validation_rows(0)
    expected = predicted_by_the_stored_weights(tiny_run, task, rows)
    np.testing.assert_allclose(tiny_run.oof(task).proba, expected, atol=1e-6)


def test_metrics_are_those_of_scikit_learn_on_the_stored_rows(tiny_run: TinyRun) -> None:
    result = tiny_run.finish()[-1]
    stored = tiny_run.oof()
    proba = stored.proba.astype(np.float64)
    proba /= proba.sum(axis=1, keepdims=True)  # of float32, they do so to seven digits only
    guessed = proba.argmax(axis=1)
    expected = {
        "log_loss": log_loss(stored.labels, proba, labels=[0, 1, 2]),
        "accuracy": accuracy_score(stored.labels, guessed),
        "macro_f1": f1_score(stored.labels, guessed, average="macro"),
    }
    for name, value in expected.items():
        assert result.metrics[name] == pytest.approx(value, abs=1e-6), name


def test_the_store_tells_the_configuration_but_not_the_clock(tiny_run: TinyRun) -> None:
    result = tiny_run.finish()[-1]
    task = tiny_run.task()
    _, metadata = read_predictions(tiny_run.store.fold_location("oof", task.config_id, 0))
    assert metadata.config_id == task.config_id
    assert metadata.configuration == task.configuration.model_dump(mode="json")
    assert metadata.classes == ("class_00", "class_01", "class_02")
    assert metadata.data_fingerprint == tiny_run.data.record.data_fingerprint
    assert set(result.metrics) - set(metadata.metrics) == set(WALL_CLOCK) - {"gpu_memory_bytes"}


def test_a_finished_fold_run_leaves_no_checkpoint(tiny_run: TinyRun) -> None:
    task = tiny_run.task()
    assert stored_result(task) is None
    result = tiny_run.finish(task)[-1]
    assert not tiny_run.paths.checkpoint_folder(task.config_id, 0).exists()
    stored = stored_result(task)
    assert stored is not None
    assert stored.done
    assert stored.metrics["log_loss"] == result.metrics["log_loss"]


def scripted_scores(
    monkeypatch: pytest.MonkeyPatch, metric: str, values: Mapping[int, float]
) -> dict[int, dict[str, torch.Tensor]]:
    """Let `metric` be `values[epoch]` in training. Returns the weights after each epoch."""
    real: Callable[[FoldRun, np.ndarray], dict[str, float]] = FoldRun._scores
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def scores(run: FoldRun, proba: np.ndarray) -> dict[str, float]:
        if len(run.history) < run.epoch:  # not the scores of the stored rows
            seen[run.epoch] = copy_of(run.model)
            return real(run, proba) | {metric: values[run.epoch]}
        return real(run, proba)

    monkeypatch.setattr(FoldRun, "_scores", scores)
    return seen


@pytest.mark.parametrize(
    ("metric", "values"),
    [("log_loss", {1: 0.9, 2: 0.1, 3: 0.5}), ("accuracy", {1: 0.2, 2: 0.9, 3: 0.9})],
)
def test_keep_best_stores_the_epoch_that_scored_best(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, metric: str, values: dict[int, float]
) -> None:
    """Of equal epochs the first."""
    record = tiny_run.data.record
    search = record.config.search.model_copy(update={"metric": metric})
    config = record.config.model_copy(update={"search": search})
    data = replace(tiny_run.data, record=replace(record, config=config))
    seen = scripted_scores(monkeypatch, metric, values)
    task = tiny_run.task(configuration=with_epochs(tiny_run, 3, "best"))
    results = tiny_run.finish(task, data)
    assert results[-1].epoch == 3
    assert results[-1].metrics["best_epoch"] == 2.0
    assert results[-1].metrics["train_loss"] == results[1].metrics["train_loss"]
    stored = rebuild(read_recipe(tiny_run.paths.weights(task.config_id, 0)), 3)
    load_weights(tiny_run.paths.weights(task.config_id, 0), stored)
    assert all(torch.equal(value, seen[2][key]) for key, value in stored.state_dict().items())
    rows = data.folds.validation_rows(0)
    expected = predicted_by_the_stored_weights(tiny_run, task, rows)
    np.testing.assert_allclose(tiny_run.oof(task).proba, expected, atol=1e-6)
    # The stored metric is of the stored rows, not the scripted one.
    assert results[-1].metrics[metric] != values[2]


def test_keep_last_is_the_default_and_says_so(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scripted_scores(monkeypatch, "log_loss", {1: 0.1, 2: 0.9})
    assert tiny_run.configuration.train.keep == "last"
    task = tiny_run.task()
    results = tiny_run.finish(task)
    assert results[-1].metrics["best_epoch"] == 2.0
    stored = rebuild(read_recipe(tiny_run.paths.weights(task.config_id, 0)), 3)
    load_weights(tiny_run.paths.weights(task.config_id, 0), stored)
    assert all(torch.equal(value, seen[2][key]) for key, value in stored.state_dict().items())


def test_a_learning_rate_far_too_large_is_told_as_divergence(tiny_run: TinyRun) -> None:
    chosen = changed(
        tiny_run.configuration,
        backbone={"name": "test_vit"},
        optimizer={"name": "sgd", "lr": 10.0},
        schedule={"name": "constant", "warmup_fraction": 0.0},
        train={"epochs": 20, "clip_grad": 0.0},
    )
    task = tiny_run.task(configuration=chosen)
    with pytest.raises(DivergedError, match=r"in epoch \d+ \(lr 10\); a smaller lr may help"):
        tiny_run.finish(task)
    assert not tiny_run.store.has("oof", task.config_id, 0)


def test_a_loss_that_is_not_finite_names_epoch_and_lr(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = build_loss(tiny_run.configuration.loss, np.full(3, 5)), []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return real(logits, labels) * (math.nan if len(calls) == 4 else 1.0)

    monkeypatch.setattr(loop, "build_loss", lambda config, counts: loss)
    with pytest.raises(DivergedError, match=r"training loss is nan in epoch 2 \(lr 0\.01\)"):
        tiny_run.finish()


def test_probabilities_that_are_not_finite_are_divergence_too(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evaluation, "predict_probabilities", lambda *_, **__: np.full((8, 3), np.nan)
    )
    with pytest.raises(DivergedError, match=r"probabilities are not finite in epoch 1 \(lr 0\.01"):
        tiny_run.finish()


def test_gradients_are_clipped_only_where_asked(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []

    def clip(parameters: object, norm: float) -> None:
        norms.append(norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    for value in (0.0, 0.5):
        chosen = changed(tiny_run.configuration, train={"epochs": 1, "clip_grad": value})
        tiny_run.finish(tiny_run.task(configuration=chosen))
    assert norms == [0.5, 0.5]  # two batches


def test_a_fold_run_computes_with_the_threads_it_was_given(tiny_run: TinyRun) -> None:
    before = torch.get_num_threads()
    try:
        FoldRun(replace(tiny_run.task(), threads=3), tiny_run.data, CPU)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_fold_that_does_not_exist_is_refused(tiny_run: TinyRun) -> None:
    with pytest.raises(ValueError, match="fold 3 does not exist: there are folds 0 to 2"):
        tiny_run.finish(tiny_run.task(3))


def test_the_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_device() == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_device() == CPU


def test_with_cuda_an_epoch_tells_the_most_memory_it_took(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FoldRun(tiny_run.task(), tiny_run.data, CPU)
    assert run._memory_used() == {}
    reset: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 << 30)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    run.device = torch.device("cuda")
    assert run._memory_used() == {"gpu_memory_bytes": float(3 << 30)}
    assert reset == [run.device]  # the next epoch's is its own


def test_memory_that_ran_out_in_measuring_batch_norm_costs_the_fold_run_nothing(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it did not run out, whole batches are measured; else halves of them, all anew."""
    tried: list[int] = []
    real = loop.recompute_batch_norm

    def measure(*given: Any, at_once: int, **more: Any) -> None:
        tried.append(at_once)
        real(*given, at_once=at_once, **more)
        if at_once > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    chosen = changed(tiny_run.configuration, averaging={"name": "swa", "swa_from": 0.5})
    task = tiny_run.task(configuration=chosen)
    monkeypatch.setattr(loop, "recompute_batch_norm", measure)
    assert tiny_run.finish(task)[-1].done
    assert tried == [9, 4]


def test_what_fits_through_the_model_is_the_most_that_is_in_the_making(tiny_run: TinyRun) -> None:
    run = FoldRun(tiny_run.task(), tiny_run.data, CPU)
    run.stepper.micro_batch = 3  # as when memory ran out
    run.next_epoch()
    assert run.loader.at_once == 3


@pytest.mark.parametrize("channels_last", [True, False])
def test_model_and_inputs_lie_in_memory_as_was_asked(
    tiny_run: TinyRun, channels_last: bool
) -> None:
    chosen = changed(tiny_run.configuration, train={"channels_last": channels_last})
    run = FoldRun(tiny_run.task(configuration=chosen), tiny_run.data, CPU)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for images, _ in run.loader.epoch(1):
        assert images.is_contiguous(memory_format=layout)
    weights = [one for one in run.model.parameters() if one.ndim == 4]
    assert all(one.is_contiguous(memory_format=layout) for one in weights)


@pytest.mark.slow
def test_a_warm_process_goes_on_compiling(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch stops after a few models of one kind, by default eight."""
    compiled: list[int] = []
    real = torch.compile

    def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled.append(len(inputs))
        return module.forward

    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend=backend))
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 1)
    chosen = changed(tiny_run.configuration, train={"compile": True})
    images, seen = torch.rand(2, 3, 32, 32), []
    for _ in range(3):
        run = FoldRun(tiny_run.task(configuration=chosen), tiny_run.data, CPU)
        run.stepper._forward(images)
        seen.append(len(compiled))
    assert 0 < seen[0] < seen[1] < seen[2]
    torch._dynamo.reset()
