"""Image files by name: which ones lie below a folder, and where the one called so is."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pyarrow.fs import FileType

from ensemble.files import Location
from trainables.errors import DataError, nearest
from trainables.images import EXTENSIONS
from trainables.remote_files import address_of, is_remote, kind_of


def absolute(path: str) -> str:
    """A path made absolute; a URI without a slash at its end."""
    return Location.of(path).uri if "://" in path else os.path.abspath(os.path.expanduser(path))


def existing(path: str | None, key: str) -> str:
    """`path` made absolute, or a URI; DataError with the nearest name beside it when there is
    none, or where its store cannot be reached or refuses."""
    full = absolute(path or "")
    if is_remote(full):
        if kind_of(full, key) == FileType.NotFound:
            raise DataError(f"{key}={path}: no such object and nothing below it")
        return full
    if path and os.path.exists(full):
        return full
    parent, name = os.path.split(full)
    hint = nearest(name, os.listdir(parent)) if os.path.isdir(parent) else ""
    raise DataError(f"{key}={path}: no such file or folder (looked for {full}){hint}")


def subfolders(root: str) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def images_below(root: str, folder: str = "") -> Iterator[str]:
    """Paths, relative to `root` and with "/", of the images in root/folder and all below it."""
    for here, folders, files in os.walk(os.path.join(root, folder), followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_image(name):
                yield os.path.relpath(os.path.join(here, name), root).replace(os.sep, "/")


def is_image(path: str) -> bool:
    name = os.path.basename(address_of(path)).lower()
    return not name.startswith(".") and name.rpartition(".")[2] in EXTENSIONS and "." in name


def find_image(root: str, name: str) -> str:
    """The image called `name` in `root`, with or without its extension. Where there is none, the
    path at which it was expected."""
    expected = os.path.join(root, name)
    if name and not os.path.isfile(expected) and not is_image(name):
        for extension in (*EXTENSIONS, *map(str.upper, EXTENSIONS)):
            candidate = f"{expected}.{extension}"
            if os.path.isfile(candidate):
                return candidate
    return expected
