"""After (or during) a search: the table of fold runs, the blend and the submission."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ensemble.blend import Blend, BlendSettings, Progress
from ensemble.files import Location
from ensemble.rules import Rules
from ensemble.run import blend_run
from ensemble.store import OofStore
from search_spaces.config import BlendConfig
from trainables.folds import read_test_table
from trainables.seeds import derive_seed
from trainables.submission import write_submission
from tuner.errors import UserError
from tuner.ledger import fold_run_table, write_fold_runs
from tuner.race import PROBE_FOLD
from tuner.replayed import StoredRun


def blend_settings(blend: BlendConfig, *, seed: int, probe_fold: int) -> BlendSettings:
    """The typed `blend` group as the blend's own settings."""
    return BlendSettings(
        **blend.model_dump(),
        seed=derive_seed(seed, "blend"),
        probe_fold=probe_fold,
    )


def blend_stored(
    stored: StoredRun,
    chosen: BlendConfig | None = None,
    *,
    rules: Rules | None = None,
    say: Progress | None = None,
) -> Blend:
    """Fit on the members complete so far, write `blend.json`, the nested predictions and, where
    there is a test set, the submission. BlendError where no member is complete."""
    config = stored.config
    fitted = blend_run(
        stored.directory.root,
        blend_settings(chosen or config.blend, seed=config.seed, probe_fold=PROBE_FOLD),
        n_folds=config.folds.k,
        rules=rules,
        progress=say,
    )
    write_run_submission(stored, fitted.blend, rules)
    return fitted.blend


def write_run_submission(stored: StoredRun, blend: Blend, rules: Rules | None = None) -> bool:
    """`submission.csv` from the stored test probabilities; False where there is no test set."""
    directory, form = stored.directory, stored.record.submission
    if form is None or not directory.test_table.exists():
        return False
    store = OofStore(directory.root)
    used = [member.config_id for member in blend.used_members]
    predictions = blend.predict({one: store.read_test(one) for one in used}, rules)
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
        run = shlex.quote(str(stored.directory.root))
        raise UserError(
            f"{stored.directory.root}: no configuration has all its folds yet; "
            f"see `foldblend status {run}`, or go on with `foldblend search --resume {run}`"
        )
    return members
