"""What a recipe's parts are worth: policy, loss, averaging, preprocessing and TTA against the
nested score, at a fixed small budget, over several seeds, each change alone against one
reference.

    python benchmarks/ablation.py --csv train.csv --images train/ --label-column target \
        --group-column sender --work ablation

A variant is the reference with one override. For every seed a run directory is made (its own folds
and its own random numbers), in which each variant trains all its folds, two at a time with one
thread each. Its score is nested: of every fold, the temperature is fitted on the other folds'
out-of-fold rows. The difference to the reference is paired row by row, and its interval comes from
resampling seeds and whole groups of rows together (2,000 times, percentile). A run that was cut
off goes on: what is stored in --work is not trained again. Prints a Markdown table, best first in
its part.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.store import OofStore
from ensemble.temperature import apply_temperature, fit_temperature
from search_spaces.config import Configuration
from search_spaces.space import load_study
from trainables.averaging import snapshot_epochs
from trainables.loop import run_fold
from trainables.run_data import shared_run_data
from trainables.task import FoldTask
from tuner.prepare import prepare, run_directory_of

REFERENCE: tuple[str, ...] = (
    *("experiment=scratch", "data=csv", "backbone=test_resnet", "augment=light"),
    *("loss=cross_entropy", "loss.label_smoothing=0", "optimizer.lr=0.01", "train.image_size=64"),
)
VARIANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "policy": {
        name: (f"augment={name}",)
        for name in (
            *("none", "strong", "crop", "geometric", "sketch", "document", "randaugment"),
            *("autoaugment", "trivialaugment", "mixup", "cutmix", "mixed"),
        )
    },
    "loss": {
        "label smoothing 0.1": ("loss.label_smoothing=0.1",),
        "focal, gamma 2": ("loss=focal", "loss.focal_gamma=2"),
        "cross entropy + focal": ("loss=cross_entropy_focal", "loss.focal_share=0.5",
                                  "loss.focal_gamma=2"),
        "class-balanced 0.99": ("loss=class_balanced", "loss.class_balance=0.99"),
        "BCE": ("loss=bce", "loss.label_smoothing=0"),
        "ArcFace": ("loss=arcface", "loss.margin=0.2", "loss.scale=16"),
        "AdaFace": ("loss=adaface", "loss.margin=0.2", "loss.scale=16"),
    },
    "averaging": {
        "EMA": ("averaging=ema", "averaging.decay=0.98"),
        "SWA": ("averaging=swa",),
        "3 snapshots, equal mean": ("averaging=snapshots", "schedule=cosine_restarts",
                                    "schedule.warmup_fraction=0.1"),
        "cosine restarts, last": ("schedule=cosine_restarts", "schedule.warmup_fraction=0.1"),
    },
    "preprocessing": {
        "letterbox": ("preprocess.resize=letterbox",),
        "CLAHE": ("preprocess=clahe",),
        "grey": ("preprocess=grey",),
        "data set's mean and deviation": ("preprocess.normalize=dataset",),
    },
    "TTA": {
        "mirror image": ("tta=horizontal",),
        "scales and mirror images": ("tta=scales",),
        "8 draws of the training policy": ("tta=training",),
        "mirror image, over logits": ("tta=horizontal", "tta.average=logits"),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Of a variant to the reference, in nested log loss; negative is better."""

    part: str
    name: str
    score: float
    accuracy: float
    value: float
    low: float
    high: float

    @property
    def row(self) -> str:
        sure = "" if self.low <= 0.0 <= self.high else " **"
        return (
            f"| {self.part} | {self.name} | {self.score:.3f} | {self.accuracy:.3f} | "
            f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f}){sure} |"
        )


def configuration_of(data: Sequence[str], changes: Sequence[str]) -> Configuration:
    """The one configuration of the reference with these changes."""
    space = load_study([*REFERENCE, *data, *changes]).space
    return space.sample(optuna.trial.FixedTrial({}))


def train(task: FoldTask) -> None:
    """Train a fold run unless it is stored."""
    for _ in run_fold(task, shared_run_data(task.run)):
        pass


def members_of(configuration: Configuration) -> list[str]:
    """The stored members of one configuration: its snapshots too."""
    points = snapshot_epochs(configuration.averaging, configuration.train.epochs)
    numbers = sorted(set(points.values()) | {0})
    return [configuration.at_snapshot(number).config_id for number in numbers]


