"""The images a person names for prediction: a folder, a table of names, or a pattern."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from trainables.errors import DataError
from trainables.image_files import absolute, existing, find_image, images_below, is_image
from trainables.tables import ID_NAMES, TABLE_SUFFIXES, column_of, read_table, texts


def listed_images(named: str, root: Path | None = None) -> tuple[list[str], list[str]]:
    """Ids and absolute paths. A table keeps its order (so a sample submission may be given);
    folders and patterns are sorted by id. `root`: where a table's images lie, else beside it.

    DataError, one line, where nothing is found."""
    if glob.has_magic(named) and not os.path.exists(os.path.expanduser(named)):
        return _from_pattern(absolute(named))
    path = existing(named, "images")
    if os.path.isdir(path):
        ids = list(images_below(path))
        if not ids:
            raise DataError(f"images={path}: no images in it")
        return ids, [os.path.join(path, name) for name in ids]
    if path.lower().endswith(TABLE_SUFFIXES):
        return _from_table(path, root)
    if is_image(path):
        return [os.path.basename(path)], [path]
    raise DataError(f"images={path}: expected a folder, an image, a glob pattern or a table")


def _from_pattern(pattern: str) -> tuple[list[str], list[str]]:
    paths = [path for path in sorted(glob.glob(pattern, recursive=True)) if is_image(path)]
    if not paths:
        raise DataError(f"images={pattern}: no image has such a name")
    root = os.path.dirname(pattern)
    while glob.has_magic(root):
        root = os.path.dirname(root)
    return [os.path.relpath(path, root).replace(os.sep, "/") for path in paths], paths


def _from_table(path: str, root: Path | None) -> tuple[list[str], list[str]]:
    frame = read_table(path, "images")
    column = column_of(frame, None, ID_NAMES, "images", path) or str(frame.columns[0])
    ids = list(texts(frame, column))
    folder = existing(str(root), "--root") if root else os.path.dirname(path)
    paths = [find_image(folder, name) for name in ids]
    if not any(os.path.exists(file) for file in paths):
        raise DataError(
            f"images={path}: none of its {len(ids)} images lies in {folder}; "
            "name their folder with --root"
        )
    return ids, paths
