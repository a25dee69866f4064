"""Mixup and CutMix: two images of a batch in one, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from search_spaces.config import AugmentConfig
from trainables.on_device import sent

Images = TypeVar("Images", np.ndarray, torch.Tensor)
Labels = TypeVar("Labels", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Mix:
    """How a batch of n is mixed: image i becomes `lam` of itself and 1 - `lam` of `partner[i]`.

    kind     mixup: weighted sums; cutmix: `box` is the partner's
    lam      the image's own share, for cutmix the true share of the pixels
    box      y0, x0, y1, x1 in pixels; zeros for mixup
    partner  (n,) int64, its own inverse: two images are each other's partners, which lets them be
             mixed in place. In an odd batch one image is its own
    """

    kind: Literal["mixup", "cutmix"]
    lam: float
    box: tuple[int, int, int, int]
    partner: npt.NDArray[np.int64]

    @property
    def pairs(self) -> npt.NDArray[np.int64]:
        """(m, 2): every two partners once, an image without one twice."""
        own = np.arange(len(self.partner))
        return np.stack([own, self.partner], axis=1)[own <= self.partner]


def draw_mix(
    augment: AugmentConfig, n: int, image_size: int, generator: np.random.Generator
) -> Mix | None:
    """One draw for a batch of `n`: mixup, cutmix, or None for neither."""
    if not augment.mixes:
        return None
    kind = generator.random()
    if kind >= augment.mixup + augment.cutmix:
        return None
    partner = _draw_partners(n, generator)
    if kind < augment.mixup:
        lam = generator.beta(augment.mixup_alpha, augment.mixup_alpha)
        return Mix("mixup", float(lam), (0, 0, 0, 0), partner)
    lam = generator.beta(augment.cutmix_alpha, augment.cutmix_alpha)
    box = _draw_box(float(lam), image_size, generator)
    cut = (box[2] - box[0]) * (box[3] - box[1])
    return Mix("cutmix", 1.0 - cut / image_size**2, box, partner)


def mix_images(images: Images, mix: Mix) -> Images:
    """Mix a batch in place and return it: floats, (n, T, T, 3) as an array, (n, 3, T, T) as a
    tensor on any device."""
    y0, x0, y1, x1 = mix.box
    if isinstance(images, torch.Tensor):
        partner = sent(mix.partner, images.device)
        if mix.kind == "mixup":
            return images.lerp_(images[partner], 1.0 - mix.lam)
        images[:, :, y0:y1, x0:x1] = images[:, :, y0:y1, x0:x1][partner]
        return images
    if mix.kind == "mixup":
        others = images[mix.partner]
        images += (others - images) * images.dtype.type(1.0 - mix.lam)
        return images
    images[:, y0:y1, x0:x1] = images[:, y0:y1, x0:x1][mix.partner]
    return images


def mix_targets(labels: Labels, mix: Mix, n_classes: int) -> Labels:
    """(n, C) float32 probabilities out of (n,) int64 labels, as an array or as a tensor on any
    device; each row sums to 1."""
    if isinstance(labels, torch.Tensor):
        partner = sent(mix.partner, labels.device)
        return _two_hot(labels, labels[partner], mix.lam, n_classes)
    own, other = torch.from_numpy(labels), torch.from_numpy(labels[mix.partner])
    return _two_hot(own, other, mix.lam, n_classes).numpy()


def _two_hot(own: torch.Tensor, other: torch.Tensor, lam: float, n_classes: int) -> torch.Tensor:
    targets = torch.zeros(len(own), n_classes, device=own.device)
    targets.scatter_(1, own[:, None], lam)
    return targets.scatter_add_(1, other[:, None], torch.full_like(targets[:, :1], 1.0 - lam))


def _draw_partners(n: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    order, partner = generator.permutation(n), np.arange(n, dtype=np.int64)
    half = n // 2
    partner[order[:half]], partner[order[half : 2 * half]] = order[half : 2 * half], order[:half]
    return partner


def _draw_box(lam: float, size: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """A square of share 1 - `lam` about a uniform centre, cut at the image's edges (Yun et al.)."""
    side = int(size * np.sqrt(1.0 - lam))
    middle = generator.integers(0, size, 2)
    y0, x0 = np.clip(middle - side // 2, 0, size)
    y1, x1 = np.clip(middle + side // 2, 0, size)
    return int(y0), int(x0), int(y1), int(x1)
