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
from trainables.bundle import Bundle, BundleMember, load_model, read_bundle
from trainables.errors import DataError
from trainables.image_cache import ImageCache, ImageSource
from trainables.image_list import listed_images
from trainables.loop import default_device
from trainables.precision import FULL, exact_arithmetic
from trainables.predict import predict_probabilities
from trainables.preprocess import pixels_key
from trainables.remote_files import address_of, is_remote
from trainables.submission import SubmissionFormat, write_submission
from trainables.views import cached, view_batches

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
    proba = predict_images(bundle, folder, paths, ids=ids, batch_size=batch_size, progress=progress)
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
    ids: Sequence[str] | None = None,
    batch_size: int = 64,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """(N, C) float64 probabilities of the blend (before rules, which are not part of a bundle), in
    full float32 arithmetic on any device.

    `ids`: the images' names, which fix the random views of members that have such; file names
    where not given.

    One model is in memory at a time, and images are decoded once, to disk. DataError where an
    image is missing or cannot be read, before anything is predicted."""
    _refuse_missing(paths)
    models = sum(len(one.folds) for one in bundle.members)
    steps = _Steps(progress, len(paths) * models)
    names = list(ids) if ids is not None else [Path(address_of(path)).name for path in paths]
    with tempfile.TemporaryDirectory(prefix="foldblend-") as aside:
        sources = _sources(bundle, paths, Path(aside))
        by_member = {
            one.config_id: _member_probabilities(
                bundle, folder, one, sources[_pixels_of(one)], names, batch_size, device, steps
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


def _pixels_of(member: BundleMember) -> tuple[object, ...]:
    """Members of which this is equal see the same decoded images."""
    return member.cache_size, pixels_key(member.configuration.preprocess)


def _sources(
    bundle: Bundle, paths: Sequence[str], aside: Path
) -> dict[tuple[object, ...], ImageSource]:
    different = {_pixels_of(one): one for one in bundle.members}
    return {
        key: ImageCache.open(
            paths, one.cache_size, aside, "predict", preprocess=one.configuration.preprocess
        )
        for key, one in different.items()
    }


def _member_probabilities(
    bundle: Bundle,
    folder: Path,
    member: BundleMember,
    source: ImageSource,
    ids: Sequence[str],
    batch_size: int,
    device: torch.device | None,
    steps: _Steps,
) -> np.ndarray:
    """(F, N, C) float32, one slice a fold."""
    device = device or default_device()
    configuration = member.configuration
    shown = cached(source, range(len(source)), ids, configuration.preprocess)
    seed = int(bundle.provenance.get("seed", 0))
    found = []
    for fold in member.folds:
        model = load_model(bundle, member, folder, fold).to(device)
        batches = view_batches(
            shown, configuration, configuration.tta, seed=seed, batch_size=batch_size
        )
        with exact_arithmetic():
            found.append(
                predict_probabilities(
                    model.to(memory_format=torch.channels_last),
                    batches,
                    member.recipe.normalisation,
                    n_classes=len(bundle.classes),
                    device=device,
                    precision=FULL,
                    average=configuration.tta.average,
                    after_batch=steps.add,
                )
            )
    return np.stack(found)


def _refuse_missing(paths: Sequence[str]) -> None:
    # Objects were listed, or tell when they are decoded: also before anything is predicted.
    missing = [path for path in paths if not is_remote(path) and not Path(path).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} images are missing, first {missing[0]}; put them "
            "there, or take them out of the list"
        )
