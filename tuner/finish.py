"""After (or during) a search: the table of fold runs, the blend and the submission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ensemble.blend import Blend, BlendSettings
from ensemble.files import Location
from ensemble.run import blend_run
from ensemble.store import OofStore
from search_spaces.config import BlendConfig, RunConfig
from trainables.folds import read_test_table
from trainables.seeds import derive_seed
from trainables.submission import write_submission
from tuner.errors import UserError
from tuner.ledger import fold_run_table, write_fold_runs
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
    directory, form = stored.directory, stored.record.submission
    if form is None or not directory.test_table.exists():
        return False
    store = OofStore(directory.root)
    used = [member.config_id for member in blend.used_members]
    predictions = blend.predict({one: store.read_test(one) for one in used})
    order = read_test_table(directory.test_table).ids
    with _as_local_file(directory.submission) as path:
        write_submission(
            path,
            form,
            order,
            predictions.aligned_to(order).proba,
            classes=stored.record.classes,
            label_values=stored.record.label_values,
        )
    return True


@contextmanager
def _as_local_file(location: Location) -> Iterator[Path]:
    """A path to write to, uploaded afterwards where `location` is on an object store."""
    if location.is_local:
        yield location.local_path
        return
    with TemporaryDirectory(prefix="foldblend-") as folder:
        path = Path(folder) / location.name
        yield path
        location.write_bytes(path.read_bytes())


def save_ledger(stored: StoredRun) -> None:
    """Bring `fold_runs.parquet` up to what the journal says."""
    write_fold_runs(stored.directory, fold_run_table(stored.race, stored.configurations))


def require_members(stored: StoredRun) -> Sequence[str]:
    """The members so far. UserError where there is none."""
    members = stored.race.members
    if not members:
        raise UserError(
            f"{stored.directory.root}: no configuration has all its folds yet; "
            f"see `foldblend status {stored.directory.root}`, or go on with "
            f"`foldblend search --resume {stored.directory.root}`"
        )
    return members