def nested_rows(store: OofStore, members: Sequence[str]) -> tuple[np.ndarray, Predictions]:
    """(N, C): the equal mean of the members' probabilities, tempered by the other folds."""
    read = [store.read_member(name) for name in members]
    proba = np.mean([one.proba for one in read], axis=0)
    labels, folds = read[0].labels, read[0].folds
    out = np.empty(proba.shape)
    for fold in np.unique(folds):
        other = folds != fold
        out[~other] = apply_temperature(proba[~other], fit_temperature(proba[other], labels[other]))
    return out, read[0]


def losses(runs: Sequence[Path], members: Sequence[str]) -> tuple[np.ndarray, float]:
    """(seeds, N) losses with rows in the order of their ids, and the mean accuracy."""
    found, right = [], []
    for run in runs:
        proba, rows = nested_rows(OofStore(Location.of(run)), members)
        order = np.argsort(rows.ids.astype(str))
        p_true = proba[np.arange(len(proba)), rows.labels]
        found.append(-np.log(np.clip(p_true, 1e-15, None))[order])
        right.append(float((proba.argmax(axis=1) == rows.labels).mean()))
    return np.stack(found), float(np.mean(right))


def interval(differences: np.ndarray, groups: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % of the mean of (seeds, N) paired differences, over seeds and groups."""
    generator = np.random.default_rng(seed)
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.bincount(codes)
    sums = np.stack([np.bincount(codes, one, minlength=len(names)) for one in differences])
    means = []
    for _ in range(2000):
        chosen = generator.integers(len(differences), size=len(differences))
        drawn = generator.integers(len(names), size=len(names))
        means.append(sums[chosen][:, drawn].sum() / (counts[drawn].sum() * len(chosen)))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def prepare_runs(asked: argparse.Namespace, data: Sequence[str]) -> list[Path]:
    runs = []
    for seed in range(asked.seeds):
        name = f"seed{seed}"
        study = load_study(
            [*REFERENCE, *data, f"seed={seed}", f"name={name}", f"storage={asked.work}"]
        )
        directory = run_directory_of(study.run)
        if not directory.run_yaml.exists():
            prepare(study, None, directory, lambda step: lambda done, total: None)
        runs.append(asked.work / name)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--label-column", default="target")
    parser.add_argument("--group-column")
    parser.add_argument("--work", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--parts", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    asked = parser.parse_args()
    data = [
        *(f"data.path={asked.csv}", f"data.images={asked.images}"),
        *(f"data.label_column={asked.label_column}", f"train.epochs={asked.epochs}"),
        *([f"data.group_column={asked.group_column}"] if asked.group_column else []),
    ]
    runs = prepare_runs(asked, data)
    chosen = {("reference", "light, cross entropy"): configuration_of(data, ())} | {
        (part, name): configuration_of(data, changes)
        for part in asked.parts
        for name, changes in VARIANTS[part].items()
    }
    train_all(runs, chosen)
    report(runs, chosen)


def train_all(runs: Sequence[Path], chosen: Mapping[tuple[str, str], Configuration]) -> None:
    """Every fold of every variant in every run."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        waiting = [
            pool.submit(train, FoldTask(str(run), one.config_id, one, fold))
            for run in runs  # a whole seed first: what was cut off can still be read
            for one in chosen.values()
            for fold in range(shared_run_data(str(run)).folds.k)
        ]
        for number, one in enumerate(waiting, start=1):
            one.result()
            print(f"\r{number} of {len(waiting)} fold runs", end="", flush=True)
    print()


def report(
    runs: Sequence[Path],
    chosen: Mapping[tuple[str, str], Configuration],
) -> None:
    table = shared_run_data(str(runs[0])).folds
    ids = np.asarray(table.ids, dtype=str)
    groups = np.asarray(table.groups if table.groups is not None else ids)[np.argsort(ids)]
    (first, reference), *others = chosen.items()
    base, base_right = losses(runs, members_of(reference))
    print("| part | variant | nested log loss | nested accuracy | difference |")
    print("|---|---|--:|--:|---|")
    cells = (*first, f"{base.mean():.3f}", f"{base_right:.3f}", "")
    print(f"| {' | '.join(cells)} |")
    rows = []
    for (part, name), configuration in others:
        loss, right = losses(runs, members_of(configuration))
        low, high = interval(loss - base, groups)
        value = float((loss - base).mean())
        rows.append(Difference(part, name, loss.mean(), right, value, low, high))
    for part in dict.fromkeys(row.part for row in rows):
        for row in sorted((row for row in rows if row.part == part), key=lambda row: row.value):
            print(row.row)


if __name__ == "__main__":
    main()
