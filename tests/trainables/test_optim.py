from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from search_spaces.config import OptimizerConfig, ScheduleConfig
from trainables import optim
from trainables.optim import OptimizerError, build_optimizer, build_schedule, check_optimizer_name


def small_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2)
    )


def learning_rates(config: ScheduleConfig, steps: int, lr: float = 1.0) -> list[float]:
    """The rate at every step, as the loop sets it."""
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=lr), small_model())
    schedule = build_schedule(config, optimizer, lr=lr, total_steps=steps)
    rates = []
    for step in range(steps):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_a_misspelt_optimizer_is_told_the_nearest_names() -> None:
    with pytest.raises(OptimizerError, match=r"optimizer.name=adamww: timm .*did you mean adamw"):
        check_optimizer_name("adamww")
    with pytest.raises(OptimizerError, match="no such optimizer; did you mean"):
        build_optimizer(OptimizerConfig(name="zzzzzz", lr=0.1), small_model())


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lion", "nadamw", "rmsprop"])
def test_known_optimizers_are_built_with_their_values(name: str) -> None:
    check_optimizer_name(name)
    optimizer = build_optimizer(
        OptimizerConfig(name=name, lr=0.02, weight_decay=0.1), small_model()
    )
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}


def test_biases_and_norms_have_no_weight_decay() -> None:
    model = small_model()
    optimizer = build_optimizer(OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.05), model)
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    names = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert {name for name, decay in names.items() if decay} == {"0.weight", "3.weight"}
    assert len(names) == 8


def test_one_that_needs_second_derivatives_is_refused_before_it_fails() -> None:
    with pytest.raises(OptimizerError, match="adahessian: needs second derivatives"):
        check_optimizer_name("adahessian")


def test_one_that_this_machine_lacks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise AssertionError("CUDA required for\n APEX optimizers")

    monkeypatch.setattr(optim, "create_optimizer_v2", lacking)
    with pytest.raises(OptimizerError) as caught:
        build_optimizer(OptimizerConfig(name="fusedadam", lr=0.1), small_model())
    assert str(caught.value) == "optimizer.name=fusedadam: CUDA required for APEX optimizers"


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


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["cosine", "constant"])
def test_very_short_runs_have_a_schedule_too(name: str, steps: int) -> None:
    config = ScheduleConfig(name=name, warmup_fraction=0.9)
    assert all(0.0 < rate <= 1.0 for rate in learning_rates(config, steps))


def test_the_schedule_goes_on_from_its_state() -> None:
    config = ScheduleConfig(name="cosine", warmup_fraction=0.3)
    whole = learning_rates(config, 12)
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=1.0), small_model())
    first = build_schedule(config, optimizer, lr=1.0, total_steps=12)
    first.step_update(5)
    other = build_optimizer(OptimizerConfig(name="sgd", lr=1.0), small_model())
    again = build_schedule(config, other, lr=1.0, total_steps=12)
    again.load_state_dict(first.state_dict())
    again.step_update(6)
    assert other.param_groups[0]["lr"] == whole[6]


def test_a_step_moves_the_weights() -> None:
    torch.manual_seed(0)
    model = small_model()
    optimizer = build_optimizer(OptimizerConfig(name="adamw", lr=0.1), model)
    before = model[3].weight.detach().clone()  # type: ignore[index]
    model(torch.ones(2, 3, 3, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[3].weight, before)  # type: ignore[index]
