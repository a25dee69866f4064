"""Typed: one point of the search space. A configuration is a backbone with its whole recipe."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from search_spaces.augmentation import (
    AugmentConfig,
    AveragingConfig,
    PreprocessConfig,
    TtaConfig,
)
from search_spaces.frozen import Frozen, PositiveInt

MARGIN_LOSSES = ("arcface", "adaface")
# The keys of the first version, all of which count in a configuration's identity.
FIRST_KEYS = {
    "backbone": ("name", "pretrained", "weights", "drop_rate", "drop_path_rate"),
    "augment": (
        *("name", "horizontal_flip", "vertical_flip", "affine", "rotate_degrees"),
        *("shift", "zoom", "brightness", "contrast", "erase"),
    ),
    "loss": ("name", "label_smoothing", "focal_gamma"),
    "optimizer": ("name", "lr", "weight_decay"),
    "schedule": ("name", "warmup_fraction", "final_fraction"),
    "train": ("epochs", "batch_size", "image_size", "clip_grad", "precision", "keep"),
}


class BackboneConfig(Frozen):
    """A timm model. `name` may be a hub id (`hf_hub:owner/model`) or a folder
    (`local-dir:folder`).

    weights             a local checkpoint (.safetensors, or .pth of tensors) loaded instead of the
                        hub's, or a folder of such files, one named after each model
    from_run            a folder `RUN/weights/CONFIG_ID` of an earlier run of the same folds: each
                        fold run starts from the weights of its own fold
    second              another timm model: the features of both, concatenated, go into one
                        classifier. `second_weights`, `second_from_run`: as above, for it
    freeze_epochs       so many epochs only the classifier learns; then everything, or with
                        `unfreeze: gradual` one more stage an epoch, the last first (Howard and
                        Ruder 2018, arXiv:1801.06146)
    layer_decay         the learning rate of each stage is this times that of the one after it, 1
                        for equal rates (Clark et al. 2020, arXiv:2003.10555)
    grad_checkpointing  activations are computed again in the backward pass: less memory, slower
    """

    name: str
    pretrained: bool = False
    weights: str | None = None
    from_run: str | None = None
    second: str | None = None
    second_weights: str | None = None
    second_from_run: str | None = None
    drop_rate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    drop_path_rate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    unfreeze: Literal["all", "gradual"] = "all"
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    grad_checkpointing: bool = False

    @model_validator(mode="after")
    def _second_is_named(self) -> BackboneConfig:
        if self.second is None and (self.second_weights or self.second_from_run):
            raise ValueError("second must name a timm model where its weights are given")
        for prefix in ("", "second_"):
            if getattr(self, f"{prefix}weights") and getattr(self, f"{prefix}from_run"):
                raise ValueError(f"{prefix}weights and {prefix}from_run exclude each other")
        return self


class LossConfig(Frozen):
    """What training minimises.

    cross_entropy        with `label_smoothing` (Szegedy et al. 2016, arXiv:1512.00567)
    focal                `focal_gamma` (Lin et al. 2017, arXiv:1708.02002)
    cross_entropy_focal  (1 - `focal_share`) * cross entropy + `focal_share` * focal
    bce                  binary cross entropy a class (Wightman et al. 2021, arXiv:2110.00476)
    arcface              additive angular `margin` at `scale` (Deng et al. 2019, arXiv:1801.07698)
    adaface              the margin follows the feature's norm (Kim et al. 2022, arXiv:2204.00964),
                         with concentration `adaface_h`

    `class_balance`: beta of the effective number of images a class (Cui et al. 2019,
    arXiv:1901.05555), 0 for equal weights. It acts on every loss."""

    name: Literal["cross_entropy", "focal", "cross_entropy_focal", "bce", "arcface", "adaface"]
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    focal_gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    focal_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    class_balance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    margin: Annotated[float, Field(ge=0.0, le=1.5)] = 0.3
    scale: Annotated[float, Field(gt=0.0, le=128.0)] = 30.0
    adaface_h: Annotated[float, Field(ge=0.0, le=1.0)] = 0.333

    @property
    def has_margin(self) -> bool:
        return self.name in MARGIN_LOSSES


class OptimizerConfig(Frozen):
    """`name` as timm's optimizer factory knows it. `momentum` only where the optimizer has one.
    `l1` and `l2`: penalties on the weights, added to the loss, 0 for none; `weight_decay` is the
    optimizer's own."""

    name: str
    lr: Annotated[float, Field(gt=0.0, le=10.0)]
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    l1: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    l2: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0


