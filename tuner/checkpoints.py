"""Checkpoints that nobody goes on from: of fold runs that were pruned, stopped or given up.

A finished fold run deletes its own. The others end where the search says so, and a model with its
optimizer may be a gigabyte.
"""

from __future__ import annotations

from contextlib import suppress

from tuner.race import Race
from tuner.run_directory import RunDirectory


def discard(run: RunDirectory, config_id: str, fold: int) -> None:
    """Delete one, where it is there. What cannot be deleted is no reason to end a search."""
    with suppress(OSError):
        run.checkpoint_folder(config_id, fold).delete()


def discard_ended(run: RunDirectory, race: Race) -> None:
    """Delete all of fold runs that are over: a worker may have written one after its end was
    decided, and a kill may have come before the deletion."""
    with suppress(OSError):
        held = {one.name for one in (run.root / "checkpoints").list()}
        for (config_id, fold), fold_run in race.runs.items():
            if fold_run.is_over and config_id in held:
                discard(run, config_id, fold)
