from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainables.precision import FULL, Precision
from trainables.predict import mean_of_views, predict_probabilities, to_input
from trainables.recipe import Normalisation

CPU = torch.device("cpu")
PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class MeanColour(nn.Module):
    """The logits are ten times the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dropout(images.mean(dim=(2, 3)) * 10.0)


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (7, 8, 8, 3), dtype=np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def logits_of(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float64).mean(axis=(1, 2)) / 25.5


def probabilities(
    batches: list[list[np.ndarray]], precision: Precision = FULL, average: str = "probabilities"
) -> np.ndarray:
    return predict_probabilities(
        MeanColour(),
        batches,
        PLAIN,
        n_classes=3,
        device=CPU,
        precision=precision,
        average=average,  # type: ignore[arg-type]
    )


def test_probabilities_are_the_softmax_of_the_logits_in_evaluation_mode() -> None:
    found = probabilities([[images()]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax(logits_of(images())), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_size_of_the_batches_does_not_matter(size: int) -> None:
    whole = images()
    parts = [[whole[start : start + size]] for start in range(0, 7, size)]
    np.testing.assert_allclose(probabilities(parts), probabilities([[whole]]), atol=1e-6)


def test_views_are_averaged_over_probabilities_or_over_logits() -> None:
    views = [images(0), images(1), images(2)]
    logits = np.stack([logits_of(one) for one in views])
    by_probability = probabilities([views])
    np.testing.assert_allclose(by_probability, softmax(logits).mean(axis=0), atol=1e-5)
    by_logit = probabilities([views], average="logits")
    np.testing.assert_allclose(by_logit, softmax(logits.mean(axis=0)), atol=1e-5)
    assert np.abs(by_logit - by_probability).max() > 1e-4


def test_one_view_averages_to_itself() -> None:
    logits = torch.randn(1, 5, 3)
    for average in ("probabilities", "logits"):
        found = mean_of_views(logits, average)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, logits[0].softmax(dim=1).numpy(), atol=1e-6)


def test_no_image_gives_no_row() -> None:
    assert probabilities([]).shape == (0, 3)


def test_the_softmax_is_in_float32_under_autocast() -> None:
    found = probabilities([[images()]], Precision("bf16"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


def test_the_model_is_left_in_evaluation_mode_and_without_gradients() -> None:
    model = MeanColour().train()
    done: list[int] = []
    predict_probabilities(
        model,
        [[images()], [images()[:2]]],
        PLAIN,
        n_classes=3,
        device=CPU,
        precision=FULL,
        after_batch=done.append,
    )
    assert not model.training
    assert torch.is_grad_enabled()
    assert done == [7, 2]


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_input_is_normalised(channels_last: bool) -> None:
    pixels = np.zeros((2, 4, 5, 3), np.uint8)
    pixels[0, 1, 2] = (255, 51, 0)
    normalisation = Normalisation(mean=(0.5, 0.2, 0.1), std=(0.25, 0.5, 0.1))
    found = to_input(pixels, normalisation, CPU, channels_last=channels_last)
    assert found.shape == (2, 3, 4, 5)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last) is channels_last
    torch.testing.assert_close(found[0, :, 1, 2], torch.tensor([2.0, 0.0, -1.0]))
    torch.testing.assert_close(found[1, :, 0, 0], torch.tensor([-2.0, -0.4, -1.0]))
