"""The typed configuration: what a run is told, checked once and frozen.

`RunConfig` is fixed for a whole run (data, folds, search, blend). `Configuration` (`recipe.py`) is
one point of the search space: a backbone with every hyper-parameter. Both come out of `compose.py`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from search_spaces.augmentation import (
    AugmentConfig,
    AveragingConfig,
    PreprocessConfig,
    TtaConfig,
)
from search_spaces.frozen import Frozen, PositiveInt, Probability
from search_spaces.recipe import (
    BackboneConfig,
    Configuration,
    LossConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

__all__ = [
    "BLEND_METRICS",
    "CONFIGURATION_GROUPS",
    "RUN_KEYS",
    "AugmentConfig",
    "AveragingConfig",
    "BackboneConfig",
    "BlendConfig",
    "Configuration",
    "DataConfig",
    "LossConfig",
    "OptimizerConfig",
    "PreprocessConfig",
    "ResourcesConfig",
    "RunConfig",
    "ScheduleConfig",
    "SearchConfig",
    "TrainConfig",
    "TtaConfig",
]

FolderName = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]
MetricName = Literal["log_loss", "accuracy", "macro_f1"]
BLEND_METRICS = (
    "log_loss",
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "quadratic_kappa",
    "auc",
    "brier",
    "ece",
)
# Families of metrics with a name of their own inside: top_5_accuracy, sklearn:f1_weighted.
BLEND_METRIC_FAMILIES = re.compile(r"top_[1-9]\d*_accuracy|sklearn:\w+")
BlendMethodName = Literal[
    "auto",
    "best_single",
    "equal",
    "log_mean",
    "rank_mean",
    "vote",
    "convex",
    "greedy",
    "bagged",
    "swap",
    "class_mean",
    "stacking",
]


# --- the run: fixed for all configurations -----------------------------------------------------


class DataConfig(Frozen):
    """Where the labelled images are. Only the fields of the chosen `source` are used.

    folder   `path` holds one folder of images per class
    csv      `path` is a table with an image name and a label a row, the images in `images`
    parquet  the same as a Parquet table
    digits   scikit-learn's handwritten digits, written out as PNG

    Tables and folders are paths that every machine has, or URIs (s3://bucket/train.csv).

    cache_dir   where every machine keeps decoded images; null is its FOLDBLEND_CACHE_DIR, else the
                user's cache folder
    cache_size  side in pixels of the decoded images; null is the largest image size of the search,
                with a margin where training crops
    cache_gb    bound on all decoded images in `cache_dir`; null is half of the free disk. What does
                not fit is decoded on the fly
    workers     processes that prepare batches; null measures at the start of a fold run
    """

    source: Literal["folder", "csv", "parquet", "digits"]
    path: str | None = None
    images: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    classes: str | None = None
    test_images: str | None = None
    sample_submission: str | None = None
    on_bad_image: Literal["error", "drop"] = "error"
    cache_dir: str | None = None
    cache_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    cache_gb: Annotated[float, Field(ge=0.0)] | None = None
    workers: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _has_a_path(self) -> DataConfig:
        if self.source != "digits" and not self.path:
            raise ValueError(f"data.path is needed for data.source={self.source}")
        return self


class FoldsConfig(Frozen):
    """`kind: auto` is stratified, and stratified_grouped where there is a group column."""

    k: Annotated[int, Field(ge=2, le=100)] = 5
    kind: Literal["auto", "stratified", "grouped", "stratified_grouped"] = "auto"


class BudgetConfig(Frozen):
    """The search ends when one of these is spent; null is no bound. One fold-epoch is one epoch of
    one fold run. `hours` bounds exploring: members that were promoted by then are completed."""

    configurations: PositiveInt | None = None
    fold_epochs: PositiveInt | None = None
    hours: Annotated[float, Field(gt=0.0)] | None = None

    @model_validator(mode="after")
    def _is_bounded(self) -> BudgetConfig:
        if self.configurations is None and self.fold_epochs is None and self.hours is None:
            raise ValueError("one of configurations, fold_epochs or hours must be set")
        return self


class PruningConfig(Frozen):
    """ASHA (Li et al. 2020, arXiv:1810.05934) on the probe fold: at epochs `min_epochs *
    reduction_factor**i` the best 1/reduction_factor goes on. Each backbone is judged against its
    own kind; from `across_backbones_from` (a fraction of the epochs) on, against all."""

    enabled: bool = True
    min_epochs: PositiveInt = 1
    reduction_factor: Annotated[float, Field(gt=1.0, le=10.0)] = 2.0
    across_backbones_from: Probability = 1.0


class PromotionConfig(Frozen):
    """How many configurations earn their remaining folds. `each_backbone`: the best of every
    backbone before a second one of any, so that an ensemble has more than one kind."""

    members: PositiveInt = 4
    each_backbone: bool = False


class SamplerConfig(Frozen):
    """Optuna's sampler. `startup`: configurations drawn at random before TPE takes over."""

    name: Literal["tpe", "random"] = "tpe"
    startup: Annotated[int, Field(ge=0)] = 10


class ResourcesConfig(Frozen):
    """What one fold run takes, and how many run at once. `slots: null` is as many as fit.
    `gpus: null` is one where the cluster has GPUs, else none."""

    cpus: Annotated[float, Field(gt=0.0)] = 1.0
    gpus: Annotated[float, Field(ge=0.0)] | None = None
    threads: PositiveInt = 1
    slots: PositiveInt | None = None


class SearchConfig(Frozen):
    """What is optimised, for how long, and what is stopped."""

    metric: MetricName = "log_loss"
    budget: BudgetConfig
    pruning: PruningConfig = PruningConfig()
    promotion: PromotionConfig = PromotionConfig()
    sampler: SamplerConfig = SamplerConfig()
    resources: ResourcesConfig = ResourcesConfig()
    max_failures: Annotated[int, Field(ge=0)] = 2
    dashboard: bool = False


class BlendConfig(Frozen):
    """How the members are combined.

    methods          which compete; the simplest that is within one standard error of the best is
                     taken. `auto` stands for equal, log_mean, convex and greedy
    calibrate        a temperature for every member before blending
    calibrate_blend  for the blend after: none, temperature, or vector scaling
    groups           second blends within groups of classes: lists of class names, or `auto`
    l2               pull of convex weights to equal ones, in nats
    bootstrap        resamples for the confidence intervals
    refits           of the weights on resampled rows, to show how stable they are
    explain          score the blend again without each member
    """

    metric: str = "log_loss"
    methods: tuple[BlendMethodName, ...] = ("auto",)
    calibrate: bool = True
    calibrate_blend: Literal["none", "temperature", "vector"] = "temperature"
    groups: tuple[tuple[str, ...], ...] | Literal["auto"] = ()
    greedy_steps: PositiveInt = 25
    l2: Annotated[float, Field(ge=0.0)] = 0.0
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 2000
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    refits: Annotated[int, Field(ge=0, le=1000)] = 20
    explain: bool = True

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, name: str) -> str:
        if name in BLEND_METRICS or BLEND_METRIC_FAMILIES.fullmatch(name):
            return name
        nearest = get_close_matches(name, BLEND_METRICS, n=1)
        raise ValueError(
            f"{name} must be one of {', '.join(BLEND_METRICS)}, top_K_accuracy or sklearn:SCORER"
            + (f"; did you mean {nearest[0]}?" if nearest else "")
        )

    @field_validator("groups", mode="before")
    @classmethod
    def _are_groups(cls, groups: object) -> object:
        if groups == "auto" or not isinstance(groups, str):
            return groups
        raise ValueError(f"{groups} must be auto or lists of class names, such as [[a, b]]")

    @model_validator(mode="after")
    def _has_a_method(self) -> BlendConfig:
        if not self.methods:
            raise ValueError("methods must name at least one way to combine members, or auto")
        return self


