"""The decoded images of a run as far as this machine has them: looked for, never made."""

from __future__ import annotations

from trainables.folds import FoldTable, read_folds, read_test_table
from trainables.image_cache import ImageCache, cache_path
from trainables.run_data import cache_directory, read_record
from trainables.run_paths import RunPaths


def images_decoded_already(paths: RunPaths) -> tuple[FoldTable, ImageCache] | None:
    """A run's folds and its cache, whose first rows are theirs; None where nothing on this machine
    has decoded the images, or the cache has been deleted to make room.

    Raises DataError where this is no run directory, OSError where the cache cannot be read."""
    record, _ = read_record(paths)
    folds = read_folds(paths.folds)
    test = read_test_table(paths.test_table) if paths.test_table.exists() else None
    path = cache_path(
        cache_directory(record.config),
        (*folds.paths, *(test.paths if test else ())),
        record.cache_size,
        record.data_fingerprint,
        record.preprocess,
    )
    try:
        return folds, ImageCache(path)
    except FileNotFoundError:
        return None
