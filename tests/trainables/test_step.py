"""Steps of the optimizer: micro-batches add up, and running out of memory ends nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from search_spaces.config import OptimizerConfig, TrainConfig
from trainables.precision import FULL
from trainables.step import Stepper, micro_batches

CPU = torch.device("cpu")
N = 12


def inputs() -> Tensor:
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(1))


def labels() -> Tensor:
    return torch.arange(N) % 3


def stepper(
    forward: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda model: model,
    *,
    micro_batch: int | None = None,
    clip_grad: float = 0.0,
    dropout: float = 0.0,
    **penalties: float,
) -> Stepper:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(dropout), nn.Linear(8, 3))
    config = OptimizerConfig(name="sgd", lr=0.1, **penalties)
    return Stepper(
        model,
        forward(model),
        F.cross_entropy,
        torch.optim.SGD(model.parameters(), lr=0.1),
        train=TrainConfig(
            epochs=1, batch_size=N, image_size=8, micro_batch=micro_batch, clip_grad=clip_grad
        ),
        penalties=config,
        precision=FULL,
        device=CPU,
    )


def weights(one: Stepper) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in one.model.parameters()])


@given(n=st.integers(1, 300), size=st.integers(1, 300))
def test_micro_batches_cover_the_batch_evenly(n: int, size: int) -> None:
    parts = micro_batches(n, size)
    lengths = [part.stop - part.start for part in parts]
    assert [row for part in parts for row in range(n)[part]] == list(range(n))
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == -(-n // size)


@pytest.mark.parametrize("micro_batch", [1, 4, 5, 11])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(micro_batch: int) -> None:
    whole, parts = stepper(), stepper(micro_batch=micro_batch)
    for seed in range(3):
        expected = whole.step(inputs(), labels(), seed)
        torch.testing.assert_close(parts.step(inputs(), labels(), seed), expected)
    torch.testing.assert_close(weights(parts), weights(whole))


def test_a_step_depends_on_its_seed_and_not_on_what_ran_before() -> None:
    once, again = stepper(dropout=0.5), stepper(dropout=0.5)
    torch.rand(100)
    once.step(inputs(), labels(), 7)
    torch.manual_seed(99)
    again.step(inputs(), labels(), 7)
    assert torch.equal(weights(once), weights(again))
    other = stepper(dropout=0.5)
    other.step(inputs(), labels(), 8)
    assert not torch.equal(weights(once), weights(other))


def runs_out_above(rows: int, seen: list[int]) -> Callable[[nn.Module], Callable[[Tensor], Tensor]]:
    def forward(model: nn.Module) -> Callable[[Tensor], Tensor]:
        def call(images: Tensor) -> Tensor:
            seen.append(len(images))
            if len(images) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return model(images)

        return call

    return forward


def test_when_memory_runs_out_the_micro_batch_is_halved_until_it_fits() -> None:
    seen: list[int] = []
    short, plenty = stepper(runs_out_above(4, seen)), stepper()
    for seed in (1, 2):
        expected = plenty.step(inputs(), labels(), seed)
        torch.testing.assert_close(short.step(inputs(), labels(), seed), expected)
    torch.testing.assert_close(weights(short), weights(plenty))
    assert short.micro_batch == 3
    # The batch of 12, its halves, its quarters; then at once what had fitted.
    assert seen == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]


def test_memory_that_does_not_suffice_for_one_image_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        stepper(runs_out_above(0, [])).step(inputs(), labels(), 0)


def test_other_errors_are_not_taken_for_it() -> None:
    def forward(model: nn.Module) -> Callable[[Tensor], Tensor]:
        def call(images: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        return call

    one = stepper(forward)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        one.step(inputs(), labels(), 0)
    assert one.micro_batch == N


def test_gradients_are_clipped_to_the_norm_that_was_asked() -> None:
    one, before = stepper(clip_grad=1e-3), weights(stepper())
    one.step(inputs(), labels(), 0)
    moved = (weights(one) - before).norm()
    torch.testing.assert_close(moved, torch.tensor(1e-4), rtol=1e-2, atol=0.0)  # lr 0.1


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_penalties_count_once_a_step(micro_batch: int | None) -> None:
    plain, l2 = stepper(micro_batch=micro_batch), stepper(micro_batch=micro_batch, l2=0.5)
    before = {name: value.clone() for name, value in l2.model.named_parameters()}
    reported = plain.step(inputs(), labels(), 0)
    torch.testing.assert_close(l2.step(inputs(), labels(), 0), reported)
    for (name, ours), (_, theirs) in zip(
        l2.model.named_parameters(), plain.model.named_parameters(), strict=True
    ):
        # Of l2 * |w|^2 the gradient is 2 * l2 * w; biases are left alone.
        pulled = 0.1 * 2 * 0.5 * before[name] if ours.ndim > 1 else torch.zeros_like(ours)
        torch.testing.assert_close(theirs - ours, pulled)
