"""A run's data, configurations and tasks by hand, for fold runs on a machine that has torch and
timm but neither Ray nor Hydra. Used by `gpu_step.py` and `gpu_packing.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from input_pipeline import AUGMENT, PREPROCESS

from search_spaces.config import (
    BackboneConfig,
    Configuration,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    SearchConfig,
    TrainConfig,
)
from trainables.crops import side_for_crops
from trainables.folds import FoldTable
from trainables.image_cache import ImageCache
from trainables.run_data import RunData, RunRecord
from trainables.task import FoldTask

CLASSES = 10
VALIDATION = 16  # images of fold 0, on which is validated: as few as make sense
LR, WEIGHT_DECAY, SMOOTHING, CLIP = 1e-4, 0.05, 0.1, 1.0


@dataclass(frozen=True)
class Setting:
    """What every side trains with, and where. `size`: side of the input in pixels; `precision`:
    bf16, fp16 or fp32; `device`: as torch names it."""

    size: int
    batch_size: int
    precision: str
    device: str


def class_folders(paths: list[Path], copies: int, root: Path) -> list[str]:
    """Links to every image, `copies` times, as train/class/name; and the validation images beside
    them, as timm's train.py wants it. Returns the links of train/, then those of validation/."""
    found = []
    for split, files, times in (
        ("train", paths[VALIDATION:], copies),
        ("validation", paths[:VALIDATION], 1),
    ):
        for number, path in enumerate(file for _ in range(times) for file in files):
            folder = root / split / f"class_{number % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            link = folder / f"{number:06}{path.suffix}"
            link.symlink_to(path.resolve())
            found.append(str(link))
    return found


def run_data(links: list[str], size: int, cache: Path) -> RunData:
    """What fold runs of these images share; decodes them. `size`: of the inputs in pixels."""
    labels = [int(Path(link).parent.name.removeprefix("class_")) for link in links]
    validated = [Path(link).parents[1].name == "validation" for link in links]
    folds = FoldTable(
        ids=tuple(str(number) for number in range(len(links))),
        paths=tuple(links),
        labels=np.array(labels, np.int32),
        groups=None,
        folds=np.where(validated, 0, 1).astype(np.int16),
        classes=tuple(f"class_{number}" for number in range(CLASSES)),
    )
    config = RunConfig.model_validate(
        {
            "name": "benchmark",
            "data": DataConfig(source="folder", path=str(Path(links[0]).parents[2])),
            "search": SearchConfig.model_validate({"budget": {"configurations": 1}}),
        }
    )
    side = side_for_crops(size)
    record = RunRecord(config, folds.classes, folds.classes, "benchmark", side)
    return RunData(record, folds, None, ImageCache.open(links, side, cache, "benchmark"))


def task_of(model: str, setting: Setting, epochs: int, run: Path, threads: int = 1) -> FoldTask:
    """A fold run of a timm model with fresh weights, whose files go into the folder `run`."""
    configuration = Configuration(
        backbone=BackboneConfig(name=model),
        preprocess=PREPROCESS,
        augment=AUGMENT,
        loss=LossConfig(name="cross_entropy", label_smoothing=SMOOTHING),
        optimizer=OptimizerConfig(name="adamw", lr=LR, weight_decay=WEIGHT_DECAY),
        schedule=ScheduleConfig(name="cosine"),
        train=TrainConfig.model_validate(
            {
                "epochs": epochs,
                "batch_size": setting.batch_size,
                "image_size": setting.size,
                "clip_grad": CLIP,
                "precision": setting.precision,
            }
        ),
    )
    return FoldTask(str(run), configuration.config_id, configuration, 0, threads=threads)
