"""Validation and test images of a fold run, and what a model says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.config import AugmentConfig, Configuration
from tests.trainables.tiny_run import TinyRun, changed
from trainables import evaluation as evaluation_module
from trainables.evaluation import Evaluation
from trainables.precision import FULL
from trainables.recipe import Normalisation

CPU = torch.device("cpu")
PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
REPLAY = AugmentConfig(name="noisy", rotate_degrees=60, brightness=0.5)


class Spy(nn.Module):
    """Remembers what it was shown; the logits are the means of three regions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.clone())
        top, bottom = images[:, :, :16].mean(dim=(1, 2, 3)), images[:, :, 16:].mean(dim=(1, 2, 3))
        return torch.stack([top, bottom, images[..., :16].mean(dim=(1, 2, 3))], dim=1) * 20


def evaluation(run: TinyRun, configuration: Configuration | None = None) -> Evaluation:
    chosen = configuration or run.configuration
    return Evaluation(chosen, run.data, 0, normalisation=PLAIN, device=CPU)


def with_replay(run: TinyRun, replay: AugmentConfig = REPLAY) -> TinyRun:
    record = run.data.record
    config = record.config.model_copy(update={"replay": replay})
    return replace(run, data=replace(run.data, record=replace(record, config=config)))


def shown(model: Spy) -> np.ndarray:
    return (torch.cat(model.seen) * 255).permute(0, 2, 3, 1).round().numpy().astype(np.uint8)


def shown_by_validation(run: TinyRun) -> np.ndarray:
    return run.data.cache[run.data.folds.validation_rows(0)]


def test_validation_shows_the_held_out_images_once(tiny_run: TinyRun) -> None:
    model = Spy()
    found = evaluation(tiny_run).validation(model, FULL)
    rows = tiny_run.data.folds.validation_rows(0)
    assert found.shape == (8, 3)
    np.testing.assert_array_equal(shown(model), tiny_run.data.cache[rows])


def test_test_images_are_those_after_the_training_images(tiny_run: TinyRun) -> None:
    model = Spy()
    assert evaluation(tiny_run).test(model) is not None
    np.testing.assert_array_equal(shown(model), tiny_run.data.cache[np.arange(24, 30)])
    without = replace(tiny_run, data=replace(tiny_run.data, test=None))
    assert evaluation(without).test(model) is None


def test_out_of_fold_and_test_rows_are_averaged_over_the_views(tiny_run: TinyRun) -> None:
    tta = changed(tiny_run.configuration, tta={"vertical_flip": True})
    plain, both = evaluation(tiny_run), evaluation(tiny_run, tta)
    assert plain.is_one_view
    assert not both.is_one_view
    quick = both.validation(Spy(), FULL)  # one view after an epoch
    np.testing.assert_array_equal(quick, plain.validation(Spy(), FULL))
    model = Spy()
    averaged = both.out_of_fold(model)
    assert shown(model).shape[0] == 16
    assert np.abs(averaged - quick).max() > 1e-3
    over_logits = changed(tta, tta={"average": "logits"})
    assert np.abs(evaluation(tiny_run, over_logits).out_of_fold(Spy()) - averaged).max() > 1e-6


class ShortOfMemory(Spy):
    """A device on which at most `most` images fit at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.asked = most, list[int]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(images)


def test_when_memory_runs_out_the_batch_is_halved_and_the_answer_stays(tiny_run: TinyRun) -> None:
    expected = evaluation(tiny_run).validation(Spy(), FULL)
    one, model = evaluation(tiny_run), ShortOfMemory(most=4)
    np.testing.assert_allclose(one.validation(model, FULL), expected, atol=1e-6)
    assert model.asked == [8, 4, 4]
    np.testing.assert_array_equal(shown(model), shown_by_validation(tiny_run))
    one.test(model)  # 6 images
    assert model.asked[3:] == [4, 2], "what did not fit is not tried again"


def test_memory_that_does_not_suffice_for_one_image_is_an_error(tiny_run: TinyRun) -> None:
    model = ShortOfMemory(most=0)
    with pytest.raises(torch.OutOfMemoryError):
        evaluation(tiny_run).validation(model, FULL)
    assert model.asked == [8, 4, 2, 1]


def test_other_errors_are_not_tried_again(tiny_run: TinyRun) -> None:
    class Broken(Spy):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            super().forward(images)
            raise RuntimeError("shapes do not match")

    model = Broken()
    with pytest.raises(RuntimeError, match="shapes"):
        evaluation(tiny_run).validation(model, FULL)
    assert len(model.seen) == 1


@pytest.mark.parametrize(("micro_batch", "batches"), [(None, [8]), (2, [4, 4]), (100, [8])])
def test_evaluation_sees_twice_what_training_sees_at_once(
    tiny_run: TinyRun, micro_batch: int | None, batches: list[int]
) -> None:
    model, train = Spy(), {"micro_batch": micro_batch, "batch_size": 8}
    evaluation(tiny_run, changed(tiny_run.configuration, train=train)).validation(model, FULL)
    assert [len(images) for images in model.seen] == batches


def test_any_change_is_replayed_whatever_the_member_is_called(tiny_run: TinyRun) -> None:
    flipped = with_replay(tiny_run, AugmentConfig(name="none", affine=0.0, horizontal_flip=1.0))
    model = Spy()
    evaluation(flipped).validation(model, FULL)
    np.testing.assert_array_equal(shown(model), shown_by_validation(tiny_run)[:, :, ::-1])


def test_replay_changes_validation_and_leaves_test_alone(tiny_run: TinyRun) -> None:
    noisy = with_replay(tiny_run)
    model, test_model = Spy(), Spy()
    evaluation(noisy).validation(model, FULL)
    rows = tiny_run.data.folds.validation_rows(0)
    assert (shown(model) != tiny_run.data.cache[rows]).any()
    evaluation(noisy).test(test_model)
    np.testing.assert_array_equal(shown(test_model), tiny_run.data.cache[np.arange(24, 30)])


def test_a_replayed_image_is_the_same_in_every_epoch_fold_run_and_configuration(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy, first, again, other = with_replay(tiny_run), Spy(), Spy(), Spy()
    one = evaluation(noisy)
    one.validation(first, FULL)
    one.out_of_fold(again)
    configuration = changed(
        noisy.configuration, augment={"rotate_degrees": 3.0}, backbone={"name": "test_vit"}
    )
    monkeypatch.setattr(evaluation_module, "KEPT_BYTES", 0)  # made anew each time
    evaluation(noisy, configuration).validation(other, FULL)
    np.testing.assert_array_equal(shown(again), shown(first))
    np.testing.assert_array_equal(shown(other), shown(first))
