"""The Ray side of a search: attach or start, count slots, run Tune until the race is done."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Read by Ray when it is imported: our table replaces Tune's, and Ctrl-C is ours to handle.
_RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_THRESHOLD_S": "10",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
for _key, _value in _RAY_SETTINGS.items():
    os.environ.setdefault(_key, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.logger import TBXLoggerCallback  # noqa: E402

from search_spaces.config import ResourcesConfig, RunConfig  # noqa: E402
from trainables.fold_trainable import FoldTrainable  # noqa: E402
from tuner.conductor import Conductor  # noqa: E402
from tuner.errors import UserError  # noqa: E402
from tuner.ray_edge import Assignments, RaceScheduler, RaceSearcher, trial_name  # noqa: E402
from tuner.run_directory import RunDirectory  # noqa: E402


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
    """Attach to the cluster of `RAY_ADDRESS`, or start one here and stop it afterwards."""
    address = os.environ.get("RAY_ADDRESS")
    already = ray.is_initialized()
    if not already:
        _initialise(address, config)
    try:
        yield _describe(config.search.resources)
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
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(cluster.slots)
    with _quiet_tune(), _gentle_interrupt(conductor):
        tune.Tuner(
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
                verbose=0,
            ),
        ).fit()


def _initialise(address: str | None, config: RunConfig) -> None:
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
        ray.init(address=address or "local", **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster of RAY_ADDRESS={address}" if address else "a local Ray"
        line = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot reach {where}: {line}; check the address (`ray status`), or unset "
            "RAY_ADDRESS to run on this machine"
        ) from error


def _describe(wanted: ResourcesConfig) -> Cluster:
    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    gpu_each = wanted.gpus if wanted.gpus is not None else (1.0 if gpus else 0.0)
    fits = int(cpus // wanted.cpus)
    if gpu_each:
        fits = min(fits, int(gpus / gpu_each + 1e-9))
    if fits < 1 and wanted.slots is None:
        raise UserError(
            f"one fold run needs {wanted.cpus:g} CPUs and {gpu_each:g} GPUs "
            f"(search.resources), the cluster has {cpus:g} CPUs and {gpus:g} GPUs"
        )
    logs = os.path.join(ray._private.worker._global_node.get_session_dir_path(), "logs")
    return Cluster(
        slots=wanted.slots or fits,
        cpus=wanted.cpus,
        gpus=gpu_each,
        logs=logs,
        address=ray.get_runtime_context().gcs_address,
    )


def _session_name(run: RunDirectory) -> str:
    return f"session-{len(run.tune.list()):03d}"


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

    def first(signum: int, frame: object) -> None:
        conductor.stop()
        signal.signal(signum, before[signum])

    wanted = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, first) for number in wanted}
    except ValueError:  # not the main thread: whoever owns it handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
