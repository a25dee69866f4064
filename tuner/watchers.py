"""Everybody who watches a search on Ray: the live table or the progress line, and the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console

from search_spaces.config import RunConfig
from tuner.blend_so_far import BlendSoFar
from tuner.conductor import Listener
from tuner.metrics import Metrics
from tuner.progress import LiveTable
from tuner.progress_line import ProgressLine, wants_lines
from tuner.run_directory import RunDirectory
from tuner.slots import Slots


@contextmanager
def watchers(
    config: RunConfig, run: RunDirectory, slots: Slots, console: Console
) -> Iterator[list[Listener]]:
    """The listeners of a search on the Ray that is connected; they end with the context."""
    since = time.time()
    blend = BlendSoFar(run, n_folds=config.folds.k, metric=config.search.metric)
    metrics = Metrics(config.name, slots, since=since, blend=blend.score)
    with ExitStack() as stack:
        table = stack.enter_context(LiveTable(console, slots))
        listeners: list[Listener] = [table, blend, metrics]
        if wants_lines():
            line = ProgressLine(console, slots, since=since, blend=blend.score)
            listeners.append(stack.enter_context(line))
        stack.enter_context(blend)  # left first, so that the last line knows the last blend
        yield listeners
