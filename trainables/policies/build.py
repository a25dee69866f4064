"""A policy by its name: the door that the input pipeline uses."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from search_spaces.config import AugmentConfig
from trainables.images import Pixels
from trainables.policies.autoaugment import autoaugment_steps
from trainables.policies.document import document_steps
from trainables.policies.morphology import morphology_steps
from trainables.policies.noise_blur import noise_blur_steps
from trainables.policies.randaugment import randaugment_steps
from trainables.policies.trivialaugment import trivialaugment_steps

# (config, side of the images in pixels, grey value of what comes in from outside) to transforms.
Steps = Callable[[AugmentConfig, int, int], list[Any]]

STEPS: Mapping[str, Steps] = {
    "noise_blur": noise_blur_steps,
    "morphology": morphology_steps,
    "document": document_steps,
    "randaugment": randaugment_steps,
    "trivialaugment": trivialaugment_steps,
    "autoaugment": autoaugment_steps,
}


def build_policy(config: AugmentConfig, fill: int = 0) -> Policy | None:
    """The policy that `config.policy` names; None for "none" and where it is never applied.

    `fill`: the grey value, 0 to 255, of what comes in from outside the image."""
    if config.policy == "none" or config.policy_p == 0.0:
        return None
    return Policy(config, fill)


class Policy:
    """Random changes of one image: uint8 RGB (side, side, 3) in and out. The given one is not
    written to; it is itself returned where nothing is drawn.

    After `reseed(seed)` what follows is the same in every process. A pickled policy is its
    configuration: it starts at seed 0 where it is read, and builds its transforms there."""

    def __init__(self, config: AugmentConfig, fill: int = 0) -> None:
        self._config, self._fill = config, fill
        self._steps: dict[int, list[Any]] = {}
        self.reseed(0)

    def reseed(self, seed: int) -> None:
        """`seed`: any integer from 0 on."""
        self._random = random.Random(seed)
        self._generator = np.random.default_rng(seed)
        for steps in self._steps.values():
            self._share(steps)

    def __call__(self, image: Pixels) -> Pixels:
        if self._random.random() >= self._config.policy_p:
            return image
        changed = np.ascontiguousarray(image)
        for step in self._steps_for(image.shape[0]):
            changed = step(image=changed)["image"]
        return changed

    def _steps_for(self, side: int) -> list[Any]:
        """Lengths in pixels follow the side, so each side has its own transforms."""
        if side not in self._steps:
            self._steps[side] = STEPS[self._config.policy](self._config, side, self._fill)
            self._share(self._steps[side])
        return self._steps[side]

    def _share(self, steps: list[Any]) -> None:
        # `set_random_seed` of a Compose gives every step the same seed: their draws would be equal,
        # so that, say, noise came with blur always or never. One generator for all is independent.
        for step in steps:
            step.set_random_state(self._generator, self._random)

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self._config, "fill": self._fill}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["config"], state["fill"])  # type: ignore[misc]
