"""The blended score while a search still runs: a quick blend of the members complete so far.

Not the blend that the search ends with: greedy weights alone, without temperatures, calibration
and intervals. It is nested all the same (each fold is judged by weights fitted on the others), so
it does not flatter, and it can be set beside the best single score.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ensemble.blend import BlendSettings, fit_blend
from ensemble.errors import BlendError
from ensemble.store import OofStore
from tuner import events as ev
from tuner.journal import Record
from tuner.race import Race
from tuner.run_directory import RunDirectory

# Nobody waits for this number: beyond so many probabilities it is not worth a head node's memory.
MOST_VALUES = 1 << 27
# It may take this share of one core.
SHARE = 0.1


class BlendSoFar:
    """A listener that fits anew beside the search when a member is complete. Use as a context;
    `score()` is None until the first fit is done. A fit that fails leaves the score as it was."""

    def __init__(
        self,
        run: RunDirectory,
        *,
        n_folds: int,
        metric: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._n_folds, self._metric, self._clock = run, n_folds, metric, clock
        self._score: float | None = None
        self._wanted = False
        self._next = float("-inf")
        self._thread: threading.Thread | None = None

    def __enter__(self) -> BlendSoFar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._thread is not None:
            self._thread.join()

    def __call__(self, record: Record, race: Race) -> None:
        self._wanted |= any(isinstance(one, ev.Complete) for one in record.decisions)
        is_busy = self._thread is not None and self._thread.is_alive()
        if self._wanted and not is_busy and self._clock() >= self._next:
            self._wanted = False
            self._thread = threading.Thread(target=self._fit, name="blend so far", daemon=True)
            self._thread.start()

    def score(self) -> float | None:
        return self._score

    def _fit(self) -> None:
        started = self._clock()
        try:
            score = blended_score(self._run, n_folds=self._n_folds, metric=self._metric)
        except (BlendError, OSError):
            return  # a number to look at is no reason to disturb a search
        finally:
            took = self._clock() - started
            self._next = started + took / SHARE
        if score is not None:
            self._score = score


def blended_score(run: RunDirectory, *, n_folds: int, metric: str) -> float | None:
    """The nested score of a greedy blend of every complete member of `run`. None where there is no
    member, or where there are too many probabilities. BlendError where the store is at odds."""
    store = OofStore(run.root)
    names = store.complete_members(n_folds)
    if not names:
        return None
    first = store.read_member(names[0])
    if first.proba.size * len(names) > MOST_VALUES:
        return None
    members = {names[0]: first}
    members |= {name: store.read_member(name) for name in names[1:]}
    settings = BlendSettings(
        metric=metric,
        methods=("greedy",),
        calibrate=False,
        calibrate_blend="none",
        bootstrap=0,
        refits=0,
        explain=False,
    )
    return fit_blend(members, store.metadata(names[0]).classes, settings).nested.blend.value
