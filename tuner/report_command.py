"""`foldblend report`: analyse a run's ensemble, then write the page."""

from __future__ import annotations

from collections.abc import Callable

from ensemble.blend_value import read_blend
from ensemble.files import Location
from ensemble.run import BLEND_OOF_FILE
from tuner.analysis import analyse_run
from tuner.finish import blend_stored, save_ledger
from tuner.replayed import StoredRun
from tuner.report.page import write_report


def report_run(stored: StoredRun, say: Callable[[str], None]) -> Location:
    """`report.html` and `analysis/` of a run, finished or not; it is blended first where it has
    members and no blend of this version. Returns where the page lies."""
    directory = stored.directory
    save_ledger(stored)
    if stored.race.members:
        current = directory.blend.exists() and (directory.root / BLEND_OOF_FILE).exists()
        blend = read_blend(directory.blend) if current else blend_stored(stored, say=say)
        if (directory.root / BLEND_OOF_FILE).exists():
            analyse_run(stored, blend, say)
    return write_report(stored, progress=say)
