from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.on_device import constant, sent

CPU = torch.device("cpu")


def test_a_constant_is_made_once_for_each_device_and_as_float32() -> None:
    first = constant((0.25, 0.5), CPU)
    assert first.tolist() == [0.25, 0.5]
    assert first.dtype == torch.float32
    assert constant((0.25, 0.5), CPU) is first
    assert constant((0.25, 0.75), CPU) is not first
    assert constant((0.25, 0.5), torch.device("meta")).device.type == "meta"


def test_a_constant_that_prediction_made_serves_in_training() -> None:
    values = (0.125, 0.375)
    with torch.inference_mode():
        constant(values, CPU)
    weight = torch.ones(2, requires_grad=True)
    (weight * constant(values, CPU)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == list(values)


@pytest.mark.parametrize("values", [np.arange(6).reshape(2, 3)[:, ::-1], np.array([True, False])])
def test_what_is_sent_arrives(values: np.ndarray) -> None:
    np.testing.assert_array_equal(sent(values, CPU).numpy(), values)
