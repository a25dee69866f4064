"""A machine that cannot read the images which the machine that began the search could read.

Its fold run is no worse for it: it is tried elsewhere. The machine keeps its slot, so that nothing
else is sent there, and looks again until the images are there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from trainables.errors import DataError, OtherImagesError, UnreachableError, UnreadableImageError
from trainables.failure import Failure
from trainables.images import decode_image

# Every image was read and decoded when the run was begun: what fails now is this machine.
FAULTS = (UnreadableImageError, UnreachableError, OtherImagesError)

# The key under which a worker says that it waits for the images.
HELD = "held"
LOOK_AGAIN_SECONDS = 10.0


def machine_failure(error: DataError) -> Failure:
    """The failure of a fold run that is to be tried on another machine, in one line."""
    here = f"machine {socket.gethostname()} cannot read the images: {error}"
    if isinstance(error, UnreachableError | OtherImagesError):
        return Failure("lost", here)
    return Failure(
        "lost",
        f"{here}; bring them to this place on every machine (a shared file system, or file_mounts "
        "in the cluster's file), or name them by a URI such as s3://bucket/folder",
    )


def can_read(error: DataError, load: Callable[[], object]) -> bool:
    """Whether what failed with `error` works now: the image named by it, and then `load`, all that
    a fold run begins with."""
    try:
        if isinstance(error, UnreadableImageError):
            decode_image(error.where)
        load()
    except FAULTS:
        return False
    return True
