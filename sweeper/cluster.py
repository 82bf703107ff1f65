"""Ray, started or joined, and what it can give to a fit."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from sweeper.errors import UserError
from sweeper.spec import Resources

# Read by Ray when it is first imported. Tune's own snapshots, loggers and signal handler are off:
# an attempt is never read back, the record is ours, and so is Ctrl-C.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True)
class Slots:
    """How many fits run at once, and what each is given."""

    count: int
    cpus: float
    gpus: float
    device: str
    threads: int
    bound_by_resources: bool


def start() -> bool:
    """Join the Ray that RAY_ADDRESS names (or that this process already has), else start one here.

    A Ray of our own listens on the loopback address only and asks for a token made for it. Ray reads both
    settings when it is imported, so a program that imports Ray before this call has to make them itself.
    Returns whether it was started here.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    own = not os.environ.get("RAY_ADDRESS")
    if own:
        # Ray knows one switch that keeps all of its servers on the loopback address; its name tells its origin.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Nobody starts a dead head of our own again, so a driver ends soon after it; of a cluster's it waits a minute.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
        if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        return False
    with _signals_kept():
        if own:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
    return own


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts handlers of its own into the process that calls init; a TERM would end a sweep without a pause."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stop() -> None:
    """End a Ray that `start` started."""
    import ray

    ray.shutdown()


def slots(asked: Resources) -> Slots:
    """What each fit gets on the Ray that is running, and how many fit in.

    Raises:
        UserError: one fit asks for more than the whole cluster has.
    """
    import ray

    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus_total, gpus_total = have.get("CPU", 0.0), have.get("GPU", 0.0)
    gpus = (1.0 if gpus_total else 0.0) if asked.gpus == "auto" else float(asked.gpus)
    cpus = 1.0 if asked.cpus == "auto" else float(asked.cpus)
    fits = [int(cpus_total / cpus + 1e-9)] if cpus else []
    fits += [int(gpus_total / gpus + 1e-9)] if gpus else []
    most = min(fits, default=1)
    if most < 1:
        raise UserError(
            f"resources: a fit asks for {cpus:g} CPUs and {gpus:g} GPUs; Ray has {cpus_total:g} and {gpus_total:g} "
            "in all. Ask for less in 'resources', or give the cluster more."
        )
    count = most if asked.max_concurrent == "auto" else min(most, int(asked.max_concurrent))
    threads = max(1, int(cpus)) if asked.threads == "auto" else int(asked.threads)
    return Slots(count, cpus, gpus, "cuda" if gpus else "cpu", threads, bound_by_resources=count == most)
