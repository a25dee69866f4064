"""Put local files onto the S3 server of the tests."""

from __future__ import annotations

import uuid
from pathlib import Path

from ensemble.files import Location


def new_place(endpoint: str) -> Location:
    """A prefix of its own in the bucket `runs`."""
    return Location.of(f"s3://runs/{uuid.uuid4().hex}?endpoint_override={endpoint}")


def upload(folder: Path, place: Location) -> str:
    """Every file below `folder` under the same name; the URI of `place`."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            (place / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())
    return place.uri
