"""Steps of fold runs on one GPU against the same model on tensors that lie there, and against timm.

    python benchmarks/gpu_step.py
    python benchmarks/gpu_step.py --images photos/ --models resnet50 convnext_base --batch-size 128
    python benchmarks/gpu_step.py --timm-train ~/pytorch-image-models/train.py
    python benchmarks/gpu_step.py --device cpu --tiny

Ours is a fold run as a search makes it: images from the decoded cache, augmentation on the device,
our steps. Beside it, in one process and in turns of an epoch each, a plain loop (autocast, AdamW,
clipped gradients, channels last) of the same model on one batch of synthetic tensors that is on the
device already, and the same plain loop fed by timm's create_loader with its prefetcher and
`--workers` processes from the image files, with the same augmentations. The table has the median of
the ratios within a round, and the lowest. The first epoch of each does not count. With
`--timm-train`, timm's own train.py with the same model, batch and precision and its default
augmentation, once. Then tiny fold runs at 64 px, several processes at once on the one GPU against
one after another.

Needs torch, timm and what our loop imports, but neither Ray nor Hydra. Without `--images`: parts of
scikit-learn's two photographs as JPEGs of 400 x 533, each `--copies` times. Run it on an otherwise
idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import timm
import torch
from gpu_data import (
    CLASSES,
    CLIP,
    LR,
    SMOOTHING,
    VALIDATION,
    WEIGHT_DECAY,
    Setting,
    class_folders,
    run_data,
    task_of,
)
from gpu_packing import HEADER, measure_packing
from input_pipeline import AUGMENT, NORMALISATION, files_in, make_photographs
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm_log import steady_rate
from torch import Tensor, nn

from trainables.loop import run_fold
from trainables.precision import fast_products
from trainables.run_data import RunData

Epoch = Callable[[], float]  # runs one epoch; images a second
Batches = Iterable[tuple[Tensor, Tensor]]
TINY = ("test_resnet", "test_efficientnet", "test_byobnet")


# --- the three sides ---------------------------------------------------------------------------


def ours(model: str, setting: Setting, data: RunData, run: Path, threads: int) -> Epoch:
    """A fold run, epoch by epoch; its own figure is of training alone, without validation."""
    task = task_of(model, setting, 1000, run, threads)
    results = run_fold(task, data, torch.device(setting.device))

    def epoch() -> float:
        metrics = next(results).metrics
        if metrics["micro_batch"] < setting.batch_size:
            raise SystemExit(
                f"{model}: {setting.batch_size} images do not fit into the device's memory beside "
                f"the other sides; give --batch-size {int(metrics['micro_batch'])} or less"
            )
        return metrics["images_per_second"]

    return epoch


class PlainLoop:
    """Training as anybody writes it in PyTorch."""

    def __init__(self, model: str, setting: Setting) -> None:
        self._device = torch.device(setting.device)
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(setting.precision)
        made = timm.create_model(model, num_classes=CLASSES)
        self._model = made.to(self._device, memory_format=torch.channels_last).train()
        self._loss = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
        self._optimizer = create_optimizer_v2(
            self._model, opt="adamw", lr=LR, weight_decay=WEIGHT_DECAY
        )
        is_half = self._dtype is torch.float16
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=is_half)

    def epoch(self, batches: Batches) -> float:
        """Images a second."""
        begun, count = time.perf_counter(), 0
        for images, targets in batches:
            self._step(images.contiguous(memory_format=torch.channels_last), targets)
            count += len(images)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return count / (time.perf_counter() - begun)

    def _step(self, images: Tensor, targets: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device.type, self._dtype) if self._dtype else nullcontext():
            output = self._model(images)
            loss = self._loss(output, targets)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP)
        self._scaler.step(self._optimizer)
        self._scaler.update()


def synthetic(model: str, setting: Setting, images: int) -> Epoch:
    """One batch again and again, on the device from the start."""
    loop, device = PlainLoop(model, setting), torch.device(setting.device)
    shape = (setting.batch_size, 3, setting.size, setting.size)
    batch = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(CLASSES, (setting.batch_size,), device=device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(images // setting.batch_size):
            yield batch, targets

    return lambda: loop.epoch(batches())


def timms(model: str, setting: Setting, folder: Path, workers: int) -> Epoch:
    """The plain loop, fed by timm."""
    device = torch.device(setting.device)
    loop = PlainLoop(model, setting)
    loader = create_loader(
        create_dataset("", root=str(folder / "train"), is_training=True),
        (3, setting.size, setting.size),
        setting.batch_size,
        is_training=True,
        use_prefetcher=device.type == "cuda",
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        scale=(AUGMENT.crop_min, 1.0),
        ratio=(1 / AUGMENT.crop_ratio, AUGMENT.crop_ratio),
        hflip=AUGMENT.horizontal_flip,
        color_jitter=AUGMENT.brightness,
        re_prob=AUGMENT.erase,
        interpolation="bilinear",
        mean=NORMALISATION.mean,
        std=NORMALISATION.std,
        device=device,
    )
    return lambda: loop.epoch(loader)


def timm_train(
    script: Path, model: str, setting: Setting, folder: Path, workers: int, aside: Path
) -> float:
    """Images a second of train.py, from its second epoch on."""
    command = [
        *(sys.executable, str(script), "--data-dir", str(folder), "--device", setting.device),
        *("--model", model, "--num-classes", str(CLASSES), "--img-size", str(setting.size)),
        *("-b", str(setting.batch_size), "--epochs", "3", "--opt", "adamw", "--lr", str(LR)),
        *("--workers", str(workers), "--channels-last", "--output", str(aside)),
        *("--log-interval", "1"),
    ]
    if setting.precision != "fp32":
        dtype = {"bf16": "bfloat16", "fp16": "float16"}[setting.precision]
        command += ["--amp", "--amp-dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=aside)
    rate = steady_rate(done.stdout + done.stderr)
    if done.returncode or rate is None:
        raise SystemExit(f"train.py failed:\n{done.stderr[-2000:]}")
    return rate


# --- measuring ---------------------------------------------------------------------------------


def measure(
    model: str, setting: Setting, data: RunData, folder: Path, asked: argparse.Namespace
) -> list[str]:
    """The table's rows of a model."""
    fast_products(True)  # as a fold run has it, for all sides
    images = len(data.folds.train_rows(0))
    run = folder / f"run-{model}"
    epochs: Mapping[str, Epoch] = {
        "synthetic": synthetic(model, setting, images),
        "timm": timms(model, setting, folder, asked.workers),
        "ours": ours(model, setting, data, run, asked.threads),
    }
    for epoch in epochs.values():
        epoch()
    results = [{name: epoch() for name, epoch in epochs.items()} for _ in range(asked.rounds)]
    case = f"{model}, {setting.size} px, {setting.precision}, batch {setting.batch_size}"
    rows = [
        row(case, "ours against tensors on the device", results, "ours", "synthetic"),
        row(case, f"ours against timm's loader, {asked.workers} workers", results, "ours", "timm"),
        row(case, "timm's loader against tensors on the device", results, "timm", "synthetic"),
    ]
    if asked.timm_train:
        rate = timm_train(asked.timm_train.resolve(), model, setting, folder, asked.workers, folder)
        with_it = [{**result, "train.py": rate} for result in results]
        rows.append(row(case, "ours against timm's train.py", with_it, "ours", "train.py"))
    return rows


