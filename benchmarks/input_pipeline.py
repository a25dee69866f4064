"""Images a second into the model: our loader against timm's create_loader, same images and cores.

    python benchmarks/input_pipeline.py [--images photos/] [--rounds 7]

Both make normalised float32 tensors of the same size with the same augmentations: random resized
crops of 35 to 100 % of the area, horizontal flips, brightness, contrast and saturation by up to
0.2, erasing with probability 0.25. timm runs with 0 workers and with one a core, and the faster
counts. All take turns in one process, an epoch each, so that a busy machine slows all; the table
has the median of the ratios within a round, and the lowest. Their first epochs do not count there:
they are compared once, ours with the decoding into the cache. Ours runs as a search runs it on a
CPU, one loader of one thread a core; one loader with all cores is shown beside it. Two cases:
`--images` (default: parts of scikit-learn's two photographs, written as JPEGs of 400 x 533) at
`--size`, and the same images as JPEGs of 32 x 32 at 32. Ours is read from a cache of
`--cache-size` pixels, by default as a run chooses it. Compiling our kernels, once a machine, is
not timed. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.datasets import load_sample_images
from timm.data import create_dataset, create_loader

from search_spaces.config import AugmentConfig, PreprocessConfig
from trainables.batch_render import BatchRenderer
from trainables.crops import side_for_crops
from trainables.image_cache import ImageCache, ImageSource
from trainables.images import EXTENSIONS, decode_image
from trainables.loader import TrainLoader
from trainables.recipe import Normalisation
from trainables.train_batches import Augmentation, TrainBatches

Epoch = Callable[[], float]  # runs one epoch; images a second
AUGMENT = AugmentConfig(
    name="benchmark",
    horizontal_flip=0.5,
    crop_min=0.35,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    erase=0.25,
    erase_min=0.02,
    erase_max=1 / 3,
)
MIXUP = AUGMENT.model_copy(update={"mixup": 1.0})
PREPROCESS = PreprocessConfig(resize="crop")
NORMALISATION = Normalisation()
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """Image files, the side of the output and of the cache in pixels, images a batch, cores."""

    name: str
    folder: Path
    paths: tuple[str, ...]
    size: int
    cache_size: int
    batch_size: int
    cores: int


# --- images ------------------------------------------------------------------------------------


def make_photographs(folder: Path, count: int) -> None:
    """Parts of two photographs at random places and sizes, with some noise: 400 x 533 JPEGs."""
    generator = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(count):
        height = int(generator.integers(200, 427))
        width = min(640, height * 3 // 4)
        photograph = photographs[number % len(photographs)]
        y = int(generator.integers(0, 427 - height + 1))
        x = int(generator.integers(0, 640 - width + 1))
        part = cv2.resize(photograph[y : y + height, x : x + width], (400, 533))
        noisy = part + generator.normal(0.0, 4.0, part.shape)
        _write(folder / f"{number:05}.jpg", noisy.clip(0, 255).astype(np.uint8))


def make_small(folder: Path, paths: Sequence[str]) -> None:
    """The same images as JPEGs of 32 x 32."""
    for number, path in enumerate(paths):
        small = cv2.resize(decode_image(path), (32, 32), interpolation=cv2.INTER_AREA)
        _write(folder / f"{number:05}.jpg", small)


def _write(path: Path, rgb: np.ndarray) -> None:
    cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


def files_in(folder: Path) -> tuple[str, ...]:
    found = (path for path in folder.rglob("*") if path.suffix.lower()[1:] in EXTENSIONS)
    return tuple(sorted(map(str, found)))


# --- the two pipelines -------------------------------------------------------------------------


def timed(batches: Iterable[tuple[torch.Tensor, object]]) -> float:
    """Images a second."""
    begun, count = time.perf_counter(), 0
    for images, _ in batches:
        count += len(images)
    return count / (time.perf_counter() - begun)


def open_cache(case: Case, directory: Path) -> ImageSource:
    return ImageCache.open(case.paths, case.cache_size, directory, "benchmark")


def ours(case: Case, source: ImageSource, augment: AugmentConfig) -> Epoch:
    """The loader that a fold run on a CPU has."""
    how = Augmentation(augment, PREPROCESS, case.size, NORMALISATION, threads=case.cores)
    labels = np.arange(len(case.paths)) % CLASSES
    rows = np.arange(len(case.paths))
    batches = TrainBatches(source, rows, labels, how, batch_size=case.batch_size, seed=0)
    loader = TrainLoader(batches, how, n_classes=CLASSES, device=torch.device("cpu"))
    epochs = iter(range(1_000_000))
    return lambda: timed(loader.epoch(next(epochs)))


class SideBySide:
    """One loader a core, each in a process of its own and with one thread: fold runs as a search
    has them on a CPU. Called, each runs an epoch; images a second of all together."""

    def __init__(self, case: Case, source: ImageSource, augment: AugmentConfig) -> None:
        context = multiprocessing.get_context("spawn")
        self._images = case.cores * len(case.paths)
        self._pipes = []
        for _ in range(case.cores):
            mine, theirs = context.Pipe()
            arguments = (replace(case, cores=1), source, augment, theirs)
            context.Process(target=_serve, args=arguments, daemon=True).start()
            self._pipes.append(mine)

    def __call__(self) -> float:
        begun = time.perf_counter()
        for pipe in self._pipes:
            pipe.send("epoch")
        for pipe in self._pipes:
            pipe.recv()
        return self._images / (time.perf_counter() - begun)


def _serve(case: Case, source: ImageSource, augment: AugmentConfig, pipe: Connection) -> None:
    torch.set_num_threads(1)
    epoch = ours(case, source, augment)
    with contextlib.suppress(EOFError):  # the parent has finished
        while pipe.recv():
            epoch()
            pipe.send("done")


def timms(case: Case, workers: int) -> Epoch:
    loader = create_loader(
        create_dataset("", root=str(case.folder), is_training=True),
        (3, case.size, case.size),
        case.batch_size,
        is_training=True,
        use_prefetcher=False,
        num_workers=workers,
        persistent_workers=workers > 0,
        scale=(AUGMENT.crop_min, 1.0),
        ratio=(1 / AUGMENT.crop_ratio, AUGMENT.crop_ratio),
        hflip=AUGMENT.horizontal_flip,
        color_jitter=AUGMENT.brightness,
        re_prob=AUGMENT.erase,
        interpolation="bilinear",
        mean=NORMALISATION.mean,
        std=NORMALISATION.std,
        device=torch.device("cpu"),
    )
    return lambda: timed(loader)


# --- the unaugmented path, in bytes ------------------------------------------------------------


def whole_squares(case: Case, source: ImageSource) -> Epoch:
    """Our renderer where nothing is to be changed."""
    renderer = BatchRenderer(source.size, NORMALISATION.mean, NORMALISATION.std)
    return lambda: _per_second(case, lambda rows: renderer.byte_batch(source, rows))


def bare_gather(case: Case, source: ImageSource) -> Epoch:
    """Rows of an array in memory that holds the same bytes."""
    pixels = source[np.arange(len(source))]
    return lambda: _per_second(case, lambda rows: pixels[rows])


def _per_second(case: Case, take: Callable[[np.ndarray], object]) -> float:
    order = np.random.default_rng(0).permutation(len(case.paths))
    repeats = 5
    begun = time.perf_counter()
    for _ in range(repeats):
        for start in range(0, len(order), case.batch_size):
            take(order[start : start + case.batch_size])
    return repeats * len(order) / (time.perf_counter() - begun)


# --- measuring ---------------------------------------------------------------------------------


def in_turns(epochs: Mapping[str, Epoch], rounds: int) -> list[dict[str, float]]:
    """One epoch of each, `rounds` times."""
    return [{name: epoch() for name, epoch in epochs.items()} for _ in range(rounds)]


def first_epochs(case: Case) -> tuple[float, float]:
    """Images a second of our first epoch, with the cache built, and of timm's faster one."""
    theirs = max(timms(case, workers)() for workers in (0, case.cores))
    with tempfile.TemporaryDirectory() as directory:
        begun = time.perf_counter()
        ours(case, open_cache(case, Path(directory)), AUGMENT)()
        return len(case.paths) / (time.perf_counter() - begun), theirs


