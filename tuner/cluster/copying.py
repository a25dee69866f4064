"""A run that this machine can read itself (an object store, a shared disk): copied file by file."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tuner.cluster.contents import Item
from tuner.cluster.landing import Landing, Progress, counted_from, digest_of, is_full, link, no_room
from tuner.cluster.parcel import read_item
from tuner.cluster.parcel_format import PackedFile, check_names

BEGUN = ".part"  # the end of a file's name while it is written


def copy_items(
    items: Sequence[Item], landed: Landing, progress: Progress
) -> tuple[tuple[PackedFile, ...], int]:
    """Bring every item among the arriving files; returns them with their SHA-256, and how many
    bytes were read. Files of an earlier copy, unchanged since, are taken as they are.

    `progress` hears how many bytes are there. UserError where this disk is full."""
    check_names([item.name for item in items])
    landed.forget_others({item.name for item in items})
    missing = [item for item in items if not _have(item, landed)]
    to_come = sum(item.size for item in missing)
    if shutil.disk_usage(landed.aside).free < to_come:
        raise no_room(landed.aside, to_come)
    here = sum(item.size for item in items) - to_come
    progress(here)
    digests: dict[str, str] = {}
    for item in missing:
        try:
            place = landed.arriving / item.name
            digests[item.name] = _copy(item, place, counted_from(here, progress))
        except OSError as error:
            if is_full(error):
                raise no_room(landed.aside) from error
            raise
        here += item.size
    files = tuple(
        PackedFile(item.name, item.size, digests.get(item.name) or _digest(landed, item))
        for item in items
    )
    return files, to_come


def _copy(item: Item, place: Path, progress: Progress) -> str:
    """Write beside and rename; returns the SHA-256 of what was read."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(place.name + BEGUN)
    digest, size = hashlib.sha256(), 0
    with beside.open("wb") as file:
        for chunk in read_item(item):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress(size)
    if item.changed_ns:
        os.utime(beside, ns=(item.changed_ns, item.changed_ns))
    beside.rename(place)
    return digest.hexdigest()


def _have(item: Item, landed: Landing) -> bool:
    """Whether an item is among the arriving files; one that was fetched before is put there."""
    place, before = landed.arriving / item.name, landed.folder / item.name
    if not _is_here(item, place) and _is_here(item, before):
        link(before, place)
    return _is_here(item, place)


def _is_here(item: Item, place: Path) -> bool:
    """By size and by the time of the last change, which the copy has from its original."""
    try:
        found = place.stat()
    except OSError:
        return False
    return item.changed_ns != 0 and (found.st_size, found.st_mtime_ns) == (
        item.size,
        item.changed_ns,
    )


def _digest(landed: Landing, item: Item) -> str:
    digest = digest_of(landed.arriving / item.name)
    assert digest is not None, f"{item.name} was there a moment ago"
    return digest
