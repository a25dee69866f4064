"""The images a person names for prediction: a folder, a table of names, or a pattern."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.errors import DataError
from trainables.image_files import existing, is_image
from trainables.image_folder import (
    any_there,
    folder_at,
    images_like,
    is_folder,
    is_pattern,
    open_folder,
)
from trainables.remote_files import address_of, joined, parent_of
from trainables.tables import ID_NAMES, TABLE_SUFFIXES, column_of, read_table, texts


def listed_images(named: str, root: Path | None = None) -> tuple[list[str], list[str]]:
    """Ids and absolute paths or URIs. A table keeps its order (so a sample submission may be
    given); folders and patterns are sorted by id. `root`: where a table's images lie, else beside
    it.

    DataError, one line, where nothing is found."""
    if is_pattern(named):
        _, found = images_like(named, "images")
        return [name for name, _ in found], [path for _, path in found]
    path = existing(named, "images")
    if is_folder(path, "images"):
        ids = folder_at(path).images()
        if not ids:
            raise DataError(f"images={path}: no images in it")
        return ids, [joined(path, name) for name in ids]
    if address_of(path).lower().endswith(TABLE_SUFFIXES):
        return _from_table(path, root)
    if is_image(path):
        return [os.path.basename(address_of(path))], [path]
    raise DataError(f"images={path}: expected a folder, an image, a glob pattern or a table")


def _from_table(path: str, root: Path | None) -> tuple[list[str], list[str]]:
    frame = read_table(path, "images")
    column = column_of(frame, None, ID_NAMES, "images", path) or str(frame.columns[0])
    ids = list(texts(frame, column))
    folder = open_folder(str(root), "--root") if root else folder_at(parent_of(path))
    paths = [folder.find(name) for name in ids]
    if not any_there(paths, folder):
        raise DataError(
            f"images={path}: none of its {len(ids)} images lies in {folder.root}; "
            "name their folder with --root"
        )
    return ids, paths