class ScheduleConfig(Frozen):
    """The learning rate over the steps, after a linear warm-up over `warmup_fraction` of them.

    cosine           down to `final_fraction * lr` (Loshchilov and Hutter 2017, arXiv:1608.03983)
    cosine_restarts  the same in `cycles` equal cycles, each peak `cycle_decay` times the one before
    step             times `step_factor` after every `step_fraction` of the steps
    plateau          times `step_factor` where the *training* loss has not improved for
                     `plateau_patience` epochs: the validation loss would let labels reach their
                     own out-of-fold rows
    constant
    """

    name: Literal["cosine", "cosine_restarts", "step", "plateau", "constant"]
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    final_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    cycles: Annotated[int, Field(ge=1, le=100)] = 3
    cycle_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    step_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    step_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    plateau_patience: PositiveInt = 2


class TrainConfig(Frozen):
    """`image_size` in pixels (square); `clip_grad` as a gradient norm, 0 for none.

    batch_size   images a step of the optimizer
    micro_batch  images through the model at once, gradients accumulated; null is the whole batch.
                 Where memory runs out it is halved and the run goes on
    precision    auto: bf16 or fp16 on a GPU, fp32 on a CPU
    compile      torch.compile: half a minute of waiting for a faster step on a GPU
    channels_last, tf32  memory layout, and ten-bit mantissas in float32 products on a GPU
    keep         best: the epoch is chosen on the validation fold, which makes its out-of-fold rows
                 optimistic
    patience     end the fold run after so many epochs without a better validation score, 0 for
                 never; optimistic likewise
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    image_size: Annotated[int, Field(ge=8, le=4096)]
    micro_batch: PositiveInt | None = None
    clip_grad: Annotated[float, Field(ge=0.0)] = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    tf32: bool = True
    compile: bool = False
    keep: Literal["last", "best"] = "last"
    patience: Annotated[int, Field(ge=0)] = 0

    @property
    def is_optimistic(self) -> bool:
        """Whether validation labels chose the epoch."""
        return self.keep == "best" or self.patience > 0


class Configuration(Frozen):
    """One point of the search space: a backbone and every hyper-parameter."""

    backbone: BackboneConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    augment: AugmentConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    train: TrainConfig
    averaging: AveragingConfig = AveragingConfig()
    tta: TtaConfig = TtaConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Configuration:
        if self.loss.has_margin and self.augment.mixes:
            raise ValueError(
                f"loss.name={self.loss.name}: a margin needs one label an image; set "
                "augment.mixup=0 and augment.cutmix=0, or choose another loss"
            )
        if self.averaging.snapshots > self.train.epochs:
            raise ValueError(
                f"averaging.snapshots={self.averaging.snapshots}: must be at most train.epochs="
                f"{self.train.epochs}"
            )
        if self.averaging.snapshots > 1 and self.train.is_optimistic:
            raise ValueError(
                "averaging.snapshots: needs train.keep=last and train.patience=0, the points are "
                "fixed beforehand"
            )
        if self.averaging.name == "swa" and self.train.is_optimistic:
            raise ValueError(
                "averaging.name=swa: needs train.keep=last and train.patience=0, the average is "
                "taken at the end"
            )
        return self

    @property
    def config_id(self) -> str:
        """A short stable hash of every value. A key that came after the first version counts only
        where it is not the default, so that new keys leave old runs their names. The hash starts
        with a letter so that no Parquet reader takes the folder name `config_id=…` for a number."""
        text = json.dumps(self._identity(), sort_keys=True, separators=(",", ":"))
        return "c" + hashlib.sha256(text.encode()).hexdigest()[:9]

    def _identity(self) -> dict[str, dict[str, object]]:
        every, changed = self.model_dump(mode="json"), self.model_dump(exclude_defaults=True)
        kept = {
            group: {
                key: value
                for key, value in values.items()
                if key in FIRST_KEYS.get(group, ()) or key in changed.get(group, {})
            }
            for group, values in every.items()
        }
        return {group: values for group, values in kept.items() if values}

    def at_snapshot(self, number: int) -> Configuration:
        """The configuration under which point `number` of the run is stored; 0 is its end."""
        averaging = self.averaging.model_copy(update={"snapshot": number})
        return self.model_copy(update={"averaging": averaging})
