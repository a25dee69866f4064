"""A small search's worth of fold runs, ours against timm's train.py run once per fold.

    python benchmarks/training_step.py --timm-train ~/pytorch-image-models/train.py
    python benchmarks/training_step.py --timm-train … --csv train.csv --images train/ \
        --label-column target --image-size 64

Three tiny backbones by five folds, the same models, folds, epochs, batch, augmentation (crops of 8
to 100 % of the area, flip, colour 0.4), optimizer (SGD) and cores. Ours is the whole command
`foldblend search` with pruning off: start-up of Ray, check of the data, decoding, training,
ensemble, page. timm's is fifteen runs of its train.py, one after another, with its defaults; its
steady rate is also measured with 0, 1 and 2 loader workers, and the best one counts. Without --csv
the images are scikit-learn's digits as PNG at 32 px. `--timm-train`: train.py of a checkout of
timm's repository, near the installed version. Our kernels are compiled before, once a machine. Run
it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from timm_log import steady_rate

from tuner import events as ev
from tuner.replayed import read_run

BACKBONES = ("test_resnet", "test_efficientnet", "test_byobnet")
K = 5


@dataclass(frozen=True)
class Size:
    """What both sides train with."""

    image_size: int
    batch_size: int
    epochs: int
    lr: float


@dataclass(frozen=True)
class Timing:
    """Wall clock of everything in seconds, and training images a second once all is warm."""

    seconds: float
    steady: float


def ours(storage: Path, data: Sequence[str], size: Size) -> Timing:
    """The whole command, two fold runs at a time with one thread each."""
    command = [
        *(sys.executable, "-m", "tuner.cli", "search", "name=ours", f"storage={storage}", *data),
        *(f"backbone=choice({','.join(BACKBONES)})", f"folds.k={K}", "optimizer=sgd"),
        *(f"optimizer.lr={size.lr}", "backbone.drop_rate=0", "loss=cross_entropy"),
        *("loss.label_smoothing=0.1", f"train.epochs={size.epochs}"),
        *(f"train.batch_size={size.batch_size}", f"train.image_size={size.image_size}"),
        *("augment=none", "augment.crop_min=0.08", "augment.horizontal_flip=0.5"),
        *("preprocess.resize=crop", "augment.brightness=0.4", "augment.contrast=0.4"),
        *("augment.saturation=0.4", "schedule=cosine", "folds=stratified"),
        *(f"search.budget.configurations={len(BACKBONES)}", "search.pruning.enabled=false"),
        *(f"search.promotion.members={len(BACKBONES)}", "search.resources.slots=2"),
        *("search.resources.threads=1", "search.promotion.each_backbone=true"),
    ]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    return Timing(seconds, 2 * statistics.median(_rates(storage / "ours")))


def _rates(run: Path) -> list[float]:
    """Training images a second of every epoch but each fold run's first."""
    records = read_run(str(run)).records
    return [
        record.event.metrics["images_per_second"]
        for record in records
        if isinstance(record.event, ev.Reported | ev.Finished) and record.event.epoch > 1
    ]


def class_folders(run: Path, where: Path) -> list[Path]:
    """For every fold of the run a folder of links with train/ and validation/, as timm reads it."""
    table = pq.read_table(run / "folds.parquet").to_pydict()
    made = []
    for fold in range(K):
        root = where / f"fold{fold}"
        for path, label, own in zip(table["path"], table["label"], table["fold"], strict=True):
            split = "validation" if own == fold else "train"
            folder = root / split / f"{label:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / Path(path).name).symlink_to(path)
        made.append(root)
    return made


def timm_run(
    train: Path, folder: Path, backbone: str, size: Size, out: Path, workers: int | None = None
) -> Timing:
    """One call of train.py."""
    classes = len(list((folder / "train").iterdir()))
    command = [
        *(sys.executable, str(train), "--data-dir", str(folder), "--device", "cpu"),
        *("--model", backbone, "--num-classes", str(classes)),
        *("--img-size", str(size.image_size), "-b", str(size.batch_size)),
        *("--epochs", str(size.epochs), "--lr", str(size.lr), "--output", str(out)),
        *(() if workers is None else ("--workers", str(workers))),
        *("--log-interval", "1"),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out)
    seconds = time.perf_counter() - started
    rate = steady_rate(done.stdout + done.stderr)
    if done.returncode or rate is None:
        raise SystemExit(f"train.py failed:\n{done.stderr[-2000:]}")
    return Timing(seconds, rate)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timm-train", type=Path, required=True)
    parser.add_argument("--csv")
    parser.add_argument("--images")
    parser.add_argument("--label-column", default="target")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.05)
    asked = parser.parse_args()
    size = Size(asked.image_size, asked.batch_size, asked.epochs, asked.lr)
    data = ["experiment=digits"]
    if asked.csv:
        data = [
            *("experiment=scratch", "data=csv", f"data.path={asked.csv}"),
            *(f"data.images={asked.images}", f"data.label_column={asked.label_column}"),
        ]
    with tempfile.TemporaryDirectory() as aside:
        where = Path(aside)
        data.append(f"data.cache_dir={where}/cache")  # ours decodes from nothing
        mine = ours(where, data, size)
        print(f"foldblend: {mine.seconds:.0f} s in all, {mine.steady:.0f} images/s", flush=True)
        theirs, steady = measure_timm(asked.timm_train.resolve(), where, size)
    print(
        f"timm: {theirs:.0f} s in all, {steady:.0f} images/s with its best worker setting\n"
        f"wall clock: {theirs / mine.seconds:.1f} times; steady: {mine.steady / steady:.1f} times"
    )


def measure_timm(train: Path, where: Path, size: Size) -> tuple[float, float]:
    """Seconds of all fifteen runs, and the median over the backbones of the best steady rate."""
    folders = class_folders(where / "ours", where / "folders")
    seconds, best = 0.0, []
    for backbone in BACKBONES:
        for folder in folders:
            one = timm_run(train, folder, backbone, size, where)
            seconds += one.seconds
            print(
                f"  {backbone} {folder.name}: {one.seconds:.0f} s, {one.steady:.0f}/s", flush=True
            )
        rates = {
            workers: timm_run(train, folders[0], backbone, size, where, workers).steady
            for workers in (0, 1, 2)
        }
        rates[4] = one.steady  # its default
        print(f"  {backbone} by workers: {rates}", flush=True)
        best.append(max(rates.values()))
    return seconds, statistics.median(best)


if __name__ == "__main__":
    main()
