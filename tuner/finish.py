"""After (or during) a search: the table of fold runs, the blend and the submission."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble.blend import Blend, BlendSettings
from ensemble.run import blend_run
from ensemble.store import OofStore
from search_spaces.config import BlendConfig, RunConfig
from trainables.folds import read_test_table
from trainables.seeds import derive_seed
from trainables.submission import write_submission
from tuner.errors import UserError
from tuner.ledger import fold_run_table, write_fold_runs
from tuner.prepare import submission_of
from tuner.race import PROBE_FOLD
from tuner.replayed import StoredRun


def blend_settings(config: RunConfig, chosen: BlendConfig | None = None) -> BlendSettings:
    """The typed `blend` group as the blend's own settings."""
    blend = chosen or config.blend
    return BlendSettings(
        metric=blend.metric,
        methods=tuple(blend.methods),
        calibrate=blend.calibrate,
        greedy_steps=blend.greedy_steps,
        bootstrap=blend.bootstrap,
        confidence=blend.confidence,
        seed=derive_seed(config.seed, "blend"),
        probe_fold=PROBE_FOLD,
    )


def blend_stored(stored: StoredRun, chosen: BlendConfig | None = None) -> Blend:
    """Fit on the members complete so far, write `blend.json` and, where there is a test set, the
    submission. BlendError where no member is complete."""
    blend = blend_run(
        stored.directory.root,
        blend_settings(stored.config, chosen),
        n_folds=stored.config.folds.k,
    )
    write_run_submission(stored, blend)
    return blend


def write_run_submission(stored: StoredRun, blend: Blend) -> bool:
    """`submission.csv` from the stored test probabilities; False where there is no test set."""
    directory = stored.directory
    if not directory.test_table.exists() or not directory.root.is_local:
        return False
    store = OofStore(directory.root)
    wanted = [one.config_id for one in blend.members if one.weight > 0]
    predictions = blend.predict({one: store.read_test(one) for one in wanted})
    order = read_test_table(directory.test_table).ids
    ordered = predictions.aligned_to(order)
    write_submission(
        directory.submission.local_path,
        submission_of(dict(stored.raw)),
        order,
        ordered.proba,
        classes=stored.record.classes,
        label_values=stored.record.label_values,
    )
    return True


def save_ledger(stored: StoredRun) -> None:
    write_fold_runs(stored.directory, fold_run_table(stored.race, stored.configurations))


def require_members(stored: StoredRun) -> Sequence[str]:
    members = stored.race.members
    if not members:
        raise UserError(
            f"{stored.directory.root}: no configuration has all its folds yet; "
            f"see `foldblend status {stored.directory.root}`, or go on with "
            f"`foldblend search --resume {stored.directory.root}`"
        )
    return members

