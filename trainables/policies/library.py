"""albumentations, imported when first needed: its import takes a second."""

from __future__ import annotations

import os
from typing import Any


def albumentations() -> Any:
    """The module. In this process OpenCV works with one thread from now on."""
    # Its import asks a server for the newest version unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    # One image is too small to share among threads; fold runs side by side use the cores.
    cv2.setNumThreads(0)
    return albumentations
