"""The Ray side of a search: attach or start, count slots, run Tune until the race is done."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.logger import TBXLoggerCallback

from search_spaces.config import ResourcesConfig, RunConfig
from trainables.failure import no_space_message
from trainables.fold_trainable import FoldTrainable
from tuner.conductor import Conductor
from tuner.errors import UserError
from tuner.ray_edge import Assignments, RaceScheduler, RaceSearcher, trial_name
from tuner.run_directory import RunDirectory

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

    slots: int
    cpus: float
    gpus: float
    logs: str
    address: str


@contextmanager
def connected(config: RunConfig) -> Iterator[Cluster]:
    """Attach to the cluster of `RAY_ADDRESS`, or start one here and stop it afterwards.

    Raises UserError where there is none, or where no fold run would ever fit into it."""
    address = os.environ.get("RAY_ADDRESS", "")
    already = ray.is_initialized()
    with _environment(_SETTINGS):
        if not already:
            _initialise(address, config)
        try:
            yield _describe(config.search.resources, is_ours=not already and not address)
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
    settings = {**_SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(cluster.slots)}
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
            callbacks=[TBXLoggerCallback()] if config.tracker.name == "tensorboard" else [],
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
            "submit it with `ray job submit`"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("expected host:port, as 10.0.0.1:6379")
    socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()


def _describe(wanted: ResourcesConfig, *, is_ours: bool) -> Cluster:
    slots, gpus = shares(ray.cluster_resources(), wanted, is_ours=is_ours)
    session = ray._private.worker._global_node.get_session_dir_path()
    return Cluster(
        slots=slots,
        cpus=wanted.cpus,
        gpus=gpus,
        logs=os.path.join(session, "logs"),
        address=ray.get_runtime_context().gcs_address,
    )


def shares(
    have: Mapping[str, float], wanted: ResourcesConfig, *, is_ours: bool
) -> tuple[int, float]:
    """How many fold runs at once, and how many GPUs each, of a cluster's resources.

    `is_ours`: started for this search, so that it has all it will ever have. Elsewhere more slots
    than fit now may be asked for, because nodes may still join. UserError where none would fit."""
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    gpu_each = wanted.gpus if wanted.gpus is not None else (1.0 if gpus else 0.0)
    fits = _fits(cpus, wanted.cpus)
    if gpu_each:
        fits = min(fits, _fits(gpus, gpu_each))
    if fits < 1 and (is_ours or wanted.slots is None):
        raise UserError(
            f"one fold run needs {wanted.cpus:g} CPUs and {gpu_each:g} GPUs "
            f"(search.resources), the cluster has {cpus:g} CPUs and {gpus:g} GPUs"
        )
    slots = wanted.slots or fits
    return (min(slots, fits) if is_ours else slots), gpu_each


def _fits(have: float, each: float) -> int:
    """How many of `each` go into `have`, for fractions such as 0.1 too."""
    return int(have / each + 1e-9)


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
