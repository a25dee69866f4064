from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from search_spaces.config import AveragingConfig
from trainables.averaging import (
    Averager,
    build_averager,
    held_batch_norms,
    recompute_batch_norm,
    snapshot_epochs,
)

CPU = torch.device("cpu")
EMA = AveragingConfig(name="ema", decay=0.9)
SWA = AveragingConfig(name="swa", swa_from=0.5)


def one_weight(value: float = 0.0) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    return set_weight(model, value)


def set_weight(model: nn.Linear, value: float) -> nn.Linear:
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def small_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )


def batches(count: int = 3, size: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 4, 4, generator=generator) for _ in range(count)]


def average_of(averager: Averager | None) -> dict[str, Tensor]:
    assert averager is not None
    state = averager.averaged_state()
    assert state is not None
    return state


def wander(model: nn.Module, averager: Averager, steps: range, epochs: int) -> None:
    """Training of a kind, two steps an epoch."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        model.train()
        model(torch.randn(4, 3, 4, 4, generator=generator))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        averager.after_step(model, step)
        if step % 2:
            averager.after_epoch(model, (step + 1) // 2, epochs)


def test_without_averaging_there_is_no_averager() -> None:
    assert build_averager(AveragingConfig(), small_model()) is None


# --- exponential -----------------------------------------------------------------------------


def test_the_exponential_average_of_two_steps_by_hand() -> None:
    """The decays are 1/10 and 2/11, both below 0.9."""
    model = one_weight(1.0)
    averager = build_averager(EMA, model)
    assert averager is not None
    averager.after_step(set_weight(model, 2.0), 0)
    assert average_of(averager)["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    averager.after_step(set_weight(model, 3.0), 1)
    expected = 2 / 11 * 1.9 + 9 / 11 * 3
    assert average_of(averager)["weight"].item() == pytest.approx(expected)


def test_late_in_training_the_decay_is_the_one_that_was_asked() -> None:
    model = one_weight(0.0)
    averager = build_averager(EMA, model)
    assert averager is not None
    averager.after_step(set_weight(model, 1.0), 10_000)
    assert average_of(averager)["weight"].item() == pytest.approx(0.1)


def test_it_is_timms_average_of_weights_and_statistics() -> None:
    model = small_model()
    averager = build_averager(EMA, model)
    assert averager is not None
    reference = ModelEmaV3(model, decay=0.9)
    for step in range(500, 504):  # the decay has grown to 0.9 by then
        wander(model, averager, range(step, step + 1), 1000)
        reference.update(model)
    for name, value in reference.module.state_dict().items():
        torch.testing.assert_close(average_of(averager)[name], value)
    assert average_of(averager)["1.num_batches_tracked"] == 4


@given(values=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=20))
def test_an_average_stays_within_what_was_averaged(values: list[float]) -> None:
    model = one_weight(values[0])
    averager = build_averager(EMA, model)
    assert averager is not None
    for step, value in enumerate(values):
        averager.after_step(set_weight(model, value), step)
    found = average_of(averager)["weight"].item()
    assert min(values) - 1e-5 <= found <= max(values) + 1e-5


# --- equal -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("swa_from", "epochs", "averaged"),
    [(0.75, 12, {10, 11, 12}), (0.5, 3, {3}), (0.0, 3, {1, 2, 3}), (0.99, 5, {5}), (0.75, 1, {1})],
)
def test_the_epochs_from_swa_from_on_are_averaged(
    swa_from: float, epochs: int, averaged: set[int]
) -> None:
    model = one_weight()
    averager = build_averager(AveragingConfig(name="swa", swa_from=swa_from), model)
    assert averager is not None
    for epoch in range(1, epochs + 1):
        averager.after_step(model, epoch)
        averager.after_epoch(set_weight(model, float(epoch**2)), epoch, epochs)
        assert (averager.averaged_state() is None) == (epoch < min(averaged))
    expected = sum(epoch**2 for epoch in averaged) / len(averaged)
    assert average_of(averager)["weight"].item() == pytest.approx(expected)


def test_it_is_torchs_equal_average_with_the_last_statistics() -> None:
    model = small_model()
    averager = build_averager(AveragingConfig(name="swa", swa_from=0.0), model)
    assert averager is not None
    reference = AveragedModel(model)
    for epoch in range(1, 5):
        wander(model, averager, range(2 * epoch - 2, 2 * epoch), 4)
        reference.update_parameters(model)
    found, statistics = average_of(averager), dict(model.named_buffers())
    for name, value in reference.module.named_parameters():
        torch.testing.assert_close(found[name], value.detach())
    assert all(torch.equal(found[name], value) for name, value in statistics.items())


def test_weights_of_two_names_are_averaged_under_both() -> None:
    model = nn.Sequential(one_weight(), one_weight())
    model[1].weight = model[0].weight
    averager = build_averager(AveragingConfig(name="swa", swa_from=0.0), model)
    assert averager is not None
    for epoch, value in enumerate((1.0, 3.0), start=1):
        set_weight(model[0], value)
        averager.after_epoch(model, epoch, 2)
    assert {key: value.item() for key, value in average_of(averager).items()} == {
        "0.weight": 2.0,
        "1.weight": 2.0,
    }


# --- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [EMA, SWA], ids=["ema", "swa"])
def test_an_average_is_no_view_of_the_model(config: AveragingConfig) -> None:
    model = small_model()
    averager = build_averager(config, model)
    assert averager is not None
    wander(model, averager, range(2), 1)
    before = {name: value.clone() for name, value in average_of(averager).items()}
    with torch.no_grad():
        model[0].weight.fill_(7.0)
    assert all(torch.equal(value, before[name]) for name, value in average_of(averager).items())
    assert not any(value.requires_grad for value in before.values())
    small_model(1).load_state_dict(before)


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("config", [EMA, SWA], ids=["ema", "swa"])
def test_an_average_goes_on_from_its_stored_state_exactly(
    config: AveragingConfig, cut: int
) -> None:
    whole, model = small_model(), small_model()
    expected, first = build_averager(config, whole), build_averager(config, model)
    assert expected is not None
    assert first is not None
    wander(whole, expected, range(8), 4)
    wander(model, first, range(2 * cut), 4)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    again = build_averager(config, small_model(5))
    assert again is not None
    again.load_state_dict(torch.load(file, weights_only=True))
    wander(model, again, range(2 * cut, 8), 4)
    for name, value in average_of(expected).items():
        assert torch.equal(average_of(again)[name], value), name


# --- the statistics of batch norm ------------------------------------------------------------


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def test_statistics_are_measured_anew_as_torch_does_it() -> None:
    ours, reference = small_model(), small_model()
    for model in (ours, reference):
        model.train()(torch.ones(4, 3, 4, 4))  # something to forget
    recompute_batch_norm(ours.eval(), batches(), CPU)
    update_bn(batches(), reference)
    for name, value in statistics(reference).items():
        torch.testing.assert_close(statistics(ours)[name], value)
    assert not ours.training
    assert not ours[1].training
    assert ours[1].momentum == 0.1


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_timms_models_are_measured_too(name: str) -> None:
    images = [torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2)
    before = statistics(model)
    recompute_batch_norm(model.eval(), images, CPU)
    with torch.no_grad():
        measured = model(images[0])
    changed = [
        key for key, value in statistics(model).items() if not torch.equal(value, before[key])
    ]
    assert any("running_var" in key for key in changed)
    assert torch.isfinite(measured).all()


def test_frozen_statistics_stay() -> None:
    model = nn.Sequential(small_model()[:3], nn.BatchNorm2d(4)).train()
    model[0][1].eval()  # type: ignore[index]
    held = held_batch_norms(model)
    assert held == {"0.1"}
    before = statistics(model)
    recompute_batch_norm(model.eval(), batches(), CPU, held=held)
    changed = {
        key for key, value in statistics(model).items() if not torch.equal(value, before[key])
    }
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert held_batch_norms(model) == set()  # of a model in evaluation mode nobody can tell


def test_dropout_and_the_random_state_have_no_part_in_it() -> None:
    def measured(seed: int) -> dict[str, Tensor]:
        model = nn.Sequential(nn.Dropout(0.5), small_model()).train()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        recompute_batch_norm(model, batches(), CPU)
        assert torch.equal(torch.get_rng_state(), before)
        assert model[0].training
        return statistics(model)

    once, again = measured(1), measured(2)
    assert all(torch.equal(value, again[name]) for name, value in once.items())


def test_without_batch_norm_no_batch_is_taken() -> None:
    def never() -> Iterator[Tensor]:
        raise AssertionError("a batch was taken")
        yield

    recompute_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), never(), CPU)


def test_batches_of_one_image_are_passed_over() -> None:
    many, some = small_model(), small_model()
    recompute_batch_norm(many, batches(2), CPU)
    recompute_batch_norm(some, [*batches(2), torch.ones(1, 3, 4, 4)], CPU)
    assert all(torch.equal(value, statistics(some)[key]) for key, value in statistics(many).items())
    with pytest.raises(ValueError, match="two or more training images, got none"):
        recompute_batch_norm(some, [torch.ones(1, 3, 4, 4)], CPU)


def test_parts_of_a_batch_count_as_batches() -> None:
    """Six images at most two at a time: the mean is that of all, the variance that of pairs."""
    whole, parts, pairs = small_model(), small_model(), small_model()
    recompute_batch_norm(whole, batches(2, 6), CPU, at_once=6)
    recompute_batch_norm(parts, batches(2, 6), CPU, at_once=2)
    recompute_batch_norm(pairs, [two for six in batches(2, 6) for two in six.split(2)], CPU)
    for name, value in statistics(pairs).items():
        assert torch.equal(statistics(parts)[name], value), name
    torch.testing.assert_close(
        statistics(parts)["1.running_mean"], statistics(whole)["1.running_mean"]
    )
    plain = small_model()
    recompute_batch_norm(plain, batches(2, 6), CPU)
    for name, value in statistics(plain).items():
        assert torch.equal(statistics(whole)[name], value), name


def test_a_model_that_failed_is_left_as_it_was() -> None:
    model = small_model().eval()
    with pytest.raises(RuntimeError, match="channels"):
        recompute_batch_norm(model, [torch.ones(4, 7, 4, 4)], CPU)
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.1


# --- snapshots -------------------------------------------------------------------------------


def test_snapshots_of_twelve_epochs_by_hand() -> None:
    assert snapshot_epochs(AveragingConfig(snapshots=3), 12) == {4: 1, 8: 2, 12: 0}
    assert snapshot_epochs(AveragingConfig(), 12) == {12: 0}


@settings(deadline=None)
@given(epochs=st.integers(1, 300), snapshots=st.integers(1, 20))
def test_snapshots_are_evenly_spaced_and_the_last_epoch_is_0(epochs: int, snapshots: int) -> None:
    snapshots = min(epochs, snapshots)
    found = snapshot_epochs(AveragingConfig(snapshots=snapshots), epochs)
    assert found[epochs] == 0
    assert sorted(found) == list(found)
    assert list(found.values()) == [*range(1, snapshots), 0]
    gaps = [b - a for a, b in zip([0, *found], found, strict=False)]
    assert max(gaps) - min(gaps) <= 1
