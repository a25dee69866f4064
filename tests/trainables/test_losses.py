from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.config import LossConfig
from trainables.losses import build_loss, focal_loss

LOGITS = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # (0.75, 0.25) and (0.5, 0.5)
LABELS = torch.tensor([0, 1])

logits_and_labels = st.integers(2, 5).flatmap(
    lambda classes: st.lists(
        st.tuples(
            st.lists(st.floats(-8, 8, width=32), min_size=classes, max_size=classes),
            st.integers(0, classes - 1),
        ),
        min_size=1,
        max_size=6,
    )
)


def tensors(rows: list[tuple[list[float], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor([values for values, _ in rows], dtype=torch.float64)
    return logits, torch.tensor([label for _, label in rows])


def test_cross_entropy_of_two_rows_by_hand() -> None:
    loss = build_loss(LossConfig(name="cross_entropy"))
    assert loss(LOGITS, LABELS).item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_focal_loss_of_two_rows_by_hand() -> None:
    loss = build_loss(LossConfig(name="focal", focal_gamma=2.0))
    expected = -(0.25**2 * math.log(0.75) + 0.5**2 * math.log(0.5)) / 2
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected)


def test_the_focal_gamma_of_cross_entropy_does_nothing() -> None:
    first = build_loss(LossConfig(name="cross_entropy", focal_gamma=2.0))
    second = build_loss(LossConfig(name="cross_entropy", focal_gamma=5.0))
    assert first(LOGITS, LABELS) == second(LOGITS, LABELS)


@settings(deadline=None, max_examples=50)
@given(rows=logits_and_labels, smoothing=st.floats(0, 0.5))
def test_focal_loss_of_gamma_0_is_cross_entropy(
    rows: list[tuple[list[float], int]], smoothing: float
) -> None:
    logits, labels = tensors(rows)
    found = focal_loss(logits, labels, gamma=0.0, label_smoothing=smoothing)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(found, expected)


@settings(deadline=None, max_examples=50)
@given(rows=logits_and_labels, gamma=st.floats(0, 5))
def test_focal_loss_is_at_most_cross_entropy_and_never_negative(
    rows: list[tuple[list[float], int]], gamma: float
) -> None:
    logits, labels = tensors(rows)
    found = focal_loss(logits, labels, gamma=gamma).item()
    assert 0.0 <= found <= F.cross_entropy(logits, labels).item() + 1e-12


@settings(deadline=None, max_examples=50)
@given(rows=logits_and_labels, smoothing=st.floats(0, 0.9))
def test_label_smoothing_mixes_in_the_mean_over_all_classes(
    rows: list[tuple[list[float], int]], smoothing: float
) -> None:
    """(1 - s) * -log p_true + s * mean over classes of -log p."""
    logits, labels = tensors(rows)
    minus_log = -logits.log_softmax(dim=1)
    true = minus_log.gather(1, labels[:, None]).mean()
    expected = (1 - smoothing) * true + smoothing * minus_log.mean()
    loss = build_loss(LossConfig(name="cross_entropy", label_smoothing=smoothing))
    torch.testing.assert_close(loss(logits, labels), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_a_row_that_is_certain_and_right_has_a_finite_gradient(gamma: float) -> None:
    """Where p_true is 1 the slope of (1 - p_true)**0.5 is infinite."""
    logits = torch.tensor([[60.0, -60.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0]), gamma=gamma).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(1, 2))