def row(case: str, what: str, results: list[dict[str, float]], one: str, other: str) -> str:
    ratios = [result[one] / result[other] for result in results]
    rates = [statistics.median(result[name] for result in results) for name in (one, other)]
    middle, least = statistics.median(ratios), min(ratios)
    return f"| {case} | {what} | {rates[0]:,.0f} | {rates[1]:,.0f} | {middle:.3f} | {least:.3f} |"


def made_images(asked: argparse.Namespace, aside: Path) -> list[Path]:
    if asked.images is not None:
        return [Path(path) for path in files_in(asked.images)[: asked.count]]
    photographs = aside / "photographs"
    photographs.mkdir()
    make_photographs(photographs, asked.count)
    return [Path(path) for path in files_in(photographs)]


def whole_batches(paths: list[Path], copies: int, batch_size: int, root: Path) -> list[str]:
    """`class_folders`, with as many training images as fill whole batches, so that every side has
    the same steps. SystemExit where there are too few."""
    links = class_folders(paths, copies, root)
    train, validation = links[:-VALIDATION], links[-VALIDATION:]
    kept = len(train) // batch_size * batch_size
    if not kept:
        raise SystemExit(f"{len(train)} training images do not fill a batch of {batch_size}")
    for link in train[kept:]:
        Path(link).unlink()
    return train[:kept] + validation


