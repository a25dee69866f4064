from __future__ import annotations

import io
import math
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from search_spaces.config import AveragingConfig, ScheduleConfig
from trainables.averaging import snapshot_epochs
from trainables.schedules import Schedule, build_schedule, lr_at

NAMES = get_args(ScheduleConfig.model_fields["name"].annotation)

configs = st.builds(
    ScheduleConfig,
    name=st.sampled_from(NAMES),
    warmup_fraction=st.floats(0, 0.99),
    final_fraction=st.floats(0, 1),
    cycles=st.integers(1, 12),
    cycle_decay=st.floats(0.1, 1),
    step_fraction=st.floats(0.01, 1),
    step_factor=st.floats(0.05, 0.95),
)
runs = st.tuples(st.integers(1, 30), st.integers(1, 20))  # epochs, steps an epoch


def sgd(lr: float = 1.0) -> SGD:
    return SGD(nn.Linear(1, 1).parameters(), lr=lr)


def schedule_of(config: ScheduleConfig, optimizer: SGD, steps: int, lr: float = 1.0) -> Schedule:
    return build_schedule(config, optimizer, lr=lr, total_steps=steps, steps_per_epoch=1)


def learning_rates(
    config: ScheduleConfig, steps: int, lr: float = 1.0, steps_per_epoch: int = 1
) -> list[float]:
    """The rate at every step, as the loop sets it."""
    optimizer = sgd(lr)
    schedule = build_schedule(
        config, optimizer, lr=lr, total_steps=steps, steps_per_epoch=steps_per_epoch
    )
    rates = []
    for step in range(steps):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def timms(scheduler: Any, steps: int) -> list[float]:
    rates = []
    for step in range(steps):
        scheduler.step_update(step)
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
    return rates


# --- worked values ---------------------------------------------------------------------------


def test_warm_up_rises_in_a_line_and_the_cosine_falls_to_its_floor() -> None:
    rates = learning_rates(
        ScheduleConfig(name="cosine", warmup_fraction=0.2, final_fraction=0.1), steps=50, lr=2.0
    )
    warm, rest = rates[:10], rates[10:]
    for step, rate in enumerate(warm):  # from 1 % of the rate
        assert rate == pytest.approx(0.02 + step * 1.98 / 10)
    for step, rate in enumerate(rest):
        assert rate == pytest.approx(0.2 + 0.5 * 1.8 * (1 + math.cos(math.pi * step / 40)))
    assert max(rates) == rest[0] == 2.0
    assert rest[20] == pytest.approx((2.0 + 0.2) / 2)
    assert rates[-1] == pytest.approx(0.2, abs=0.01)


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    rates = learning_rates(ScheduleConfig(name="cosine", warmup_fraction=0.0), steps=4)
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)


def test_constant_stays_at_the_rate_after_its_warm_up() -> None:
    rates = learning_rates(
        ScheduleConfig(name="constant", warmup_fraction=0.25, final_fraction=0.01), steps=20
    )
    assert rates[:5] == pytest.approx([0.01 + step * 0.99 / 5 for step in range(5)])
    assert rates[5:] == [1.0] * 15


def test_steps_fall_after_every_so_many() -> None:
    config = ScheduleConfig(name="step", warmup_fraction=0.0, step_fraction=0.3, step_factor=0.1)
    rates = learning_rates(config, 10)
    assert rates == pytest.approx([1.0] * 3 + [0.1] * 3 + [0.01] * 3 + [0.001])
    # In floats 0.07 * 100 is more than 7.
    uneven = config.model_copy(update={"step_fraction": 0.07})
    assert learning_rates(uneven, 100)[6:8] == pytest.approx([1.0, 0.1])


def test_restarts_begin_again_at_smaller_peaks() -> None:
    config = ScheduleConfig(
        name="cosine_restarts", warmup_fraction=0.0, final_fraction=0.0, cycles=3, cycle_decay=0.5
    )
    rates = learning_rates(config, 12)
    shape = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert rates == pytest.approx([peak * v for peak in (1.0, 0.5, 0.25) for v in shape])


def test_warm_up_takes_the_beginning_of_the_first_cycle() -> None:
    config = ScheduleConfig(
        name="cosine_restarts", warmup_fraction=0.25, final_fraction=0.0, cycles=2
    )
    rates = learning_rates(config, 16, steps_per_epoch=4)
    assert rates[:4] == pytest.approx([0.01, 0.2575, 0.505, 0.7525])
    shape = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert rates[4:8] == pytest.approx(shape)
    assert rates[8] == 1.0


