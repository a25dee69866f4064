from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.loss import BinaryCrossEntropy
from torch import Tensor

from search_spaces.config import LossConfig
from trainables.composed import Cosines
from trainables.losses import (
    bce_table,
    build_loss,
    cross_entropy_focal_table,
    cross_entropy_table,
    effective_number_weights,
    focal_table,
)

LOGITS = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # (0.75, 0.25) and (0.5, 0.5)
LABELS = torch.tensor([0, 1])
EVEN = np.array([5, 5, 5])
NAMES = get_args(LossConfig.model_fields["name"].annotation)
TABLE_NAMES = [name for name in NAMES if not LossConfig(name=name).has_margin]

Rows = list[tuple[list[float], int]]
rows_of_logits = st.integers(2, 5).flatmap(
    lambda classes: st.lists(
        st.tuples(
            st.lists(st.floats(-8, 8, width=32), min_size=classes, max_size=classes),
            st.integers(0, classes - 1),
        ),
        min_size=1,
        max_size=6,
    )
)
configs = st.builds(
    LossConfig,
    name=st.sampled_from(TABLE_NAMES),
    label_smoothing=st.floats(0, 0.5),
    focal_gamma=st.floats(0, 5),
    focal_share=st.floats(0, 1),
    class_balance=st.sampled_from([0.0, 0.9, 0.999]),
)


def tensors(rows: Rows) -> tuple[Tensor, Tensor]:
    logits = torch.tensor([values for values, _ in rows], dtype=torch.float64)
    return logits, torch.tensor([label for _, label in rows])


def counts_of(logits: Tensor) -> np.ndarray:
    """Classes of 1, 10, 100, … images."""
    return 10 ** np.arange(logits.shape[1])


def under(table: Tensor, labels: Tensor) -> Tensor:
    return table.gather(1, labels[:, None]).mean()


# --- worked values ---------------------------------------------------------------------------


def test_cross_entropy_of_two_rows_by_hand() -> None:
    loss = build_loss(LossConfig(name="cross_entropy"), EVEN[:2])
    assert loss(LOGITS, LABELS).item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_focal_loss_of_two_rows_by_hand() -> None:
    loss = build_loss(LossConfig(name="focal", focal_gamma=2.0), EVEN[:2])
    expected = -(0.25**2 * math.log(0.75) + 0.5**2 * math.log(0.5)) / 2
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected)


def test_the_mixture_of_both_by_hand() -> None:
    config = LossConfig(name="cross_entropy_focal", focal_gamma=2.0, focal_share=0.25)
    expected = -((0.75 + 0.25 * 0.25**2) * math.log(0.75) + (0.75 + 0.25 * 0.5**2) * math.log(0.5))
    found = build_loss(config, EVEN[:2])(LOGITS, LABELS).item()
    assert found == pytest.approx(expected / 2)


def test_binary_cross_entropy_of_two_rows_by_hand() -> None:
    """The sigmoids are (3/4, 1/2) and (1/2, 1/2), the second row's label the second class."""
    loss = build_loss(LossConfig(name="bce"), EVEN[:2])
    expected = -(math.log(0.75) + math.log(0.5) + 2 * math.log(0.5)) / 2
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected)
    smoothed = build_loss(LossConfig(name="bce", label_smoothing=0.2), EVEN[:2])
    one = 0.9 * math.log(0.75) + 0.1 * math.log(0.25) + math.log(0.5)
    assert smoothed(LOGITS[:1], LABELS[:1]).item() == pytest.approx(-one)


def test_effective_numbers_of_two_classes_by_hand() -> None:
    """beta 0.5: of 1 image 1, of 2 images 1.5. Weights 1 and 2/3, whose mean over rows is 7/9."""
    found = effective_number_weights(np.array([1, 2]), 0.5)
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([9 / 7, 6 / 7])


# --- at a limit each is a known loss ---------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(rows=rows_of_logits, smoothing=st.floats(0, 0.9))
def test_label_smoothing_is_torchs(rows: Rows, smoothing: float) -> None:
    logits, labels = tensors(rows)
    loss = build_loss(LossConfig(name="cross_entropy", label_smoothing=smoothing), EVEN)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, labels), expected)


@settings(deadline=None, max_examples=30)
@given(rows=rows_of_logits, smoothing=st.floats(0, 0.5))
def test_focal_loss_of_gamma_0_is_cross_entropy(rows: Rows, smoothing: float) -> None:
    logits, labels = tensors(rows)
    found = under(focal_table(logits, gamma=0.0, label_smoothing=smoothing), labels)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(found, expected)