def _arguments() -> argparse.Namespace:
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    cores = len(os.sched_getaffinity(0))
    add("--device", default="cuda")
    add("--models", nargs="+", default=["resnet50", "convnext_base"])
    add("--images", type=Path, help="a folder of images, searched recursively")
    add("--count", type=int, default=2048, help="images at most")
    add("--copies", type=int, default=5, help="how often each is in an epoch")
    add("--size", type=int, default=224, help="side of the input in pixels")
    add("--batch-size", type=int, default=128)
    add("--precision", choices=("bf16", "fp16", "fp32"), default="bf16")
    add("--rounds", type=int, default=3, help="epochs of each that count")
    add("--workers", type=int, default=min(16, cores), help="timm's loader processes")
    add("--threads", type=int, default=min(4, cores), help="threads of our fold run")
    add("--timm-train", type=Path, help="train.py of a checkout of timm's repository")
    add("--packed", type=int, nargs="+", default=[2, 4, 8], help="tiny fold runs at once")
    add("--packed-epochs", type=int, default=5)
    add("--tiny", action="store_true", help="tiny models and images: does it run at all")
    asked = parser.parse_args()
    if asked.tiny:
        asked.models, asked.count, asked.copies = ["test_resnet"], 48, 2
        asked.size, asked.batch_size, asked.precision, asked.rounds = 32, 16, "fp32", 1
        asked.workers, asked.threads, asked.packed, asked.packed_epochs = 0, 1, [2], 1
    return asked


def main() -> None:
    asked = _arguments()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("no GPU here; try --device cpu --tiny")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(asked.threads)
    is_gpu = asked.device.startswith("cuda")
    name = torch.cuda.get_device_name(asked.device) if is_gpu else "a CPU"
    setting = Setting(asked.size, asked.batch_size, asked.precision, asked.device)
    with tempfile.TemporaryDirectory() as directory:
        aside = Path(directory)
        paths = made_images(asked, aside)
        folder = aside / "images"
        links = whole_batches(paths, asked.copies, asked.batch_size, folder)
        data = run_data(links, asked.size, aside / "cache")
        print(
            f"{name}, torch {torch.__version__}, timm {timm.__version__}; "
            f"{len(data.folds.train_rows(0))} training images an epoch\n\n"
            "| model | what | images/s | of the other | ratio | lowest |\n|---|---|--:|--:|--:|--:|"
        )
        for model in asked.models:
            print("\n".join(measure(model, setting, data, folder, asked)), flush=True)
            if is_gpu:
                torch.cuda.empty_cache()
        small = replace(setting, size=min(asked.size, 64), batch_size=min(asked.batch_size, 64))
        tiny = run_data(links, small.size, aside / "cache")
        rows = measure_packing(
            TINY, tuple(asked.packed), small, asked.packed_epochs, tiny, aside, asked.rounds
        )
        print("\n" + HEADER + "\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