# --- against timm and torch ------------------------------------------------------------------


@given(
    fraction=st.sampled_from([0.0, 0.1, 0.35]),
    floor=st.floats(0, 1),
    steps=st.integers(3, 60),
    name=st.sampled_from(["cosine", "cosine_restarts"]),
)
def test_the_cosine_is_timms(fraction: float, floor: float, steps: int, name: str) -> None:
    config = ScheduleConfig(name=name, warmup_fraction=fraction, final_fraction=floor, cycles=1)
    warmup = round(fraction * steps)
    scheduler = CosineLRScheduler(
        sgd(0.3),
        t_initial=max(2, steps - warmup),
        lr_min=0.3 * floor,
        warmup_t=warmup,
        warmup_lr_init=0.003,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    assert learning_rates(config, steps, 0.3) == pytest.approx(timms(scheduler, steps))


@given(length=st.integers(2, 15), cycles=st.integers(1, 5), decay=st.floats(0.5, 1))
def test_restarts_are_timms_cycles(length: int, cycles: int, decay: float) -> None:
    config = ScheduleConfig(
        name="cosine_restarts",
        warmup_fraction=0.0,
        final_fraction=0.01,
        cycles=cycles,
        cycle_decay=decay,
    )
    scheduler = CosineLRScheduler(
        sgd(),
        t_initial=length,
        lr_min=0.01,
        cycle_decay=decay,
        cycle_limit=cycles,
        t_in_epochs=False,
    )
    steps = length * cycles
    assert learning_rates(config, steps) == pytest.approx(timms(scheduler, steps))


@given(every=st.integers(1, 10), parts=st.integers(1, 8), factor=st.floats(0.05, 0.95))
def test_steps_are_timms(every: int, parts: int, factor: float) -> None:
    steps = every * parts
    config = ScheduleConfig(
        name="step", warmup_fraction=0.2, step_fraction=1 / parts, step_factor=factor
    )
    scheduler = StepLRScheduler(
        sgd(),
        decay_t=every,
        decay_rate=factor,
        warmup_t=round(0.2 * steps),
        warmup_lr_init=0.01,
        t_in_epochs=False,
    )
    assert learning_rates(config, steps) == pytest.approx(timms(scheduler, steps))


@given(
    losses=st.lists(st.sampled_from([0.1, 0.5, 0.5 - 1e-6, 0.6, 1.0]), min_size=1, max_size=20),
    patience=st.integers(1, 4),
    factor=st.floats(0.1, 0.9),
)
def test_a_plateau_is_seen_where_torch_sees_it(
    losses: list[float], patience: int, factor: float
) -> None:
    """torch's patience counts the epochs that are forgiven, ours those after which it falls."""
    config = ScheduleConfig(
        name="plateau", warmup_fraction=0.0, step_factor=factor, plateau_patience=patience
    )
    ours, torchs = sgd(), sgd()
    schedule = schedule_of(config, ours, len(losses))
    reference = ReduceLROnPlateau(torchs, factor=factor, patience=patience - 1, eps=0.0)
    for step, loss in enumerate(losses):
        schedule.step_update(step)
        assert ours.param_groups[0]["lr"] == pytest.approx(torchs.param_groups[0]["lr"])
        schedule.epoch_end(loss)
        reference.step(loss)


# --- what all of them hold -------------------------------------------------------------------


@given(config=configs, run=runs, lr=st.floats(1e-6, 10), reductions=st.integers(0, 5))
def test_rates_are_between_0_and_the_learning_rate(
    config: ScheduleConfig, run: tuple[int, int], lr: float, reductions: int
) -> None:
    epochs, steps_per_epoch = run
    total = epochs * steps_per_epoch
    how = {"lr": lr, "total_steps": total, "steps_per_epoch": steps_per_epoch}
    rates = [lr_at(config, step, **how, reductions=reductions) for step in range(total + 2)]
    assert all(0.0 <= rate <= lr * (1 + 1e-9) for rate in rates)
    warmup = round(config.warmup_fraction * total)
    fallen = config.step_factor**reductions if config.name == "plateau" else 1.0
    if warmup:
        assert rates[0] == pytest.approx(0.01 * lr * fallen)
        rises = [after - before for before, after in pairwise(rates[:warmup])]
        assert all(rise > 0 for rise in rises)
    if warmup < total:
        assert rates[warmup] == pytest.approx(lr * fallen)


@given(config=configs, run=runs)
def test_cosines_never_leave_their_floor_and_end_near_it(
    config: ScheduleConfig, run: tuple[int, int]
) -> None:
    config = config.model_copy(update={"name": "cosine", "warmup_fraction": 0.1})
    total = run[0] * run[1]
    rest = [
        lr_at(config, step, lr=1.0, total_steps=total) for step in range(round(total / 10), total)
    ]
    assert min(rest) >= config.final_fraction - 1e-12
    assert rest == sorted(rest, reverse=True)
    assert lr_at(config, 2 * total + 2, lr=1.0, total_steps=total) == config.final_fraction


@given(epochs=st.integers(1, 40), steps_per_epoch=st.integers(2, 9), cycles=st.integers(1, 12))
def test_every_snapshot_is_taken_where_a_cycle_ends(
    epochs: int, steps_per_epoch: int, cycles: int
) -> None:
    cycles = min(cycles, epochs)
    config = ScheduleConfig(
        name="cosine_restarts", warmup_fraction=0.0, final_fraction=0.0, cycles=cycles
    )
    total = epochs * steps_per_epoch
    rates = learning_rates(config, total, steps_per_epoch=steps_per_epoch)
    peaks = {step for step, rate in enumerate(rates) if rate == 1.0}
    ends = {
        epoch * steps_per_epoch
        for epoch in snapshot_epochs(AveragingConfig(snapshots=cycles), epochs)
    }
    assert peaks == {0, *ends} - {total}


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_very_short_runs_have_a_schedule_too(name: str, steps: int) -> None:
    config = ScheduleConfig(name=name, warmup_fraction=0.9)
    assert all(0.0 < rate <= 1.0 for rate in learning_rates(config, steps))


def test_only_a_plateau_listens_to_the_loss() -> None:
    for name in NAMES:
        schedule = schedule_of(ScheduleConfig(name=name, plateau_patience=1), sgd(), 9)
        for loss in (1.0, 1.0, 2.0):
            schedule.epoch_end(loss)
        assert schedule.reductions == (2 if name == "plateau" else 0)


def test_layer_wise_rates_keep_their_ratio() -> None:
    one, two = nn.Linear(1, 1), nn.Linear(1, 1)
    groups = [{"params": one.parameters(), "lr_scale": 0.25}, {"params": two.parameters()}]
    optimizer = SGD(groups, lr=2.0)
    schedule = schedule_of(ScheduleConfig(name="cosine"), optimizer, 20, lr=2.0)
    for step in range(20):
        schedule.step_update(step)
        scaled, full = (group["lr"] for group in optimizer.param_groups)
        assert scaled == pytest.approx(full / 4)
    schedule.step_update(2)
    assert optimizer.param_groups[1]["lr"] == 2.0


def test_the_optimizer_has_its_first_rate_from_the_start() -> None:
    optimizer = sgd()
    schedule_of(ScheduleConfig(name="cosine", warmup_fraction=0.5), optimizer, 20)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_goes_on_from_its_stored_state(name: str) -> None:
    """The state is of plain values, as a checkpoint reads them."""
    config = ScheduleConfig(name=name, warmup_fraction=0.3, plateau_patience=2)
    losses = [1.0, 0.9, 0.95, 0.99, 0.9, 0.91, 0.92, 0.93]

    def train(schedule: Schedule, optimizer: SGD, steps: range) -> list[float]:
        rates = []
        for step in steps:
            schedule.step_update(step)
            rates.append(optimizer.param_groups[0]["lr"])
            schedule.epoch_end(losses[step])
        return rates

    optimizer = sgd()
    whole = train(schedule_of(config, optimizer, 8), optimizer, range(8))
    for cut in range(1, 8):
        first = schedule_of(config, optimizer, 8)
        train(first, optimizer, range(cut))
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        other = sgd()
        again = schedule_of(config, other, 8)
        again.load_state_dict(torch.load(file, weights_only=True))
        assert train(again, other, range(cut, 8)) == whole[cut:]
