from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import ResourcesConfig
from tuner.slots import Growth, MachineType, Share, Slots, growth_of, room_on, share_of

COUNTS = st.integers(0, 16).map(float)
MACHINES = st.lists(st.fixed_dictionaries({"CPU": COUNTS, "GPU": COUNTS}), max_size=5)


def wanted(**values: float) -> ResourcesConfig:
    return ResourcesConfig.model_validate(values)


@given(MACHINES, st.floats(0.1, 4.0), st.floats(0.0, 2.0))
def test_what_is_placed_on_a_machine_fits_there_and_one_more_would_not(
    machines: list[dict[str, float]], cpus: float, gpus: float
) -> None:
    share = Share(cpus, gpus if gpus >= 0.1 else 0.0)
    for machine in machines:
        count = share.of(machine)
        assert count * share.cpus <= machine["CPU"] + 1e-6
        assert count * share.gpus <= machine["GPU"] + 1e-6
        one_more = count + 1
        too_many = (
            one_more * share.cpus > machine["CPU"] - 1e-6,
            share.gpus > 0 and one_more * share.gpus > machine["GPU"] - 1e-6,
        )
        assert any(too_many)
    assert room_on(machines, share) == sum(share.of(machine) for machine in machines)


def test_a_fold_run_is_not_spread_over_two_machines() -> None:
    halves = [{"CPU": 2.0}, {"CPU": 2.0}]
    assert room_on(halves, Share(3.0, 0.0)) == 0
    assert room_on([{"CPU": 8.0}, {"CPU": 1.0, "GPU": 4.0}], Share(1.0, 1.0)) == 1


def test_tenths_of_a_gpu_fit_ten_times() -> None:
    assert Share(0.1, 0.1).of({"CPU": 1.0, "GPU": 1.0}) == 10


def test_a_gpu_each_where_there_are_or_may_be_some() -> None:
    plain, card = {"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}
    assert share_of(wanted(), [plain], Growth()).gpus == 0.0
    assert share_of(wanted(), [plain, card], Growth()).gpus == 1.0
    assert share_of(wanted(), [plain], Growth((MachineType(card, 2),), 2)).gpus == 1.0
    assert share_of(wanted(gpus=0.25), [card], Growth()).gpus == 0.25
    assert share_of(wanted(gpus=0), [card], Growth()).gpus == 0.0


AWS = {
    "max_workers": 4,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}},
        "gpu_1": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 4},
        "gpu_4": {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 1},
    },
}


def test_a_cluster_may_become_as_wide_as_its_file_allows() -> None:
    growth = growth_of(AWS)
    assert growth.room(Share(1.0, 1.0)) == 4 + 3, "one machine of four cards, three of one"
    assert growth.room(Share(9.0, 1.0)) == 4
    assert growth.room(Share(1.0, 8.0)) == 0


def test_machines_of_one_s_own_count_once_they_have_joined() -> None:
    own = {
        "max_workers": 2,
        "head_node_type": "local.cluster.node",
        "available_node_types": {"local.cluster.node": {"resources": {}, "max_workers": 2}},
    }
    assert growth_of(own).room(Share(1.0, 0.0)) == 0
    assert growth_of(own).unknown == 2
    assert growth_of(AWS).unknown == 0
    assert growth_of({}).room(Share(1.0, 0.0)) == 0


def test_slots_are_counted_again_after_a_pause_and_are_never_none() -> None:
    now, counts = [0.0], iter([3, 0, 5])
    slots = Slots(1, lambda: next(counts), clock=lambda: now[0], pause=2.0)
    slots.refresh()
    assert slots.count == 3
    now[0] = 1.9
    slots.refresh()
    assert slots.count == 3
    now[0] = 2.0
    slots.refresh()
    assert slots.count == 1, "a fold run that waits is what makes a cluster fetch a machine"
    now[0] = 4.0
    slots.refresh()
    assert slots.count == 5


def test_fixed_slots_stay() -> None:
    slots = Slots(2)
    slots.refresh()
    assert slots.count == 2


def test_what_is_there_may_be_less_than_what_is_waited_for() -> None:
    assert Slots(2).there == 2
    assert Slots(8, present=lambda: 3).there == 3