@settings(deadline=None, max_examples=30)
@given(rows=rows_of_logits, gamma=st.floats(0, 5))
def test_focal_loss_is_at_most_cross_entropy(rows: Rows, gamma: float) -> None:
    logits, _ = tensors(rows)
    assert (focal_table(logits, gamma=gamma) <= cross_entropy_table(logits) + 1e-12).all()


@given(rows=rows_of_logits, gamma=st.floats(0, 5), smoothing=st.floats(0, 0.5))
def test_the_ends_of_the_mixture_are_its_parts(rows: Rows, gamma: float, smoothing: float) -> None:
    logits, _ = tensors(rows)
    both = {"gamma": gamma, "label_smoothing": smoothing}
    torch.testing.assert_close(
        cross_entropy_focal_table(logits, share=0.0, **both),
        cross_entropy_table(logits, label_smoothing=smoothing),
    )
    torch.testing.assert_close(
        cross_entropy_focal_table(logits, share=1.0, **both), focal_table(logits, **both)
    )


@settings(deadline=None, max_examples=30)
@given(rows=rows_of_logits, smoothing=st.floats(0, 0.9))
def test_binary_cross_entropy_is_timms_summed_over_classes(rows: Rows, smoothing: float) -> None:
    logits, labels = tensors(rows)
    expected = BinaryCrossEntropy(smoothing=smoothing, sum_classes=True)(logits, labels)
    torch.testing.assert_close(
        under(bce_table(logits, label_smoothing=smoothing), labels), expected
    )


def test_effective_numbers_go_from_equal_weights_to_inverse_frequency() -> None:
    counts = np.array([10, 40, 50])
    assert effective_number_weights(counts, 0.0).tolist() == [1.0, 1.0, 1.0]
    inverse = effective_number_weights(counts, 1.0 - 1e-12)
    np.testing.assert_allclose(inverse, 100 / (3 * counts), rtol=1e-5)


@given(
    counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=8).filter(any),
    beta=st.floats(0, 1, exclude_max=True),
)
def test_class_weights_have_mean_1_over_the_rows_and_fall_with_the_count(
    counts: list[int], beta: float
) -> None:
    weights = effective_number_weights(np.array(counts), beta)
    assert np.isfinite(weights).all()
    assert weights @ np.array(counts) / sum(counts) == pytest.approx(1.0, rel=1e-4)
    order = np.argsort(counts, kind="stable")
    assert (np.diff(weights[order]) <= 1e-5 * weights[order][:-1]).all()


# --- what all of them hold -------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(rows=rows_of_logits, config=configs)
def test_one_hot_targets_give_what_class_indices_give(rows: Rows, config: LossConfig) -> None:
    logits, labels = tensors(rows)
    loss = build_loss(config, counts_of(logits))
    one_hot = F.one_hot(labels, logits.shape[1]).float()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, labels))


@settings(deadline=None, max_examples=50)
@given(rows=rows_of_logits, config=configs, share=st.floats(0, 1))
def test_mixed_targets_give_the_mixture_of_both_labels_losses(
    rows: Rows, config: LossConfig, share: float
) -> None:
    logits, labels = tensors(rows)
    classes = logits.shape[1]
    other = (labels + 1) % classes
    loss = build_loss(config, counts_of(logits))
    mixed = share * F.one_hot(labels, classes) + (1 - share) * F.one_hot(other, classes)
    expected = share * loss(logits, labels) + (1 - share) * loss(logits, other)
    torch.testing.assert_close(loss(logits, mixed), expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=80)
@given(rows=rows_of_logits, config=configs, seed=st.integers(0, 99))
def test_a_loss_is_not_negative_and_no_matter_of_order(
    rows: Rows, config: LossConfig, seed: int
) -> None:
    logits, labels = tensors(rows)
    loss = build_loss(config, counts_of(logits))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    value = loss(logits, labels)
    assert value.ndim == 0
    assert value >= -1e-12
    torch.testing.assert_close(loss(logits[order], labels[order]), value)


@settings(deadline=None, max_examples=50)
@given(rows=rows_of_logits, config=configs, cut=st.integers(0, 6))
def test_parts_of_a_batch_add_up_to_the_batch(rows: Rows, config: LossConfig, cut: int) -> None:
    logits, labels = tensors(rows)
    loss, n = build_loss(config, counts_of(logits)), len(labels)
    parts = [slice(0, min(cut, n)), slice(min(cut, n), n)]
    found = sum(
        loss(logits[part], labels[part]) * (part.stop - part.start) / n
        for part in parts
        if part.stop > part.start
    )
    torch.testing.assert_close(found, loss(logits, labels))


