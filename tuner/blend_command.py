"""`foldblend blend`: of one run, or of members from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from ensemble.analysis.inputs import Progress
from ensemble.analysis.tables import FOLDER, analyse, write_analysis
from ensemble.blend import Blend, Fitted, fit_library
from ensemble.class_order import depends_on_order
from ensemble.files import Location
from ensemble.library import read_library
from ensemble.metrics import get_metric
from ensemble.predictions import Predictions
from ensemble.rules import Rules, read_rules
from ensemble.run import write_fitted
from ensemble.sources.columns import are_whole_numbers, shown
from ensemble.sources.gather import Gathered, GatherOptions, gather
from search_spaces.config import BlendConfig
from search_spaces.validation import validate
from trainables.run_data import read_record
from trainables.submission import SubmissionFormat, write_submission
from tuner.analysis import analysed
from tuner.errors import UserError
from tuner.finish import blend_settings, blend_stored, require_members, save_ledger
from tuner.progress import saying
from tuner.race import PROBE_FOLD
from tuner.replayed import StoredRun, read_run
from tuner.run_directory import RunDirectory
from tuner.standings import is_optimistic

NO_PROBE_FOLD = -1  # nothing was selected on a fold of OOF files from elsewhere


@dataclass(frozen=True)
class BlendRequest:
    """What the command line asked for. `changes`: to the `blend` group, only what was given."""

    sources: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    gather: GatherOptions = field(default_factory=GatherOptions)
    rules: str | None = None
    submission: Path | None = None
    probabilities: bool | None = None
    folder: Path = Path("blend")

    @property
    def is_one_run(self) -> bool:
        """One run directory, with its own labels, folds and test set."""
        if len(self.sources) != 1 or self.gather != GatherOptions():
            return False
        return _is_run(self.sources[0])


@dataclass(frozen=True, eq=False)
class Blended:
    """What came of members from anywhere. `notes`: what was left out or assumed; `written`: the
    files, each with what it is; `optimistic`: members whose own scores flatter."""

    blend: Blend
    notes: tuple[str, ...]
    written: tuple[tuple[str, str], ...]
    optimistic: tuple[str, ...] = ()


def blend_run_request(
    request: BlendRequest, console: Console
) -> tuple[StoredRun, Blend, tuple[tuple[str, str], ...]]:
    """Fit a run's ensemble again, by its own `blend` group with what was asked for changed.
    Returns the run, its blend, and the files written beside it, each with what it is."""
    stored = read_run(request.sources[0])
    require_members(stored)
    config = _config(request, stored.config.blend)
    save_ledger(stored)
    rules = _rules(request, stored.record.classes)
    with saying(console) as say:
        blend = blend_stored(stored, config, rules=rules, say=say)
    written = []
    if request.submission:
        if not stored.directory.submission.exists():
            raise UserError(
                f"{stored.directory.root}: has no test predictions, so there is no submission; "
                "search with data.test_images and data.sample_submission, or use "
                "`foldblend export` and `foldblend predict`"
            )
        Location.of(request.submission).write_bytes(stored.directory.submission.read_bytes())
        written.append((str(request.submission), "predictions for the test images"))
    return stored, blend, tuple(written)


def blend_gathered(request: BlendRequest, console: Console) -> Blended:
    """Blend members from run directories and files of other programs, and write `blend.json`, the
    nested predictions and the analysis into the request's folder."""
    config = _config(request, BlendConfig())
    folder = Location.of(request.folder)
    with saying(console) as say:
        say("reading members")
        found = gather(request.sources, request.gather)
        settings = blend_settings(config, seed=0, probe_fold=_probe_fold(found))
        rules = _rules(request, found.classes)
        library = read_library(
            found.names,
            found.members.__getitem__,
            found.classes,
            groups=found.groups,
            row_weights=found.row_weights,
        )
        fitted = fit_library(library, settings, rules=rules, progress=say)
        write_fitted(folder, fitted)
        write_analysis(folder / FOLDER, _analysis(fitted, found, say))
    written = [
        (f"{request.folder}/blend.json", "weights, temperatures, scores"),
        (f"{request.folder}/blend_oof.parquet", "the nested predictions of every labelled row"),
        (f"{request.folder}/{FOLDER}/", "confusions, agreement, suspicious labels: Parquet"),
    ]
    if request.submission:
        _write_test(request, fitted.blend, found, rules)
        written.append((str(request.submission), "predictions for the test rows"))
    return Blended(
        fitted.blend,
        (
            *found.notes,
            *_run_notes(found),
            *_probe_notes(found),
            *_order_notes(found, config.metric),
        ),
        tuple(written),
        tuple(name for name in found.names if is_optimistic(found.configurations.get(name, {}))),
    )


