"""Without a Ray: a handle that behaves as Ray's does. With one: `test_watched_on_ray.py`."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from tuner.task_names import TaskNames, name_tasks


class Handle:
    """As `ray.actor.ActorHandle`: methods are found by `__getattr__`, and called by `remote`."""

    def __init__(self) -> None:
        self.called: list[tuple[str, Any, Any, Any]] = []

    def __getattr__(self, method: str) -> Any:
        if method not in ("train", "reset"):
            raise AttributeError(method)

        def remote(*args: Any, **kwargs: Any) -> str:
            self.called.append((method, None, args, kwargs))
            return "ref"

        def options(name: str) -> Any:
            def named(*args: Any, **kwargs: Any) -> str:
                self.called.append((method, name, args, kwargs))
                return "ref"

            return SimpleNamespace(remote=named)

        return SimpleNamespace(remote=remote, options=options)


def trial(handle: Any, fold: int = 1) -> Any:
    config = {"configuration": {"backbone": {"name": "resnet18"}}, "config_id": "c1", "fold": fold}
    return SimpleNamespace(config=config, temporary_state=SimpleNamespace(ray_actor=handle))


def test_an_epoch_bears_the_name_of_the_fold_run_it_belongs_to() -> None:
    handle, names = Handle(), TaskNames()
    for fold in (1, 2):
        names.on_trial_start(0, [], trial(handle, fold))
        assert handle.train.remote(fold, more=True) == "ref"
    assert handle.called == [
        ("train", "resnet18-c1-fold1", (1,), {"more": True}),
        ("train", "resnet18-c1-fold2", (2,), {"more": True}),
    ]


def test_other_methods_stay_as_they_are() -> None:
    handle = Handle()
    name_tasks(handle, "name")
    handle.reset.remote()
    assert handle.called == [("reset", None, (), {})]


def test_a_name_does_not_keep_an_actor_alive() -> None:
    handle = Handle()
    name_tasks(handle, "name")
    there = weakref.ref(handle)
    gc.disable()
    try:
        del handle
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("one", [trial(None), SimpleNamespace(config={})])
def test_where_tune_keeps_its_handle_elsewhere_nothing_happens(one: Any) -> None:
    TaskNames().on_trial_start(0, [], one)
