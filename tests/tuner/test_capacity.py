from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search_spaces.config import ResourcesConfig
from tuner import capacity, ray_nodes
from tuner.capacity import fitting_share, gather, said_share, slots_of
from tuner.errors import UserError
from tuner.slots import Growth, MachineType, Share, Slots

Machines = list[dict[str, float]]


def resources(**values: Any) -> ResourcesConfig:
    return ResourcesConfig.model_validate(values)


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Machines as they are seen at every look; the last ones stay."""

    def machines(*looks: Machines) -> None:
        left = list(looks)
        monkeypatch.setattr(ray_nodes, "living", lambda: left.pop(0) if len(left) > 1 else left[0])
        monkeypatch.setattr(capacity, "PAUSE_SECONDS", 0.0)

    return machines


def slots_with(
    wanted: ResourcesConfig, growth: Growth | None = None, *, is_ours: bool
) -> tuple[Slots, Share]:
    share = fitting_share(wanted, growth, lambda text: None, wait=0.0)
    return slots_of(wanted, share, growth, is_ours=is_ours), share


@pytest.mark.parametrize(
    ("have", "wanted", "slots", "gpus"),
    [
        ({"CPU": 8.0}, {}, 8, 0.0),
        ({"CPU": 8.0}, {"cpus": 3}, 2, 0.0),
        ({"CPU": 2.0}, {"cpus": 0.1}, 20, 0.0),
        ({"CPU": 8.0, "GPU": 2.0}, {}, 2, 1.0),
        ({"CPU": 8.0, "GPU": 1.0}, {"gpus": 0.25}, 4, 0.25),
        ({"CPU": 8.0, "GPU": 2.0}, {"gpus": 0}, 8, 0.0),
        ({"CPU": 8.0}, {"slots": 3}, 3, 0.0),
        ({"CPU": 2.0}, {"slots": 3}, 2, 0.0),
    ],
)
def test_as_many_fold_runs_at_once_as_fit(
    see: Callable[..., None],
    have: dict[str, float],
    wanted: dict[str, float],
    slots: int,
    gpus: float,
) -> None:
    see([have])
    got, share = slots_with(resources(**wanted), is_ours=True)
    assert (got.count, share.gpus) == (slots, gpus)
    assert got.measure is None


def test_on_a_cluster_the_user_may_ask_for_more_than_fits_now(see: Callable[..., None]) -> None:
    see([{"CPU": 2.0}])
    got, _ = slots_with(resources(slots=8), is_ours=False)
    assert (got.count, got.measure) == (8, None)
    assert got.there == 2, "what is there is known all the same"


def test_on_a_cluster_slots_follow_the_machines(see: Callable[..., None]) -> None:
    machines = [{"CPU": 2.0}]
    see(machines)
    got, _ = slots_with(resources(), is_ours=False)
    assert got.count == 2
    machines.append({"CPU": 4.0})
    got.pause, got._next = 0.0, 0.0
    got.refresh()
    assert (got.count, got.there) == (6, 6)


def test_an_autoscaler_is_asked_for_all_that_it_may_fetch(see: Callable[..., None]) -> None:
    see([{"CPU": 0.0}])
    growth = Growth((MachineType({"CPU": 8.0, "GPU": 1.0}, 4),), 3)
    got, share = slots_with(resources(), growth, is_ours=False)
    assert (got.count, got.there, share.gpus) == (3, 0, 1.0)


@pytest.mark.parametrize("wanted", [{"cpus": 4}, {"gpus": 1}, {"cpus": 4, "slots": 2}])
def test_a_fold_run_that_never_fits_is_refused_with_both_numbers(
    see: Callable[..., None], wanted: dict[str, float]
) -> None:
    see([{"CPU": 2.0}, {"CPU": 2.0}])
    with pytest.raises(UserError, match=r"the largest of 2 machines has 2 CPUs and 0 GPUs"):
        slots_with(resources(**wanted), is_ours=True)


def test_a_machine_that_may_join_is_waited_for_and_that_is_said(see: Callable[..., None]) -> None:
    said: list[str] = []
    see([], [], [{"CPU": 2.0}])
    share = fitting_share(resources(), Growth(), said.append, wait=60.0)
    assert share == Share(1.0, 0.0)
    assert len(said) == 2
    assert said[0].startswith("waiting for a machine to join: one fold run needs 1 CPUs")


def test_where_the_user_says_all_nothing_is_waited_for_as_waiting_fold_runs_fetch_machines(
    see: Callable[..., None],
) -> None:
    said: list[str] = []
    see([{"CPU": 0.0}])
    assert said_share(resources(slots=4, gpus=1), said.append) == Share(1.0, 1.0)
    (note,) = said
    assert note.startswith("fold runs wait for a machine to join: one fold run needs 1 CPUs and 1")
    assert said_share(resources(slots=4), said.append) is None
    assert said_share(resources(gpus=1), said.append) is None
    see([{"CPU": 8.0, "GPU": 4.0}])
    assert said_share(resources(slots=4, gpus=0.5), said.append) == Share(1.0, 0.5)
    assert len(said) == 1


HEAD, SERVER = {"CPU": 4.0}, {"CPU": 64.0, "GPU": 4.0}
TWO_SERVERS = Growth((), 2)


def test_a_head_without_a_gpu_waits_for_its_servers_before_it_settles_on_none(
    see: Callable[..., None],
) -> None:
    said: list[str] = []
    see([HEAD], [HEAD], [HEAD, SERVER])
    gather(resources(), TWO_SERVERS, said.append)
    assert len(said) == 2
    assert said[0].startswith("waiting up to 60 s for 2 more machines, which may have GPUs")
    assert fitting_share(resources(), TWO_SERVERS, said.append, wait=0.0) == Share(1.0, 1.0)


def test_servers_without_gpus_are_waited_for_until_all_are_there_and_not_for_ever(
    see: Callable[..., None],
) -> None:
    said: list[str] = []
    see([HEAD], [HEAD, HEAD], [HEAD, HEAD, HEAD])
    gather(resources(), TWO_SERVERS, said.append)
    assert len(said) == 2
    see([HEAD])
    gather(resources(), TWO_SERVERS, said.append, seconds=0.05)


@pytest.mark.parametrize(
    ("wanted", "growth"),
    [
        ({"gpus": 0}, TWO_SERVERS),
        ({}, None),
        ({}, Growth((MachineType({"CPU": 8.0, "GPU": 1.0}, 4),), 4)),
    ],
)
def test_nothing_is_waited_for_where_it_is_known_whether_there_are_gpus(
    see: Callable[..., None], wanted: dict[str, float], growth: Growth | None
) -> None:
    said: list[str] = []
    see([HEAD])
    gather(resources(**wanted), growth, said.append)
    assert not said
