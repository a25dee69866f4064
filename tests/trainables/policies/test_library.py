from __future__ import annotations

import os

import cv2

from trainables.policies.library import albumentations


def test_the_library_comes_quietly_and_with_one_thread() -> None:
    assert hasattr(albumentations(), "ImageOnlyTransform")
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"]
    assert cv2.getNumThreads() == 1
