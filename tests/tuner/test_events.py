from __future__ import annotations

import json

import pytest

from tuner import events as ev

EXAMPLES = [
    ev.Proposed("c1", 0, "resnet18", 5, {"train": {"epochs": 5}}, {"lr": 0.1}),
    ev.SpaceExhausted(),
    ev.Started("c1", 0),
    ev.Reported("c1", 0, 1, {"log_loss": 0.5}),
    ev.Finished("c1", 0, 5, {"log_loss": 0.25}),
    ev.Failed("c1", 1, "boom", retry=False),
    ev.SlotIdle(),
    ev.DeadlinePassed(),
    ev.Resumed(),
    ev.Prune("c1", 0, 1, "worse"),
    ev.Promote("c1", "rank 1"),
    ev.Complete("c1"),
    ev.Retry("c1", 1, "try 2"),
    ev.GiveUp("c1", 1, "boom"),
    ev.Stop("c1", 1, "time"),
]


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_every_event_and_decision_survives_json(value) -> None:
    assert ev.from_json(json.loads(json.dumps(ev.to_json(value)))) == value


def test_a_type_of_a_newer_version_is_named() -> None:
    with pytest.raises(ValueError, match="'Teleported'"):
        ev.from_json({"type": "Teleported"})