def _analysis(fitted: Fitted, found: Gathered, say: Progress) -> Mapping[str, pa.Table]:
    predictions = fitted.nested_predictions()
    assert predictions is not None  # gathered members have whole probabilities

    def read(name: str) -> np.ndarray:
        return found.members[name].aligned_to(predictions.ids).proba

    return analyse(analysed(fitted.blend, predictions, read), progress=say)


def _config(request: BlendRequest, base: BlendConfig) -> BlendConfig:
    return validate(BlendConfig, base.model_dump() | dict(request.changes), "blend")


def _probe_fold(found: Gathered) -> int:
    """Members of runs were selected on the probe fold of the run whose folds are used."""
    of_a_run = found.folds_of is not None and _is_run(found.folds_of)
    return PROBE_FOLD if of_a_run else NO_PROBE_FOLD


def _probe_notes(found: Gathered) -> list[str]:
    """A note for each run of which rows of the probe fold stay in the score without it."""
    folds = next(iter(found.members.values())).folds
    kept = folds != _probe_fold(found)
    notes = []
    for run, own in found.run_folds.items():
        rows = int(np.count_nonzero(kept & (own == PROBE_FOLD)))
        if rows and _is_run(run):
            notes.append(
                f"{run}: its configurations were selected on its fold {PROBE_FOLD}, and {rows} of "
                "those rows are scored as any other: the scores flatter by what that selection won"
            )
    return notes


def _run_notes(found: Gathered) -> list[str]:
    """What the runs note of their own scores."""
    runs = [run for run in found.run_folds if _is_run(run)]
    raws = {run: read_record(RunDirectory.of(run))[1] for run in runs}
    return [f"{run}: {note}" for run, raw in raws.items() for note in raw.get("notes", ())]


def _order_notes(found: Gathered, metric: str) -> list[str]:
    classes = found.classes
    if not depends_on_order(get_metric(metric), len(classes)):
        return []
    if are_whole_numbers(classes):
        return [f"{metric} depends on the order of the classes, here by size: {shown(classes)}"]
    return [
        f"{metric} depends on the order of the classes, here {shown(classes)}: a first file with "
        "columns named in another order changes it"
    ]


def _is_run(source: str) -> bool:
    return RunDirectory.of(source).run_yaml.exists()


def _rules(request: BlendRequest, classes: Sequence[str]) -> Rules | None:
    if request.rules is None:
        return None
    location = Location.of(request.rules)
    if not location.exists():
        raise UserError(f"{request.rules}: no such file of rules")
    return read_rules(location, classes)


def _write_test(
    request: BlendRequest, blend: Blend, found: Gathered, rules: Rules | None
) -> Predictions:
    assert request.submission is not None
    missing = [one.config_id for one in blend.used_members if not found.tests.get(one.config_id)]
    if missing:
        raise UserError(
            f"no test predictions of member {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + ", which the blend uses: give its file with --test, or leave the member out"
        )
    predictions = blend.predict(found.tests, rules)
    wide = request.probabilities
    if wide is None:
        wide = get_metric(blend.metric).from_decisions is None
    id_column = request.gather.id_column or "id"
    columns = (id_column, *(blend.classes if wide else (request.gather.label_column or "label",)))
    write_submission(
        request.submission,
        SubmissionFormat(columns, "probabilities" if wide else "label", id_column),
        predictions.ids.tolist(),
        predictions.proba,
        classes=blend.classes,
        label_values=blend.classes,
    )
    return predictions
