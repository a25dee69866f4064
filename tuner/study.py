"""The story of a search, from a command line to an ensemble. Reads as a table of contents."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ensemble.blend import Blend
from ensemble.metrics import get_metric
from search_spaces.config import RunConfig
from search_spaces.space import Study, load_study
from trainables.loop import run_fold
from trainables.run_data import RunData, load_run_data
from trainables.seeds import derive_seed
from tuner.checkpoints import discard, discard_ended
from tuner.conductor import Conductor, Listener
from tuner.errors import UserError
from tuner.finish import blend_stored, save_ledger
from tuner.journal import Journal, Record
from tuner.ledger import LedgerKeeper
from tuner.local import run_in_process
from tuner.own_groups import kept_groups
from tuner.prepare import max_epochs, prepare, refuse_existing, run_directory_of
from tuner.progress import DecisionLog, LiveTable, saying, steps
from tuner.proposals import Proposals
from tuner.race import Status
from tuner.replayed import StoredRun, read_run, spent_seconds
from tuner.report_command import report_run
from tuner.rules import rules_of
from tuner.run_directory import RunDirectory, exclusive
from tuner.slots import Slots
from tuner.watchers import watchers


@dataclass(frozen=True)
class Outcome:
    """How a search ended. `blend` is None where no member is complete; `stopped` by the user."""

    stored: StoredRun
    blend: Blend | None
    stopped: bool
    logs: str | None

    def why_empty(self) -> str:
        """One line for a search that ended without a member."""
        runs = self.stored.race.runs.values()
        failed = [run for run in runs if run.status is Status.FAILED]
        cause = f"; the first of {len(failed)} failures: {failed[0].why}" if failed else ""
        root = str(self.stored.directory.root)
        return (
            f"{root}: no configuration has all its folds, so there is no ensemble{cause}; "
            f"see `foldblend status {shlex.quote(root)}`"
        )


def search(
    overrides: Sequence[str],
    *,
    config_dir: Path | None = None,
    console: Console,
    in_process: bool = False,
) -> Outcome:
    """A new run: configuration, preparation, race, blend."""
    study = load_study(overrides, config_dir)
    rules_of(study.run, max_epochs(study.space))
    _say_if_metrics_differ(study.run, console)
    run = run_directory_of(study.run)
    refuse_existing(run)  # before the lock, which would leave its file in somebody's folder
    with exclusive(run):
        with steps(console) as step:
            prepared = prepare(study, config_dir, run, step)
        _say_why_no_cache(prepared.data, console)
        return _race_and_blend(study, run, prepared.data, console, in_process)


def resume(path: str, *, console: Console, in_process: bool = False) -> Outcome:
    """Go on with a run from its journal; a finished one is only blended again."""
    stored = read_run(path)
    study = study_of(stored)
    run = stored.directory
    with exclusive(run):
        with steps(console) as step:
            data = load_run_data(str(run.root), step("decoding images"))
        _say_why_no_cache(data, console)
        return _race_and_blend(study, run, data, console, in_process)


def _say_if_metrics_differ(config: RunConfig, console: Console) -> None:
    """What is chosen for one metric and blended for another is seldom meant."""
    searched, blended = config.search.metric, config.blend.metric
    if searched != blended:
        console.print(
            f"[yellow]note:[/yellow] configurations are compared by {searched}, the ensemble is "
            f"fitted for {blended}; blend={searched} fits it for {searched} too",
            soft_wrap=True,
        )


def _say_why_no_cache(data: RunData, console: Console) -> None:
    if data.cache.why:
        console.print(f"[yellow]note:[/yellow] {escape(data.cache.why)}", soft_wrap=True)


def study_of(stored: StoredRun) -> Study:
    """The study a run was started with. UserError where this version's files give another one."""
    raw = stored.raw
    with kept_groups(stored.directory, raw) as config_dir:
        study = load_study(raw["overrides"], config_dir)
    if study.space.fingerprint() != raw["space"]["fingerprint"]:
        raise UserError(
            f"{stored.directory.root}: the search space has changed since this run began "
            "(other files in search_spaces/ or in its config/); bring them back, or start a new run"
        )
    return replace(study, run=stored.config)


def _race_and_blend(
    study: Study, run: RunDirectory, data: RunData, console: Console, in_process: bool
) -> Outcome:
    if in_process:
        conductor = _race_in_process(study, run, data, console)
        logs = None
    else:
        conductor, logs = _race_on_ray(study, run, console)
    stored = read_run(str(run.root))
    discard_ended(run, stored.race)
    save_ledger(stored)
    if conductor.fatal:
        raise UserError(conductor.fatal.message)
    return Outcome(stored, _blend_and_report(stored, console), conductor.stopped, logs)


def _blend_and_report(stored: StoredRun, console: Console) -> Blend | None:
    if not stored.race.members:
        return None
    with saying(console) as say:
        blend = blend_stored(stored, say=say)
        report_run(stored, say)
    return blend


def _race_on_ray(study: Study, run: RunDirectory, console: Console) -> tuple[Conductor, str]:
    from tuner.engine import connected, run_on_ray

    with ExitStack() as stack:
        with console.status("starting Ray"):
            cluster = stack.enter_context(connected(study.run, _once(console)))
        at_once = f"{cluster.slots.count} fold runs at a time; Ray's logs: {cluster.logs}"
        console.print(at_once, style="dim", highlight=False, soft_wrap=True)
        listeners = stack.enter_context(watchers(study.run, run, cluster.slots, console))
        conductor = _conductor(study, run, cluster.slots, listeners)
        run_on_ray(conductor, study.run, run, cluster)
    return conductor, cluster.logs


def _once(console: Console) -> Callable[[str], None]:
    """Say a thing once, however often it is said."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            console.print(f"[yellow]note:[/yellow] {escape(text)}", soft_wrap=True)

    return say


def _race_in_process(study: Study, run: RunDirectory, data: RunData, console: Console) -> Conductor:
    slots = Slots(study.run.search.resources.slots or 1)
    with LiveTable(console, slots) as table:
        conductor = _conductor(study, run, slots, [table])
        run_in_process(conductor, lambda task: run_fold(task, data))
    return conductor


def _conductor(
    study: Study, run: RunDirectory, slots: Slots, listeners: Sequence[Listener]
) -> Conductor:
    """A conductor that stands where the journal ends."""
    config, journal = study.run, Journal(run.journal)
    records = journal.read()
    now = time.time()
    conductor = Conductor(
        run=str(run.root),
        rules=rules_of(config, max_epochs(study.space)),
        proposals=Proposals(
            study.space,
            config.search.sampler,
            metric=config.search.metric,
            maximise=get_metric(config.search.metric).higher_is_better,
            seed=derive_seed(config.seed, "proposals"),
        ),
        journal=journal,
        slots=slots,
        threads=config.search.resources.threads,
        clock=time.time,
        deadline=_deadline(config.search.budget.hours, records, now),
        listeners=[DecisionLog(run.log, since=now), LedgerKeeper(run), *listeners],
        discard=partial(discard, run),
    )
    conductor.replay(records)
    return conductor


def _deadline(hours: float | None, records: Sequence[Record], now: float) -> float | None:
    """Hours spent before an interruption count; the pause does not."""
    if hours is None:
        return None
    return now + hours * 3600.0 - spent_seconds(records)
