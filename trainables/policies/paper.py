"""Paper: its colour and its texture, seen where the image is light."""

from __future__ import annotations

import random

import cv2
import numpy as np
import numpy.typing as npt

from trainables.images import Pixels
from trainables.policies.noise import FIELD_DEVIATION, noise_field

Floats = npt.NDArray[np.float32]
# White to yellowed, browned, greyed, and the coloured papers of forms.
PAPERS = (
    (250, 240, 215),
    (240, 222, 180),
    (225, 220, 212),
    (215, 225, 235),
    (250, 225, 225),
    (225, 240, 220),
)


def draw_paper(
    chooser: random.Random,
    generator: np.random.Generator,
    side: int,
    *,
    strength: float,
) -> dict[str, object]:
    """What `paper` takes: stains of the size of a few centimetres, and fibres."""
    stains = generator.standard_normal((7, 7), dtype=np.float32)
    return {
        "colour": chooser.choice(PAPERS),
        "amount": min(1.0, chooser.uniform(0.2, 0.4 + strength)),
        "stains": np.float32(0.04 * strength) * stains,
        "fibres": noise_field(generator, side, 1)[:, :, 0],
        "roughness": 0.05 * strength * chooser.random(),
    }


def paper(
    image: Pixels,
    colour: tuple[int, int, int],
    amount: float,
    stains: Floats,
    fibres: Pixels,
    roughness: float,
) -> Pixels:
    """`image` (s, s, 3) seen as ink on paper of `colour`: each channel times colour / 255, by the
    share `amount`; times 1 plus `stains` (k, k), smooth between; times 1 plus `fibres` (s, s), a
    noise field, at the deviation `roughness`."""
    side = image.shape[0]
    gain = 1.0 + cv2.resize(stains, (side, side), interpolation=cv2.INTER_CUBIC)
    scale = roughness / FIELD_DEVIATION
    soft = cv2.blur(fibres, (2, 2)).astype(np.float32)
    gain += np.float32(scale) * (soft - np.float32(127.5))
    gains = [gain * np.float32(1.0 - amount * (1.0 - value / 255.0)) for value in colour]
    return np.asarray(cv2.multiply(image, cv2.merge(gains), dtype=cv2.CV_8U), dtype=np.uint8)
