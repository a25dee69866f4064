"""Images under one root, by name: a folder of this machine, or one of an object store."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Protocol

from pyarrow.fs import FileType

from trainables.errors import DataError
from trainables.image_files import (
    absolute,
    existing,
    find_image,
    images_below,
    is_image,
    subfolders,
)
from trainables.images import EXTENSIONS
from trainables.remote_files import address_of, is_remote, joined, kind_of, names_below

# Of images that are named by a URI of their own, so many are looked for before all are believed
# to be missing.
PROBES = 8


class ImageFolder(Protocol):
    """A folder with images in it or below it. `root`: an absolute path or a URI."""

    root: str

    def folders(self) -> list[str]:
        """Names of the folders in it, sorted, without hidden ones."""

    def images(self) -> list[str]:
        """Names, relative to the root and with "/", of all images, folder by folder."""

    def find(self, name: str) -> str:
        """The path of the image called `name`, with or without its extension. Where there is none,
        the path at which it was expected."""

    def has(self, path: str) -> bool:
        """Whether there is a file at `path`, as `find` gave it."""


def open_folder(path: str | None, key: str) -> ImageFolder:
    """The folder that the setting `key` names; DataError where it is none."""
    root = existing(path, key)
    if not is_folder(root, key):
        raise DataError(f"{key}={root}: is a file, expected a folder")
    return folder_at(root)


def folder_at(root: str) -> ImageFolder:
    """The folder at an absolute path or URI, which nobody has looked for yet."""
    return _Listed(root) if is_remote(root) else _Local(root)


def is_folder(path: str, key: str) -> bool:
    """Whether the path or URI that the setting `key` named is a folder."""
    return kind_of(path, key) == FileType.Directory if is_remote(path) else os.path.isdir(path)


def require_some(paths: Sequence[str], folder: ImageFolder, table: str, key: str) -> None:
    """One line instead of a problem for every row when the folder is the wrong one."""
    if any_there(paths, folder):
        return
    names = folder.folders()
    hint = f" (folders in it: {', '.join(names[:8])})" if names else ""
    raise DataError(
        f"none of the {len(paths)} images of {table} is in {folder.root}{hint}; "
        f"set {key} to their folder"
    )


def any_there(paths: Sequence[str], folder: ImageFolder) -> bool:
    """Whether any of the images, as `folder.find` gave them, exists."""
    if any(folder.has(path) for path in paths if not _is_elsewhere(path, folder)):
        return True
    elsewhere = (path for path in paths if _is_elsewhere(path, folder))
    return any(_exists(path) for path in islice(elsewhere, PROBES))


def is_pattern(named: str) -> bool:
    """Whether it is a glob pattern and not the name of a file or folder."""
    if is_remote(named):
        return glob.has_magic(address_of(named))
    return glob.has_magic(named) and not os.path.exists(os.path.expanduser(named))


def images_like(pattern: str, key: str) -> tuple[str, list[tuple[str, str]]]:
    """The folder above a glob pattern, and (name in it, path) of each image that fits, sorted.
    DataError where there is none, or for the pattern of a URI."""
    if is_remote(pattern):
        raise DataError(
            f"{key}={pattern}: patterns are for local files; give the folder or a table"
        )
    pattern = absolute(pattern)
    paths = [path for path in sorted(glob.glob(pattern, recursive=True)) if is_image(path)]
    if not paths:
        raise DataError(f"{key}={pattern}: no image has such a name")
    root = os.path.dirname(pattern)
    while glob.has_magic(root):
        root = os.path.dirname(root)
    return root, [(os.path.relpath(path, root).replace(os.sep, "/"), path) for path in paths]


class _Local:
    def __init__(self, root: str) -> None:
        self.root = root

    def folders(self) -> list[str]:
        return subfolders(self.root) if os.path.isdir(self.root) else []

    def images(self) -> list[str]:
        return list(images_below(self.root))

    def find(self, name: str) -> str:
        return name if is_remote(name) else find_image(self.root, name)

    def has(self, path: str) -> bool:
        return os.path.isfile(path)


class _Listed:
    """A folder of a store, where every question costs a round trip: listed once, when first asked
    for. DataError where the store cannot be reached or refuses."""

    def __init__(self, root: str) -> None:
        self.root = root

    @cached_property
    def _names(self) -> list[str]:
        return names_below(self.root)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(joined(self.root, name) for name in self._names)

    def folders(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self._names if "/" in name})

    def images(self) -> list[str]:
        return [name for name in self._names if is_image(name)]

    def find(self, name: str) -> str:
        expected = joined(self.root, name)
        if is_image(name) or not name or not is_remote(expected) or is_remote(name):
            return expected
        candidates = (f"{name}.{ext}" for ext in (*EXTENSIONS, *map(str.upper, EXTENSIONS)))
        paths = [expected, *(joined(self.root, candidate) for candidate in candidates)]
        return next((path for path in paths if path in self._paths), expected)

    def has(self, path: str) -> bool:
        return path in self._paths


def _is_elsewhere(path: str, folder: ImageFolder) -> bool:
    """Whether a table names an image by a URI or path outside of what the folder can tell."""
    if not is_remote(folder.root):
        return is_remote(path)
    return not path.startswith(folder.root.partition("?")[0] + "/")


def _exists(path: str) -> bool:
    return kind_of(path, "image") == FileType.File if is_remote(path) else os.path.isfile(path)