def test_class_weights_act_on_rows_of_each_class() -> None:
    counts = np.array([1, 2])
    config = LossConfig(name="cross_entropy", class_balance=0.5)
    expected = -(9 / 7 * math.log(0.75) + 6 / 7 * math.log(0.5)) / 2
    assert build_loss(config, counts)(LOGITS, LABELS).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("label", [0, 1])
def test_a_row_that_is_certain_has_a_finite_gradient(name: str, gamma: float, label: int) -> None:
    """Right or wrong. Where p_true is 1 the slope of (1 - p_true)**0.5 is infinite."""
    config = LossConfig(name=name, focal_gamma=gamma)
    output = torch.tensor([[1.0, -1.0]], requires_grad=True)
    given = Cosines(output, torch.ones(1)) if config.has_margin else output * 60.0
    build_loss(config, EVEN[:2])(given, torch.tensor([label])).backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    if label == 0 and not config.has_margin:
        torch.testing.assert_close(output.grad, torch.zeros(1, 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    config = LossConfig(name=name, label_smoothing=0.1)
    output = torch.tensor([[0.5, -0.25, 0.125], [0.0, 1.0, -0.5]])
    labels = torch.tensor([2, 1])
    loss = build_loss(config, EVEN)
    half, full = output.to(dtype), output
    if config.has_margin:
        norms = torch.tensor([1.0, 3.0])
        found, expected = loss(Cosines(half, norms), labels), loss(Cosines(full, norms), labels)
    else:
        found, expected = loss(half, labels), loss(full, labels)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_keys_of_other_losses_do_nothing() -> None:
    first = build_loss(LossConfig(name="cross_entropy", focal_gamma=2.0), EVEN[:2])
    second = build_loss(LossConfig(name="cross_entropy", focal_gamma=5.0, margin=1.0), EVEN[:2])
    assert first(LOGITS, LABELS) == second(LOGITS, LABELS)


# --- margin losses, whose logits are in test_margin_losses.py --------------------------------


@pytest.mark.parametrize("name", ["arcface", "adaface"])
def test_a_margin_loss_is_cross_entropy_of_its_logits(name: str) -> None:
    """One row, so that AdaFace has z = 0."""
    config = LossConfig(name=name, margin=0.5, scale=4.0)
    output = Cosines(torch.tensor([[0.6, 0.8]]), torch.tensor([2.0]))
    hard = {
        "arcface": 0.6 * math.cos(0.5) - 0.8 * math.sin(0.5),  # 3-4-5: the sine is 0.8
        "adaface": 0.6 - 0.5,
    }[name]
    expected = math.log(1 + math.exp(4.0 * (0.8 - hard)))
    found = build_loss(config, EVEN[:2])(output, torch.tensor([0])).item()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["arcface", "adaface"])
def test_class_weights_and_smoothing_act_on_margin_losses_too(name: str) -> None:
    output = Cosines(torch.tensor([[0.6, 0.8], [0.1, -0.3]]), torch.tensor([2.0, 2.0]))
    labels, counts = torch.tensor([0, 1]), np.array([1, 2])
    plain = LossConfig(name=name)
    each = [
        build_loss(plain, counts)(
            Cosines(output.cosines[i : i + 1], torch.ones(1)), labels[i : i + 1]
        )
        for i in range(2)
    ]
    weighted = build_loss(LossConfig(name=name, class_balance=0.5), counts)(output, labels)
    torch.testing.assert_close(weighted, (each[0] * 9 / 7 + each[1] * 6 / 7) / 2)
    smoothed = build_loss(LossConfig(name=name, label_smoothing=0.1), counts)(output, labels)
    assert smoothed != build_loss(plain, counts)(output, labels)


@pytest.mark.parametrize("name", ["arcface", "adaface"])
def test_a_margin_loss_refuses_mixed_labels_in_one_line(name: str) -> None:
    loss = build_loss(LossConfig(name=name), EVEN[:2])
    output = Cosines(torch.zeros(2, 2), torch.ones(2))
    with pytest.raises(ValueError, match=r"got targets \(2, 2\); set augment.mixup=0 and"):
        loss(output, torch.full((2, 2), 0.5))