def measure(case: Case, rounds: int) -> list[str]:
    """The table's rows of a case."""
    with tempfile.TemporaryDirectory() as directory:
        source = open_cache(case, Path(directory))
        workers = {f"timm {count}": timms(case, count) for count in (0, case.cores)}
        epochs = {
            **workers,
            "ours": SideBySide(case, source, AUGMENT),
            "mixup": SideBySide(case, source, MIXUP),
            "one": ours(case, source, AUGMENT),
            "bytes": whole_squares(case, source),
            "gather": bare_gather(case, source),
        }
        in_turns(epochs, 1)  # compiles our kernels, starts timm's workers
        first = first_epochs(case)
        results = in_turns(epochs, rounds)
    for one in results:
        one["timm"] = max(one[name] for name in workers)
    return [
        _row(case.name, "augmented", results, "ours", "timm"),
        _row(case.name, "augmented, one loader on all cores", results, "one", "timm"),
        _row(case.name, "augmented, mixup", results, "mixup", "timm"),
        _row(case.name, "mixup against none", results, "mixup", "ours"),
        _row(case.name, "unaugmented bytes against a bare gather", results, "bytes", "gather"),
        _line(case.name, "first epoch, cache built", *first, [first[0] / first[1]]),
    ]


def _row(case: str, what: str, results: list[dict[str, float]], one: str, other: str) -> str:
    ratios = [result[one] / result[other] for result in results]
    rates = [statistics.median(result[name] for result in results) for name in (one, other)]
    return _line(case, what, rates[0], rates[1], ratios)


