"""Predicting with a bundle: one model at a time over images decoded once."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ensemble.files import Location
from trainables.augment import evaluation_transform
from trainables.bundle import Bundle, BundleMember, load_model, read_bundle
from trainables.errors import DataError
from trainables.image_cache import ImageCache
from trainables.image_list import listed_images
from trainables.loader import evaluation_batches
from trainables.loop import default_device
from trainables.precision import FULL, exact_arithmetic
from trainables.predict import predict_probabilities
from trainables.submission import SubmissionFormat, write_submission

Progress = Callable[[int, int], None]


def predict_to_files(
    folder: Path,
    images: str,
    output: Path,
    *,
    probabilities: Path | None = None,
    root: Path | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> int:
    """Predict `images` (folder, table or glob) and write the submission in the form the run was
    given; returns the number of images."""
    bundle = read_bundle(folder)
    ids, paths = listed_images(images, root)
    proba = predict_images(bundle, folder, paths, batch_size=batch_size, progress=progress)
    form = bundle.submission or SubmissionFormat(("id", "label"), "label", "id")
    write_submission(
        output, form, ids, proba, classes=bundle.classes, label_values=bundle.label_values
    )
    if probabilities:
        write_probabilities(probabilities, bundle, ids, proba)
    return len(ids)


def predict_images(
    bundle: Bundle,
    folder: Path,
    paths: Sequence[str],
    *,
    batch_size: int = 64,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """(N, C) float64 probabilities of the blend, in full float32 arithmetic on any device.

    One model is in memory at a time, and images are decoded once, to disk. DataError where an
    image is missing or cannot be read, before anything is predicted."""
    _refuse_missing(paths)
    models = sum(len(one.folds) for one in bundle.members)
    steps = _Steps(progress, len(paths) * models)
    sizes = {one.cache_size for one in bundle.members}
    with tempfile.TemporaryDirectory(prefix="foldblend-") as aside:
        caches = {
            size: ImageCache.open(paths, size, Path(aside), "predict") for size in sorted(sizes)
        }
        by_member = {
            one.config_id: _member_probabilities(
                bundle, folder, one, caches[one.cache_size], batch_size, device, steps
            )
            for one in bundle.members
        }
    return bundle.blend.combine(by_member)


def write_probabilities(path: Path, bundle: Bundle, ids: Sequence[str], proba: np.ndarray) -> None:
    """Parquet: `id` string, `label` the predicted class name, `proba` fixed_size_list<float32>[C],
    class names in the schema's metadata under `foldblend.classes`."""
    flat = pa.array(proba.astype(np.float32).ravel())
    names = np.asarray(bundle.classes, dtype=object)[proba.argmax(axis=1)]
    table = pa.table(
        {
            "id": pa.array(list(ids), pa.string()),
            "label": pa.array(list(names), pa.string()),
            "proba": pa.FixedSizeListArray.from_arrays(flat, len(bundle.classes)),
        }
    ).replace_schema_metadata({"foldblend.classes": json.dumps(list(bundle.classes))})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, use_dictionary=False)
    Location.of(path).write_bytes(buffer.getvalue())


@dataclass
class _Steps:
    """Counts images through all models."""

    progress: Progress | None
    total: int
    done: int = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress(self.done, self.total)


def _member_probabilities(
    bundle: Bundle,
    folder: Path,
    member: BundleMember,
    cache: ImageCache,
    batch_size: int,
    device: torch.device | None,
    steps: _Steps,
) -> np.ndarray:
    """(F, N, C) float32, one slice a fold."""
    device = device or default_device()
    parts = []
    for fold in member.folds:
        model = load_model(bundle, member, folder, fold).to(device)
        model = model.to(memory_format=torch.channels_last)
        with exact_arithmetic():
            parts.append(
                predict_probabilities(
                    model,
                    evaluation_batches(
                        cache,
                        range(len(cache)),
                        evaluation_transform(member.image_size),
                        batch_size,
                    ),
                    member.recipe.normalisation,
                    n_classes=len(bundle.classes),
                    device=device,
                    precision=FULL,
                )
            )
        steps.add(len(cache))
    return np.stack(parts)


def _refuse_missing(paths: Sequence[str]) -> None:
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} images are missing, first {missing[0]}; put them "
            "there, or take them out of the list"
        )