class TrackerConfig(Frozen):
    """Which of Ray Tune's own loggers write beside the run's files (under `tune/`)."""

    name: Literal["none", "tensorboard"] = "none"


class RunConfig(Frozen):
    """Everything that is fixed for a run. `name` is the run's folder under `storage`.

    `replay`: a random policy applied to the labelled images once, fixed by (seed, image id), where
    they are validated: out-of-fold rows then resemble a test set that is as noisy. Identical in
    every epoch, fold run and configuration. Images are not mixed; test images stay as they are."""

    name: FolderName
    storage: str = "runs"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: DataConfig
    folds: FoldsConfig = FoldsConfig()
    replay: AugmentConfig = AugmentConfig(name="none", affine=0.0)
    search: SearchConfig
    blend: BlendConfig = BlendConfig()
    tracker: TrackerConfig = TrackerConfig()

    @model_validator(mode="after")
    def _replay_keeps_labels(self) -> RunConfig:
        if self.replay.mixes:
            raise ValueError(
                f"replay.mixup={self.replay.mixup:g}, replay.cutmix={self.replay.cutmix:g}: must "
                "be 0, a validated image has one label; mix in training, by augment.mixup and "
                "augment.cutmix"
            )
        return self


CONFIGURATION_GROUPS = tuple(Configuration.model_fields)
RUN_KEYS = tuple(RunConfig.model_fields)
