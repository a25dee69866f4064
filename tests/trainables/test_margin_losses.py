from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.composed import Cosines
from trainables.margin_losses import adaface_logits, add_angle, arcface_logits, relative_norms

THETAS = torch.linspace(0.0, math.pi, 2001, dtype=torch.float64)

rows = st.integers(2, 4).flatmap(
    lambda classes: st.lists(
        st.tuples(
            st.lists(st.floats(-1, 1, width=32), min_size=classes, max_size=classes),
            st.floats(0.5, 50, width=32),
            st.integers(0, classes - 1),
        ),
        min_size=1,
        max_size=6,
    )
)
Rows = list[tuple[list[float], float, int]]
margins = st.floats(0, 1.5)


def given_by(rows: Rows) -> tuple[Cosines, Tensor]:
    cosines, norms, labels = zip(*rows, strict=True)
    return Cosines(torch.tensor(cosines), torch.tensor(norms)), torch.tensor(labels)


def test_arcface_turns_the_label_away_by_hand() -> None:
    """60 degrees and a margin of 30 are 90, whose cosine is 0; 120 and 30 are 150."""
    output = Cosines(torch.tensor([[0.5, 0.1], [0.1, -0.5]]), torch.ones(2))
    found = arcface_logits(output, torch.tensor([0, 1]), margin=math.pi / 6, scale=10.0)
    expected = [[0.0, 1.0], [1.0, -10.0 * math.sqrt(3) / 2]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_adaface_of_two_norms_by_hand() -> None:
    """Norms 1 and 3 deviate by 1 from 2: with h 1, z is -1 and 1. The short row, of 60 degrees, is
    turned by 30 as in ArcFace; the long one is turned back by 30 and 2 margins are taken off."""
    output = Cosines(torch.tensor([[0.5, 0.1], [0.1, 0.0]]), torch.tensor([1.0, 3.0]))
    found = adaface_logits(
        output, torch.tensor([0, 1]), margin=math.pi / 6, scale=10.0, concentration=1.0
    )
    expected = [[0.0, 1.0], [1.0, 10.0 * (0.5 - 2 * math.pi / 6)]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=0.05, rtol=0.0)


@given(rows=rows, scale=st.floats(1, 64))
def test_without_a_margin_both_are_the_scaled_cosines(rows: Rows, scale: float) -> None:
    output, labels = given_by(rows)
    expected = output.cosines * scale
    torch.testing.assert_close(arcface_logits(output, labels, margin=0.0, scale=scale), expected)
    adaface = adaface_logits(output, labels, margin=0.0, scale=scale, concentration=0.333)
    torch.testing.assert_close(adaface, expected)


@given(rows=rows, margin=margins)
def test_adaface_that_ignores_the_norm_is_cosface(rows: Rows, margin: float) -> None:
    output, labels = given_by(rows)
    found = adaface_logits(output, labels, margin=margin, scale=1.0, concentration=0.0)
    expected = output.cosines.clone()
    expected[torch.arange(len(labels)), labels] -= margin
    torch.testing.assert_close(found, expected)


@given(rows=rows, margin=margins)
def test_adaface_of_the_shortest_norms_is_arcface(rows: Rows, margin: float) -> None:
    """One long row beside them pulls the mean so far up that their z is clipped to -1."""
    output, labels = given_by([*rows, rows[0]])
    norms = torch.ones(len(labels))
    norms[-1] = 1000.0
    given = Cosines(output.cosines, norms)
    found = adaface_logits(given, labels, margin=margin, scale=8.0, concentration=1e6)
    expected = arcface_logits(given, labels, margin=margin, scale=8.0)
    torch.testing.assert_close(found[:-1], expected[:-1])


@settings(deadline=None)
@given(rows=rows, margin=margins, seed=st.integers(0, 99))
def test_only_the_labels_logit_changes_and_only_down_whatever_the_order(
    rows: Rows, margin: float, seed: int
) -> None:
    output, labels = given_by(rows)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = Cosines(output.cosines[order], output.norms[order])
    for logits in (
        lambda o, y: arcface_logits(o, y, margin=margin, scale=1.0),
        lambda o, y: adaface_logits(o, y, margin=margin, scale=1.0, concentration=0.333),
    ):
        found = logits(output, labels)
        others = torch.ones_like(found, dtype=torch.bool).scatter(1, labels[:, None], False)
        assert torch.equal(found[others], output.cosines[others])
        assert (found[~others] <= output.cosines[~others] + 2e-3).all()
        torch.testing.assert_close(logits(shuffled, labels[order]), found[order])


@given(angle=st.floats(0, 1.5))
def test_a_worse_angle_is_never_rewarded_even_beyond_pi(angle: float) -> None:
    """Without care cos(theta + angle) rises again beyond pi. Near 0 and pi sines are held from 0,
    which flattens the ends a little."""
    added = add_angle(THETAS.cos(), torch.full_like(THETAS, angle))
    assert (added.diff() <= 1e-3).all()
    within = (THETAS > 2e-3) & (THETAS + angle < math.pi - 2e-3)
    torch.testing.assert_close(added[within], (THETAS + angle)[within].cos())


@given(angle=st.floats(0, 1.5))
def test_an_angle_is_taken_back_no_further_than_to_the_label_itself(angle: float) -> None:
    added = add_angle(THETAS.cos(), torch.full_like(THETAS, -angle))
    expected = (THETAS - angle).clamp_min(0.0).cos()
    torch.testing.assert_close(added, expected, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("cosine", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("angle", [0.5, 0.0, -0.5])
def test_gradients_are_finite_at_the_poles(cosine: float, angle: float) -> None:
    cosines = torch.tensor([cosine], requires_grad=True)
    add_angle(cosines, torch.tensor([angle])).sum().backward()
    assert cosines.grad is not None
    assert torch.isfinite(cosines.grad).all()


@settings(deadline=None)
@given(
    norms=st.lists(st.floats(0.125, 100, width=32), min_size=1, max_size=8),
    factor=st.sampled_from([0.01, 1.0, 1000.0]),
)
def test_relative_norms_are_within_1_have_mean_near_0_and_know_no_unit(
    norms: list[float], factor: float
) -> None:
    values = torch.tensor(norms)
    found = relative_norms(values, 0.05)  # so little that nothing is clipped
    assert found.abs().max() <= 1.0
    assert found.mean().abs() < 1e-3
    torch.testing.assert_close(relative_norms(values * factor, 0.05), found, atol=1e-4, rtol=1e-3)
    assert (relative_norms(values, 1e9).abs() <= 1.0).all()


@pytest.mark.parametrize("norms", [[7.3], [7.3, 7.3, 7.3], [0.0, 0.0]])
def test_one_row_or_equal_norms_have_no_quality(norms: list[float]) -> None:
    found = relative_norms(torch.tensor(norms), 0.333)
    torch.testing.assert_close(found, torch.zeros(len(norms)), atol=1e-3, rtol=0.0)


def test_no_gradient_goes_through_the_norms() -> None:
    norms = torch.tensor([1.0, 2.0], requires_grad=True)
    cosines = torch.tensor([[0.1, 0.2], [0.3, 0.4]], requires_grad=True)
    logits = adaface_logits(
        Cosines(cosines, norms), torch.tensor([0, 1]), margin=0.3, scale=8.0, concentration=0.333
    )
    logits.sum().backward()
    assert norms.grad is None
    assert cosines.grad is not None
