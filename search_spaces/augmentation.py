"""Typed: what happens to pixels before and while training. See `recipe.py` for the rest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from search_spaces.frozen import Frozen, PositiveInt, Probability

PolicyName = Literal[
    "none",
    "noise_blur",
    "morphology",
    "document",
    "randaugment",
    "autoaugment",
    "trivialaugment",
]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


class PreprocessConfig(Frozen):
    """What training, validation and test images all go through, once, when they are cached.

    denoise    non-local means (Buades et al. 2011, doi:10.5201/ipol.2011.bcm_nlm)
    clahe      contrast equalisation of the lightness (Zuiderveld 1994)
    grey       grey-scale, in three equal channels
    resize     squash: to a square, the ratio of the sides lost; letterbox: the whole image, padded
               to a square; crop: random resized crops in training (`augment.crop_min`), the
               centre square elsewhere (Szegedy et al. 2015, arXiv:1409.4842)
    fill       the grey value, 0 to 255, of padding and of what turns bring in from outside
    normalize  model: mean and deviation of the pretrained weights; dataset: of the labelled images
    """

    name: str = "none"
    denoise: bool = False
    clahe: bool = False
    grey: bool = False
    resize: Literal["squash", "letterbox", "crop"] = "squash"
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    normalize: Literal["model", "dataset"] = "model"


class AugmentConfig(Frozen):
    """Random changes of training images, in this order: geometry, policy, colour, erasing, mixing.

    Geometry, one resampling for all of it. Probabilities per image: `horizontal_flip`,
    `vertical_flip`, `quarter_turns` (a random one of 90, 180, 270 degrees), `affine`. Angles in
    degrees: `rotate_degrees`, `shear_degrees`, uniform in plus and minus. `shift` and `zoom` as
    fractions of the side. `crop_min`: the smallest share of the area of a random resized crop,
    1 for none; its ratio of sides is log-uniform between 1 / `crop_ratio` and `crop_ratio`.

    Policy: albumentations on each image, with probability `policy_p`. `strength` from 0 (hardly
    seen) to 1; `operations`: how many of its operations randaugment takes.

    Colour: factors uniform in 1 plus or minus `brightness`, `contrast`, `saturation`.

    Erasing: with probability `erase` a rectangle of a share of the area in [`erase_min`,
    `erase_max`] becomes the mean colour (Zhong et al. 2020, arXiv:1708.04896).

    Mixing, probabilities per batch: `mixup` (Zhang et al. 2018, arXiv:1710.09412) and `cutmix`
    (Yun et al. 2019, arXiv:1905.04899), shares drawn from Beta(alpha, alpha)."""

    name: str
    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    quarter_turns: Probability = 0.0
    affine: Probability = 1.0
    rotate_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    shear_degrees: Annotated[float, Field(ge=0.0, le=60.0)] = 0.0
    shift: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    zoom: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    crop_min: Share = 1.0
    crop_ratio: Annotated[float, Field(ge=1.0, le=10.0)] = 4 / 3
    policy: PolicyName = "none"
    policy_p: Probability = 1.0
    strength: Probability = 0.5
    operations: Annotated[int, Field(ge=1, le=10)] = 2
    brightness: Probability = 0.0
    contrast: Probability = 0.0
    saturation: Probability = 0.0
    erase: Probability = 0.0
    erase_min: Share = 0.02
    erase_max: Share = 0.12
    mixup: Probability = 0.0
    mixup_alpha: Annotated[float, Field(gt=0.0, le=10.0)] = 0.2
    cutmix: Probability = 0.0
    cutmix_alpha: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0

    @model_validator(mode="after")
    def _is_possible(self) -> AugmentConfig:
        if self.mixup + self.cutmix > 1.0:
            raise ValueError(
                f"mixup={self.mixup:g} and cutmix={self.cutmix:g} are shares of the batches and "
                "must not sum to more than 1"
            )
        if self.erase_min > self.erase_max:
            raise ValueError(
                f"erase_min={self.erase_min:g} must be at most erase_max={self.erase_max:g}"
            )
        return self

    @property
    def mixes(self) -> bool:
        """Whether labels of two images can end up in one."""
        return self.mixup + self.cutmix > 0.0

    @property
    def changes_nothing(self) -> bool:
        """Whether every image stays as it is, whatever is drawn. `name` does not count: a member
        may be changed by its keys."""
        moves = (self.rotate_degrees, self.shear_degrees, self.shift, self.zoom)
        return not (
            self.horizontal_flip
            or self.vertical_flip
            or self.quarter_turns
            or (self.affine and any(moves))
            or self.crop_min < 1.0
            or (self.policy != "none" and self.policy_p)
            or self.brightness
            or self.contrast
            or self.saturation
            or self.erase
            or self.mixes
        )


class TtaConfig(Frozen):
    """Views of each out-of-fold and test image whose predictions are averaged.

    Every combination of the flips, the quarter turns and the `scales` (1.0 is the whole image, 1.2
    its middle at 1.2 times the size), and `training` random draws of the training policy, fixed by
    (seed, image id). `average`: over logits (a geometric mean) or over probabilities."""

    name: str = "none"
    horizontal_flip: bool = False
    vertical_flip: bool = False
    quarter_turns: bool = False
    scales: tuple[Annotated[float, Field(ge=0.25, le=4.0)], ...] = (1.0,)
    training: Annotated[int, Field(ge=0, le=64)] = 0
    average: Literal["probabilities", "logits"] = "probabilities"

    @model_validator(mode="after")
    def _has_a_view(self) -> TtaConfig:
        if not self.scales:
            raise ValueError("scales must name at least one, such as [1.0]")
        return self

    @property
    def views(self) -> int:
        """How often each image goes through the model."""
        flips = (1 + self.horizontal_flip) * (1 + self.vertical_flip)
        return flips * (4 if self.quarter_turns else 1) * len(self.scales) + self.training


class AveragingConfig(Frozen):
    """What is kept of a fold run's weights.

    ema        exponential moving average of the weights after every step (Polyak and Juditsky
               1992); the decay grows to `decay` as min(decay, (1 + step) / (10 + step))
    swa        equal average of the weights after each epoch from `swa_from` (a fraction of the
               epochs) on (Izmailov et al. 2018, arXiv:1803.05407)
    snapshots  so many points of the run, evenly spaced, each kept as a member of its own (Huang et
               al. 2017, arXiv:1704.00109); best with schedule=cosine_restarts of as many cycles

    `snapshot`: which of these points a stored member is, 0 for the end of the run. It is set by
    the fold run, not by a person."""

    name: Literal["none", "ema", "swa"] = "none"
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.998
    swa_from: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.75
    snapshots: Annotated[int, Field(ge=1, le=20)] = 1
    snapshot: Annotated[int, Field(ge=0, le=19)] = 0

    @property
    def averages(self) -> bool:
        return self.name != "none"


__all__ = [
    "AugmentConfig",
    "AveragingConfig",
    "PolicyName",
    "PositiveInt",
    "PreprocessConfig",
    "TtaConfig",
]
