"""The user's data, in whatever shape it lies there, becomes a manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from search_spaces.config import DataConfig
from trainables.digits import write_digits
from trainables.errors import DataError
from trainables.image_files import existing
from trainables.image_folder import (
    ImageFolder,
    any_there,
    folder_at,
    images_like,
    is_folder,
    is_pattern,
    open_folder,
    require_some,
)
from trainables.images import EXTENSIONS
from trainables.manifest import UNKNOWN_LABEL, Manifest
from trainables.remote_files import address_of, joined, parent_of
from trainables.submission import SubmissionFormat, submission_format
from trainables.tables import (
    ID_NAMES,
    LABEL_NAMES,
    TABLE_SUFFIXES,
    column_of,
    read_table,
    texts,
)

# Names a folder on a fast local disk, machine by machine.
CACHE_VARIABLE = "FOLDBLEND_CACHE_DIR"


def load_manifest(config: DataConfig) -> Manifest:
    """Every training and test image that `config` names, none of them opened yet.

    Single images that are missing, ids that come twice and labels that are no class are kept in
    the manifest for `check_data` to report together. Settings may be paths or URIs (s3://…); each
    folder of a store is listed once. Raises DataError, one line, where nothing sensible can be made
    of the settings: no such path or column, no images, one class only; UnreachableError where a
    store cannot be reached or refuses.
    """
    if config.source == "digits":
        config = _digits(config)
    train = _from_folder(config) if config.source == "folder" else _from_table(config)
    values, classes = _classes(config, train)
    if len(classes) < 2:
        raise DataError(
            f"data.path={config.path}: {len(classes)} class ({', '.join(classes)}), expected 2 or "
            "more; check data.label_column or the folders"
        )
    index = {value: number for number, value in enumerate(values)}
    test_ids, test_paths, submission = _test_set(config, train, classes, values)
    return Manifest(
        ids=train.ids,
        paths=train.paths,
        labels=np.array([index.get(text, UNKNOWN_LABEL) for text in train.label_text], np.int32),
        groups=train.groups,
        classes=classes,
        label_values=values,
        test_ids=test_ids,
        test_paths=test_paths,
        submission=submission,
        label_text=train.label_text,
    )


def default_cache_dir() -> Path:
    """Where decoded images and the digits go unless `data.cache_dir` says otherwise: what this
    machine's FOLDBLEND_CACHE_DIR names, else `foldblend` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "foldblend"


# --- training images ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Train:
    """Training rows before the classes are known. `folder`: where image names are looked up."""

    folder: ImageFolder
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    label_text: tuple[str, ...]
    groups: tuple[str, ...] | None
    all_values: tuple[str, ...]
    id_column: str
    label_column: str


def _digits(config: DataConfig) -> DataConfig:
    base = Path(config.cache_dir).expanduser() if config.cache_dir else default_cache_dir()
    folder = write_digits(base / "digits")
    return DataConfig(
        source="csv",
        path=str(folder / "train.csv"),
        images=str(folder / "train"),
        test_images=str(folder / "test"),
        sample_submission=str(folder / "sample_submission.csv"),
        on_bad_image=config.on_bad_image,
        cache_dir=config.cache_dir,
        workers=config.workers,
    )


def _from_folder(config: DataConfig) -> _Train:
    """One subfolder per class; an id is the path below the root, with "/"."""
    root = existing(config.path, "data.path")
    if not is_folder(root, "data.path"):
        raise DataError(f"data.path={root}: is a file; data.source=folder expects a folder")
    if config.group_column is not None:
        raise DataError(
            f"data.group_column={config.group_column}: data.source=folder has no columns; "
            "list the images in a CSV (data.source=csv)"
        )
    folder = folder_at(root)
    folders = folder.folders()
    if not folders:
        raise DataError(f"data.path={root}: no folders in it, expected one folder per class")
    images = [image for image in folder.images() if "/" in image]
    if not images:
        raise DataError(
            f"data.path={root}: no images in its {len(folders)} folders "
            f"(looked for {', '.join(EXTENSIONS)})"
        )
    return _Train(
        folder=folder,
        ids=tuple(images),
        paths=tuple(joined(root, image) for image in images),
        label_text=tuple(image.partition("/")[0] for image in images),
        groups=None,
        all_values=tuple(folders),
        id_column=config.id_column or "id",
        label_column=config.label_column or "label",
    )


def _from_table(config: DataConfig) -> _Train:
    """A table with an image name and a label a row."""
    path = existing(config.path, "data.path")
    frame = read_table(path, "data.path", parquet=config.source == "parquet")
    id_column = _id_column(frame, config.id_column, path)
    others = frame.drop(columns=id_column)
    label_column = column_of(others, config.label_column, LABEL_NAMES, "data.label_column", path)
    if label_column is None:
        raise DataError(
            f"{path}: no column is called {', '.join(LABEL_NAMES[:5])}; set data.label_column "
            f"to one of its columns: {', '.join(frame.columns)}"
        )
    groups = None
    if config.group_column is not None:
        column = column_of(frame, config.group_column, (), "data.group_column", path)
        groups = texts(frame, str(column))
    folder = (
        open_folder(config.images, "data.images") if config.images else folder_at(parent_of(path))
    )
    ids, label_text = texts(frame, id_column), texts(frame, label_column)
    paths = tuple(folder.find(name) for name in ids)
    require_some(paths, folder, path, "data.images")
    values = tuple(sorted({text for text in label_text if text}))
    return _Train(folder, ids, paths, label_text, groups, values, id_column, label_column)


def _id_column(frame: pd.DataFrame, wanted: str | None, where: str) -> str:
    found = column_of(frame, wanted, ID_NAMES, "data.id_column", where)
    return found if found is not None else str(frame.columns[0])


# --- classes -----------------------------------------------------------------------------------


def _classes(config: DataConfig, train: _Train) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Label values, sorted (whole numbers by size), and the display name of each."""
    if config.classes is None:
        values = _sorted_values(train.all_values)
        return values, values
    path = existing(config.classes, "data.classes")
    frame = read_table(path, "data.classes")
    value_column = _value_column(frame, train, path)
    others = [str(column) for column in frame.columns if column != value_column]
    name_column = next((name for name in others if "name" in name.lower()), None)
    name_column = name_column or (others[0] if others else value_column)
    values, names = texts(frame, value_column), texts(frame, name_column)
    for column, cells in ((value_column, values), (name_column, names)):
        twice = next((cell for cell in cells if cells.count(cell) > 1), None)
        if twice is not None:
            raise DataError(f"{path}: {column} {twice} comes twice, expected one row per class")
    names_by_value = dict(zip(values, names, strict=True))
    values = _sorted_values(values)
    return values, tuple(names_by_value[value] for value in values)


def _value_column(frame: pd.DataFrame, train: _Train, path: str) -> str:
    """The column named like the label column, else the one that holds most of the labels."""
    columns = [str(column) for column in frame.columns]
    if train.label_column in columns:
        return train.label_column
    labels = set(train.all_values)
    held = {column: len(labels & set(texts(frame, column))) for column in columns}
    best = max(columns, key=lambda column: held[column])
    if not held[best]:
        raise DataError(
            f"data.classes={path}: no column holds the labels "
            f"({', '.join(_sorted_values(labels)[:3])}, …); columns: {', '.join(columns)}"
        )
    return best


def _sorted_values(values: Iterable[str]) -> tuple[str, ...]:
    values = list(values)
    if all(re.fullmatch(r"[+-]?\d+", value) for value in values):
        return tuple(sorted(values, key=int))
    return tuple(sorted(values))


# --- test images -------------------------------------------------------------------------------


def _test_set(
    config: DataConfig, train: _Train, classes: tuple[str, ...], values: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], SubmissionFormat | None]:
    """Ids, paths and the submission's format; the sample submission's order where there is one."""
    folder = train.folder
    listed: list[tuple[str, str]] = []
    if config.test_images:
        folder, listed = _test_images(config.test_images, config, train)
    if config.sample_submission is None:
        if not listed:
            return (), (), None
        listed.sort()
        form = SubmissionFormat((train.id_column, train.label_column), "label", train.id_column)
        return tuple(name for name, _ in listed), tuple(path for _, path in listed), form
    path = existing(config.sample_submission, "data.sample_submission")
    frame = read_table(path, "data.sample_submission")
    named = next((c for c in (config.id_column, train.id_column) if c in frame.columns), None)
    id_column = _id_column(frame, named, path)
    form = submission_format(tuple(map(str, frame.columns)), id_column, classes, values, path)
    files = {os.path.splitext(name)[0]: file for name, file in reversed(listed)} | dict(listed)
    ids = texts(frame, id_column)
    paths = tuple(files.get(name) or folder.find(name) for name in ids)
    require_some(paths, folder, path, "data.test_images")
    return ids, paths, form


def _test_images(
    named: str, config: DataConfig, train: _Train
) -> tuple[ImageFolder, list[tuple[str, str]]]:
    """(id, path) of the images that a folder, a glob pattern or a table names, and the folder that
    their ids are relative to."""
    if is_pattern(named):
        return _from_pattern(named)
    path = existing(named, "data.test_images")
    if is_folder(path, "data.test_images"):
        folder = train.folder if path == train.folder.root else folder_at(path)
        listed = [(name, joined(path, name)) for name in folder.images()]
        if not listed:
            raise DataError(f"data.test_images={path}: no images in it")
        return folder, listed
    if not address_of(path).lower().endswith(TABLE_SUFFIXES):
        raise DataError(f"data.test_images={path}: expected a folder, a glob pattern or a table")
    return _from_names(path, config, train)


def _from_pattern(named: str) -> tuple[ImageFolder, list[tuple[str, str]]]:
    root, images = images_like(named, "data.test_images")
    return folder_at(root), images


def _from_names(
    path: str, config: DataConfig, train: _Train
) -> tuple[ImageFolder, list[tuple[str, str]]]:
    """A table of names, its images beside it or where the training images are."""
    frame = read_table(path, "data.test_images")
    named = next((c for c in (config.id_column, train.id_column) if c in frame.columns), None)
    names = texts(frame, _id_column(frame, named, path))
    listed: list[tuple[str, str]] = []
    for folder in (train.folder, folder_at(parent_of(path))):
        listed = [(name, folder.find(name)) for name in names]
        if any_there([file for _, file in listed], folder):
            return folder, listed
    raise DataError(
        f"data.test_images={path}: none of its {len(names)} images is beside it or in "
        f"{train.folder.root}; give the folder of the test images"
    )
