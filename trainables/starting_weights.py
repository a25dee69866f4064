"""What a search may not start from: the weights of one fold run.

They have seen the labels of every row outside their fold. A search that starts all its folds from
them carries those labels to the rows that it is to predict, and its score is no longer to be
believed. `backbone.from_run` starts each fold from its own (`earlier_run.py`).
"""

from __future__ import annotations

from pathlib import Path

from ensemble.files import Location
from trainables.recipe import BackboneError
from trainables.run_paths import RunPaths
from trainables.weights import fold_run_of


def refuse_weights_of_a_fold(file: Path, said: str, way: str) -> None:
    """BackboneError where a fold run wrote `file`: it lies in a run directory, or its header says
    so, in a bundle and as a copy too. `said`: what the user wrote (`key=value`); `way`: the key by
    which it can be had.

    Also for other data: whether the images are others cannot be told, because a few more of them,
    or the same ones under other names, are another data set."""
    place = _in_a_run(file.resolve())
    if place is None and file.suffix == ".safetensors" and file.is_file():
        written = fold_run_of(Location.of(file))
        place = written and f"RUN/weights/{written[0]}"
    if place is None:
        return
    raise BackboneError(
        f"{said}: {file.name} has the weights of one fold of a run, which have seen labels of the "
        f"other folds; write {way}={place}, then each fold starts from its own (for images that "
        "they have never seen: save the tensors to a file of their own, without this header)"
    )


def _in_a_run(file: Path) -> str | None:
    """What `from_run` is told where `file` is in RUN/weights/CONFIG_ID/fold=…, or among the
    checkpoints beside."""
    folder = file.parent
    if not folder.name.startswith("fold=") or len(folder.parents) < 3:
        return None
    run = folder.parents[2]
    if not RunPaths(Location.of(run)).folds.exists():
        return None
    return f"{run}/weights/{folder.parent.name}"
