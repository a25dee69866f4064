"""How many fold runs go at once, and how many a set of machines can take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from search_spaces.config import ResourcesConfig

# A machine as Ray describes it: "CPU", "GPU" and how many of each.
Resources = Mapping[str, float]

PAUSE_SECONDS = 2.0


@dataclass
class Slots:
    """`count` fold runs at once. On a cluster that changes while a search runs: machines join, are
    taken back, come again. `measure` counts anew (None: it never changes), at most every `pause`
    seconds of `clock`. `present`: how many go onto the machines that live now, where some of
    `count` may still be waited for."""

    count: int
    measure: Callable[[], int] | None = None
    present: Callable[[], int] | None = None
    clock: Callable[[], float] = time.monotonic
    pause: float = PAUSE_SECONDS
    _next: float = field(default=0.0, repr=False)

    def refresh(self) -> None:
        """Count again where it is time to."""
        if self.measure is None or self.clock() < self._next:
            return
        self._next = self.clock() + self.pause
        # Never none: a fold run that waits for a machine is what makes a cluster fetch one.
        self.count = max(1, self.measure())

    @property
    def there(self) -> int:
        """How many fold runs go onto the machines that live now."""
        return self.count if self.present is None else self.present()


@dataclass(frozen=True)
class Share:
    """What one fold run takes of a machine."""

    cpus: float
    gpus: float

    def of(self, machine: Resources) -> int:
        """How many fold runs go onto `machine` at once, for fractions such as 0.1 too."""
        cpus, gpus = machine.get("CPU", 0.0), machine.get("GPU", 0.0)
        fits = int(cpus / self.cpus + 1e-9)
        return min(fits, int(gpus / self.gpus + 1e-9)) if self.gpus else fits


@dataclass(frozen=True)
class MachineType:
    """Machines that an autoscaler may fetch, at most `count` of them."""

    resources: Resources
    count: int


@dataclass(frozen=True)
class Growth:
    """What an autoscaler may fetch: `machines` in all, of these types."""

    types: tuple[MachineType, ...] = ()
    machines: int = 0

    @property
    def unknown(self) -> int:
        """Machines that are announced, but not what they have: servers of one's own."""
        return max(0, self.machines - sum(kind.count for kind in self.types if kind.resources))

    def room(self, share: Share) -> int:
        """How many fold runs the cluster could take when it is as large as it may become."""
        left, room = self.machines, 0
        for kind in sorted(self.types, key=lambda one: share.of(one.resources), reverse=True):
            taken = min(left, kind.count)
            left, room = left - taken, room + taken * share.of(kind.resources)
        return room


def share_of(wanted: ResourcesConfig, machines: Iterable[Resources], growth: Growth) -> Share:
    """One GPU each where there are or may be GPUs, unless the user says otherwise."""
    if wanted.gpus is not None:
        return Share(wanted.cpus, wanted.gpus)
    kinds = (*machines, *(kind.resources for kind in growth.types))
    return Share(wanted.cpus, 1.0 if any(one.get("GPU", 0.0) for one in kinds) else 0.0)


def room_on(machines: Iterable[Resources], share: Share) -> int:
    """How many fold runs go onto these machines at once: none is spread over two of them."""
    return sum(share.of(machine) for machine in machines)


def growth_of(cluster: Mapping) -> Growth:
    """What the file behind `ray up` allows. A type whose resources it does not give (as for
    machines of one's own) is left out: those count once they have joined."""
    head = cluster.get("head_node_type")
    machines = int(cluster.get("max_workers") or 0)
    types = tuple(
        MachineType(kind.get("resources") or {}, int(kind.get("max_workers", machines)))
        for name, kind in (cluster.get("available_node_types") or {}).items()
        if name != head
    )
    return Growth(types, machines)