def _line(case: str, what: str, rate: float, other: float, ratios: list[float]) -> str:
    middle, least = statistics.median(ratios), min(ratios)
    return f"| {case} | {what} | {rate:,.0f} | {other:,.0f} | {middle:.2f} | {least:.2f} |"


def _arguments() -> argparse.Namespace:
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="a folder of images, searched recursively")
    parser.add_argument("--count", type=int, default=600, help="images at most")
    parser.add_argument("--size", type=int, default=224, help="side of the output in pixels")
    parser.add_argument("--cache-size", type=int, help="side of the cached images in pixels")
    parser.add_argument("--batch-size", type=int, default=128, help="timm's default is 128")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that count")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.cores)
    with tempfile.TemporaryDirectory() as directory:
        large, small = Path(directory, "large"), Path(directory, "small")
        large.mkdir()
        small.mkdir()
        if arguments.images is None:
            make_photographs(large, arguments.count)
        else:
            for path in files_in(arguments.images)[: arguments.count]:
                (large / Path(path).name).symlink_to(Path(path).resolve())
        paths = files_in(large)
        make_small(small, paths)
        cache_size = arguments.cache_size or side_for_crops(arguments.size)
        cases = (
            Case(
                f"JPEG to {arguments.size}", large, paths, arguments.size, cache_size,
                arguments.batch_size, arguments.cores,
            ),
            Case(
                "32 px JPEG to 32", small, files_in(small), 32, side_for_crops(32),
                arguments.batch_size, arguments.cores,
            ),
        )  # fmt: skip
        print(f"{len(paths)} images, batches of {arguments.batch_size}, {arguments.cores} cores\n")
        print(
            "| case | what | images/s | of the other | ratio | lowest |\n|---|---|--:|--:|--:|--:|"
        )
        for case in cases:
            print("\n".join(measure(case, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
