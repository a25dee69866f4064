"""The Ray side of a search: attach or start, run Tune until the race is done."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.logger import TBXLoggerCallback
from ray.tune.progress_reporter import TrialProgressCallback

from search_spaces.config import ResourcesConfig, RunConfig
from trainables.failure import no_space_message
from trainables.fold_trainable import FoldTrainable
from tuner import ray_nodes
from tuner.capacity import JOINING_SECONDS, settled_share, slots_of
from tuner.conductor import Conductor
from tuner.errors import UserError
from tuner.ray_edge import Assignments, RaceScheduler, RaceSearcher, trial_name
from tuner.run_directory import RunDirectory
from tuner.slots import Slots
from tuner.task_names import TaskNames

# Ray's own ways to find an address; the others are host:port.
RAY_FINDS = ("auto", "local")
PROBE_SECONDS = 5.0

# Read by Ray each time: our table replaces Tune's, Ctrl-C is ours to handle, a failure is a result
# without a metric, and what Ray will do about CUDA_VISIBLE_DEVICES one day is no news to a user.
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Cluster:
    """What a search may use. `cpus` and `gpus` of one fold run; `logs`: Ray's own log folder."""

    slots: Slots
    cpus: float
    gpus: float
    logs: str
    address: str


@contextmanager
def connected(
    config: RunConfig,
    say: Callable[[str], None] = lambda text: None,
    wait: float = JOINING_SECONDS,
) -> Iterator[Cluster]:
    """Attach to the cluster of `RAY_ADDRESS`, or start one here and stop it afterwards.

    `say` hears what is waited for, `wait` seconds at most: a cluster just begun has its head alone.
    Raises UserError where there is none, or where no fold run would ever fit into it."""
    address = os.environ.get("RAY_ADDRESS", "")
    already = ray.is_initialized()
    with _environment(_SETTINGS):
        if not already:
            _initialise(address, config)
        try:
            is_ours = not already and not address
            yield _describe(config.search.resources, is_ours=is_ours, say=say, wait=wait)
        finally:
            if not already:
                ray.shutdown()


def run_on_ray(
    conductor: Conductor, config: RunConfig, run: RunDirectory, cluster: Cluster
) -> None:
    """Run Tune until the race is done, stopped or fatally hurt. Each call is a Tune run of its
    own: nothing is restored from an earlier one."""
    assignments = Assignments(conductor)
    trainable = tune.with_resources(FoldTrainable, {"cpu": cluster.cpus, "gpu": cluster.gpus})
    # The dashboard's class of actor; Tune's wrapper would be called after itself.
    trainable.__name__ = trainable.__qualname__ = FoldTrainable.__name__
    settings = {**_SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(cluster.slots.count)}
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=RaceSearcher(assignments),
            scheduler=RaceScheduler(assignments),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=trial_name,
            trial_dirname_creator=trial_name,
        ),
        run_config=tune.RunConfig(
            name=_session_name(run),
            storage_path=str(run.tune),
            callbacks=_callbacks(config),
            failure_config=tune.FailureConfig(max_failures=0),
            # Tune's default saves at the end: an empty folder a trial, and a step's delay in
            # which the slot is free, its actor is not, and so another one is begun.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    with _environment(settings), _quiet_tune(), _gentle_interrupt(conductor):
        try:
            tuner.fit()
        except Exception:
            # On a full disk Tune's own files fail too, in many ways, none of which says so.
            if conductor.fatal is None:
                _check_room(run)
                raise


class _Unsaid(TrialProgressCallback):
    """In place of the one that Tune adds by itself: where a trial ends without a result, as one
    does that waits when a search is stopped, that one prints, whatever its verbosity."""

    def on_trial_result(self, *args: Any, **kwargs: Any) -> None: ...

    def on_trial_error(self, *args: Any, **kwargs: Any) -> None: ...

    def on_trial_complete(self, *args: Any, **kwargs: Any) -> None: ...


def _callbacks(config: RunConfig) -> list[tune.Callback]:
    trackers = [TBXLoggerCallback()] if config.tracker.name == "tensorboard" else []
    return [TaskNames(), _Unsaid(), *trackers]


def _check_room(run: RunDirectory, needed_bytes: int = 1 << 16) -> None:
    """Raise UserError where the run directory's disk takes no more."""
    place = run.root / ".room"
    try:
        place.write_bytes(bytes(needed_bytes))
        place.delete()
    except OSError as error:
        raise UserError(no_space_message(error)) from error


def _initialise(address: str, config: RunConfig) -> None:
    settings: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }
    if not address:
        settings["include_dashboard"] = config.search.dashboard
        if config.search.dashboard:
            settings["dashboard_host"] = "127.0.0.1"
    try:
        _check_address(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address or "local", **settings)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise UserError(_cannot_reach(address, error)) from error


def _cannot_reach(address: str, error: Exception) -> str:
    line = " ".join(str(error).split())[:200]
    if not address:
        return (
            f"cannot start Ray on this machine: {line}; its logs lie under Ray's temporary folder"
        )
    return (
        f"cannot reach the Ray cluster of RAY_ADDRESS={address}: {line}; check the address "
        "(`ray status`) and the token (RAY_AUTH_MODE, ~/.ray/auth_token), or unset RAY_ADDRESS to "
        "run on this machine"
    )


def _check_address(address: str) -> None:
    """Ray itself tries an address at which nobody answers for minutes. OSError or ValueError."""
    if not address or address in RAY_FINDS:
        return
    if address.startswith("ray://"):
        raise ValueError(
            "a search does not run through Ray Client; give the head's host:port (6379), or "
            "send it with `foldblend submit`"
        )
    if address.startswith(("http://", "https://")):
        raise ValueError(
            "that is a dashboard: `foldblend submit` sends a search there; `foldblend search` "
            "takes the head's host:port (6379)"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("expected host:port, as 10.0.0.1:6379")
    socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()


def _describe(
    wanted: ResourcesConfig, *, is_ours: bool, say: Callable[[str], None], wait: float
) -> Cluster:
    address = ray.get_runtime_context().gcs_address
    growth = None if is_ours else ray_nodes.growth(address)
    share = settled_share(wanted, growth, say, wait, is_ours=is_ours)
    session = ray._private.worker._global_node.get_session_dir_path()
    return Cluster(
        slots=slots_of(wanted, share, growth, is_ours=is_ours),
        cpus=share.cpus,
        gpus=share.gpus,
        logs=os.path.join(session, "logs"),
        address=address,
    )


def _session_name(run: RunDirectory) -> str:
    return f"session-{len(run.tune.list()):03d}"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables and put back what was there. What the user has set stays."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if before[name] is None})
    try:
        yield
    finally:
        for name in values:
            if before[name] is None:
                os.environ.pop(name, None)


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Ray's loggers write their files; the terminal belongs to our table."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.air")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _gentle_interrupt(conductor: Conductor) -> Iterator[None]:
    """The first Ctrl-C lets every fold run end its epoch, so that nothing is lost; the second
    ends at once (and loses at most the epochs in flight)."""
    before: dict[int, Any] = {}

    def first(signum: int, frame: object) -> None:
        conductor.stop()
        signal.signal(signum, before[signum])

    try:
        for wanted in (signal.SIGINT, signal.SIGTERM):
            before[wanted] = signal.getsignal(wanted)
            signal.signal(wanted, first)
    except ValueError:  # not the main thread: whoever owns it handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
