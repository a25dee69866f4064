"""What every image goes through before anything learns from it: denoise, equalise, grey.

One function for training, validation and test images, and for new ones in prediction. It is applied
to the square that is cached, after the reduction to cache size: averaging has taken out most of
the noise by then, it costs the same for a scan of 50 million pixels as for a thumbnail, and the
result depends on the file and the cache size only.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from search_spaces.config import PreprocessConfig
from trainables.images import Pixels, read_square_and_aspect

AS_IT_IS = PreprocessConfig()

# Non-local means: filter strength in grey levels, sides of what is compared and of where it is
# looked for, in pixels (Buades et al. 2011, table 1, between its rows for little and much noise).
DENOISE_STRENGTH = 6.0
DENOISE_PATCH = 5
DENOISE_WINDOW = 15
# Contrast equalisation: how far a tile's histogram may be stretched, tiles a side.
CLAHE_LIMIT = 2.0
CLAHE_TILES = 8


def prepared_square(
    source: str | Path | bytes, size: int, config: PreprocessConfig = AS_IT_IS, name: str = ""
) -> tuple[Pixels, float]:
    """What a model is given of an image file: (size, size, 3) uint8 RGB, decoded, squashed and
    preprocessed, and width / height of the original. The caches, decoding on the fly and
    prediction all call this. Raises UnreadableImageError as `decode_image`; `name` is for bytes.
    """
    square, aspect = read_square_and_aspect(source, size, name)
    return preprocess_image(square, config), aspect


def preprocess_image(image: Pixels, config: PreprocessConfig) -> Pixels:
    """(H, W, 3) uint8 RGB to the same, in this order: `denoise`, `clahe`, `grey`. The input is not
    changed, and is itself returned where there is nothing to do. `resize`, `fill` and `normalize`
    are not done here: they do not change the cached square."""
    if config.denoise:
        image = _denoise(image)
    if config.clahe:
        image = _equalise(image)
    if config.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(image, dtype=np.uint8)


def pixels_key(config: PreprocessConfig) -> str:
    """Short text that differs where pixels do: "d", "c" and "g" for what is done, "" for none."""
    return "d" * config.denoise + "c" * config.clahe + "g" * config.grey


def _denoise(image: Pixels) -> Pixels:
    # Colour noise is seen less and disturbs as much: the same strength for both.
    return np.asarray(
        cv2.fastNlMeansDenoisingColored(
            image, None, DENOISE_STRENGTH, DENOISE_STRENGTH, DENOISE_PATCH, DENOISE_WINDOW
        )
    )


def _equalise(image: Pixels) -> Pixels:
    light, green_red, blue_yellow = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
    clahe = cv2.createCLAHE(CLAHE_LIMIT, (CLAHE_TILES, CLAHE_TILES))
    equalised = cv2.merge((clahe.apply(light), green_red, blue_yellow))
    return np.asarray(cv2.cvtColor(equalised, cv2.COLOR_LAB2RGB))
