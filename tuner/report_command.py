"""`foldblend report`: analyse a run's ensemble, then write the page."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from ensemble.blend_value import Blend, read_blend
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.rules import Rules, read_rules
from ensemble.run import BLEND_OOF_FILE, read_nested
from ensemble.store import OofStore
from search_spaces.config import BlendConfig
from search_spaces.validation import validate
from tuner.analysis import analyse_run
from tuner.errors import UserError
from tuner.finish import blend_stored, save_ledger
from tuner.replayed import StoredRun
from tuner.report.page import write_report

Say = Callable[[str], None]


def report_run(stored: StoredRun, say: Say) -> Location:
    """`report.html` and `analysis/` of a run, finished or not; it is blended first where it has
    members and no blend of all of them, in the way of the last blend. Returns where the page
    lies."""
    directory = stored.directory
    save_ledger(stored)
    if stored.race.members:
        blend = _current_blend(stored, say)
        if read_nested(directory.root, blend) is not None:
            analyse_run(stored, blend, say)
    return write_report(stored, progress=say)


def _current_blend(stored: StoredRun, say: Say) -> Blend:
    if not stored.directory.blend.exists():
        return blend_stored(stored, say=say)
    blend = read_blend(stored.directory.blend)
    if not _lacks_members(stored, blend) and _has_predictions(stored, blend):
        return blend
    try:
        rules = _rules_of(stored, blend)
    except (OSError, BlendError) as error:
        if _has_predictions(stored, blend):
            return blend  # without its rules it would be another blend
        root = stored.directory.root
        raise UserError(
            f"{root}: blend.json and {BLEND_OOF_FILE} are not of the same blend, and its rules "
            f"cannot be read ({error}); run `foldblend blend {shlex.quote(str(root))}`"
        ) from error
    return blend_stored(stored, _way_of(stored, blend), rules=rules, say=say)


def _lacks_members(stored: StoredRun, blend: Blend) -> bool:
    """Whether members are complete that the blend has not seen."""
    complete = OofStore(stored.directory.root).complete_members(stored.config.folds.k)
    return not set(complete) <= {member.config_id for member in blend.members}


def _has_predictions(stored: StoredRun, blend: Blend) -> bool:
    """Whether its nested predictions are there, or it has none because it read only the true
    class's probabilities."""
    whole = all(member.accuracy is not None for member in blend.members)
    return not whole or read_nested(stored.directory.root, blend) is not None


def _way_of(stored: StoredRun, blend: Blend) -> BlendConfig:
    """The run's own settings with what `foldblend blend` may have changed."""
    changes = {
        "metric": blend.metric,
        "methods": [method.name for method in blend.methods],
        "calibrate_blend": blend.calibration.kind,
    }
    return validate(BlendConfig, stored.config.blend.model_dump() | changes, "blend")


def _rules_of(stored: StoredRun, blend: Blend) -> Rules | None:
    if blend.rules is None:
        return None
    return read_rules(Location.of(blend.rules.source), stored.record.classes)
