"""What a fold run takes and how many go at once, on machines that are there or may come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from search_spaces.config import ResourcesConfig
from tuner import ray_nodes
from tuner.errors import UserError
from tuner.slots import PAUSE_SECONDS, Growth, Resources, Share, Slots, room_on, share_of

Say = Callable[[str], None]

# A machine in the cloud starts and installs PyTorch before it joins.
JOINING_SECONDS = 1200.0
# `ray up` brings servers of one's own up within moments of each other.
GATHERING_SECONDS = 60.0


def settled_share(
    wanted: ResourcesConfig, growth: Growth | None, say: Say, wait: float, *, is_ours: bool
) -> Share:
    """What one fold run takes, settled once a search. On a Ray of our own all is there at once; on
    a cluster machines are waited for. Raises UserError where no fold run would ever fit."""
    if is_ours:
        return fitting_share(wanted, None, say, wait=0.0)
    if growth is None and (said := said_share(wanted, say)):
        return said
    gather(wanted, growth, say)
    may_join = growth is not None or bool(wanted.slots)
    return fitting_share(wanted, growth, say, wait if may_join else 0.0)


def fitting_share(wanted: ResourcesConfig, growth: Growth | None, say: Say, wait: float) -> Share:
    """What one fold run takes, once a machine can take one or the autoscaler may fetch one that
    can. Waits `wait` seconds for one to join, and raises UserError where none does."""
    give_up = time.monotonic() + wait
    while True:
        machines = ray_nodes.living()
        share = share_of(wanted, machines, growth or Growth())
        if room_on(machines, share) or (growth and growth.room(share)):
            return share
        problem = _does_not_fit(share, machines)
        if time.monotonic() >= give_up:
            raise UserError(problem)
        say(f"waiting for a machine to join: {problem}")
        time.sleep(PAUSE_SECONDS)


def said_share(wanted: ResourcesConfig, say: Say) -> Share | None:
    """What the user says one fold run takes and how many go at once, None where either is left to
    us. Where an autoscaler cannot be asked what it may fetch (KubeRay), fold runs that wait are
    what makes it fetch anything: waiting for a machine first would be waiting for ever."""
    if wanted.gpus is None or not wanted.slots:
        return None
    share, machines = Share(wanted.cpus, wanted.gpus), ray_nodes.living()
    if not room_on(machines, share):
        say(f"fold runs wait for a machine to join: {_does_not_fit(share, machines)}")
    return share


def gather(
    wanted: ResourcesConfig, growth: Growth | None, say: Say, seconds: float = GATHERING_SECONDS
) -> None:
    """Wait a little for machines that are announced, but not what they have: whether a fold run
    takes a GPU is settled once, and a head without one is there before its servers."""
    if wanted.gpus is not None or growth is None:
        return
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        machines = ray_nodes.living()
        if len(machines) > growth.unknown or any(one.get("GPU", 0.0) for one in machines):
            return
        say(
            f"waiting up to {seconds:.0f} s for {growth.unknown} more machines, which may have "
            "GPUs (search.resources.gpus=0 or 1 says so at once)"
        )
        time.sleep(PAUSE_SECONDS)


def slots_of(
    wanted: ResourcesConfig, share: Share, growth: Growth | None, *, is_ours: bool
) -> Slots:
    """How many fold runs at once.

    What the user says, at most what fits on a Ray of our own. Else what fits on the machines that
    live, counted again and again, and at least what the autoscaler may fetch: it fetches machines
    for fold runs that wait."""
    if is_ours:
        fits = room_on(ray_nodes.living(), share)
        return Slots(min(wanted.slots or fits, fits))

    def present() -> int:
        return room_on(ray_nodes.living(), share)

    if wanted.slots:
        return Slots(wanted.slots, present=present)
    may_become = growth.room(share) if growth else 0
    slots = Slots(1, lambda: max(present(), may_become), present=present)
    slots.refresh()
    return slots


def _does_not_fit(share: Share, machines: Sequence[Resources]) -> str:
    largest = max(machines, key=lambda one: (one.get("GPU", 0.0), one.get("CPU", 0.0)), default={})
    cpus, gpus = largest.get("CPU", 0.0), largest.get("GPU", 0.0)
    return (
        f"one fold run needs {share.cpus:g} CPUs and {share.gpus:g} GPUs (search.resources), the "
        f"largest of {len(machines)} machines has {cpus:g} CPUs and {gpus:g} GPUs"
    )
