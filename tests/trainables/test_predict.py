from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainables.backbone import Normalisation
from trainables.precision import FULL, Precision
from trainables.predict import predict_probabilities

CPU = torch.device("cpu")
PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class MeanColour(nn.Module):
    """The logits are ten times the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dropout(images.mean(dim=(2, 3)) * 10.0)


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (7, 8, 8, 3), dtype=np.uint8)


def probabilities(batches: list[np.ndarray], precision: Precision = FULL) -> np.ndarray:
    return predict_probabilities(
        MeanColour(), batches, PLAIN, n_classes=3, device=CPU, precision=precision
    )


def test_probabilities_are_the_softmax_of_the_logits_in_evaluation_mode() -> None:
    logits = images().astype(np.float64).mean(axis=(1, 2)) / 25.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = probabilities([images()])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_size_of_the_batches_does_not_matter(size: int) -> None:
    whole = images()
    parts = [whole[start : start + size] for start in range(0, 7, size)]
    np.testing.assert_allclose(probabilities(parts), probabilities([whole]), atol=1e-6)


def test_no_image_gives_no_row() -> None:
    assert probabilities([]).shape == (0, 3)


def test_the_softmax_is_in_float32_under_autocast() -> None:
    found = probabilities([images()], Precision("bf16"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


def test_the_model_is_left_in_evaluation_mode_and_without_gradients() -> None:
    model = MeanColour().train()
    predict_probabilities(model, [images()], PLAIN, n_classes=3, device=CPU, precision=FULL)
    assert not model.training
    assert torch.is_grad_enabled()
