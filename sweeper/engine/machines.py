"""Where trials are trained: a Ray, started or joined, and how many fits run at once on its machines.

Machines that an autoscaler will start when fits wait count too. They are read from `ray_bootstrap_config.yaml`, the
cluster file as `ray up` completed it on the head; SWEEPER_MACHINES names it. Without it, only the machines that are
there count.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import Paused, UserError
from sweeper.patience import until
from sweeper.spec import yaml_text
from sweeper.spec.sections import Resources

log = logging.getLogger(__name__)

# Read by Ray when it is first imported. Tune's own snapshots, loggers and signal handler are off: an attempt is never
# read back, and the record and Ctrl-C are ours.
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
SOON_S = 8.0  # for a machine that is there; whoever waits longer is told
FIRST_WORKER_S = 900.0  # as long as Ray's launcher waits for a machine; on a busy one each try of a start takes 30 s
JOIN_S = 5.0
_PRESTART = "--num_prestart_python_workers="
STARTS = 3  # of a Ray of our own
_ADDRESS = re.compile(r"(ray://)?(?P<host>\[[^\]]+\]|[^\[\]:/]+):(?P<port>\d+)")
_MEND_ADDRESS = "See that it runs, or unset RAY_ADDRESS to use this machine; then resume."


class Terminated(Paused):
    """A TERM came before there was anything to pause."""

    exit_code = 143


@dataclass(frozen=True)
class Machines:
    """`count` machines of one kind, and what each has; None where only Ray knows, once one has joined."""

    count: int
    cpus: float | None
    gpus: float | None

    def __str__(self) -> str:
        return f"{self.count} of {self.cpus or 0:g} CPUs and {self.gpus or 0:g} GPUs"

    def fits(self, cpus: float, gpus: float) -> int:
        """How many fits they hold at once. A fit runs on one machine, never across two."""
        shares = [(self.cpus or 0.0) / cpus] if cpus else []
        shares += [(self.gpus or 0.0) / gpus] if gpus else []
        return self.count * int(min(shares, default=1.0) + 1e-9)


@dataclass(frozen=True)
class Slots:
    """How many fits run at once, and what each is given."""

    count: int
    cpus: float
    gpus: float
    device: str
    threads: int
    bound_by_resources: bool


@contextlib.contextmanager
def ready(resources: Resources) -> Iterator[Slots]:
    """Ray, joined or started (then it ends with the context), and how many fits run on it at once.

    Its own folder of logs and sockets goes with it, unless something went wrong.

    Raises:
        Paused: Ray can neither be joined nor started.
        UserError: one fit asks for more than any machine of the cluster has.
    """
    if not start():
        yield slots(resources)
        return
    from sweeper.engine import ray_watch

    with ray_watch.session():
        yield slots(resources)


def start() -> bool:
    """Join the Ray that RAY_ADDRESS names (or that this process already has), else start one here.

    A Ray of our own listens on the loopback address only and requires a token. Ray reads both settings when it is
    imported, so a program that imports Ray before this call must make them itself.
    Returns whether it was started here.

    Raises:
        Paused: Ray can neither be joined nor started.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    own = os.environ.get("RAY_ADDRESS", "local") in ("", "local")
    if own:
        # The one switch that keeps all of Ray's servers on the loopback address. Its name is historical.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Without its head Ray ends this process, in C++ and by a line of its log: `ray_watch` is quicker.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "300")
        if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if own:
        options |= {"address": "local", "include_dashboard": False, "job_config": _own_path()}
    else:
        # Of something else that listens there, and answers nothing: one try of 40 s, not twenty.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
        _check_that_it_listens()
        if not os.environ["RAY_ADDRESS"].startswith("ray://"):  # there nothing of this machine is on the path
            options["job_config"] = _own_path()
    try:
        with _signals_kept(), _in_a_group_of_its_own(), _without_helpers():
            _begin(options, tries=STARTS if own else 1)
    except SystemExit:  # what Ray makes of a TERM while it starts
        ray.shutdown()
        raise Terminated("got SIGTERM while Ray started; nothing is lost. Resume goes on.") from None
    except Exception as fault:  # Ray has no class of its own for this
        ray.shutdown()
        raise Paused(_not_ready(fault, own)) from fault
    return own


def _begin(options: Mapping[str, Any], tries: int) -> None:
    """Ray gives a node of ours 30 s to come up, which a busy machine does not always do."""
    import ray

    from sweeper.engine import ray_watch

    while True:
        try:
            ray.init(**options)
            break
        except Exception as fault:
            tries -= 1
            if not tries or "timed out during startup" not in str(fault):
                raise
            ray.shutdown()
            log.warning("Ray did not come up within 30 s: this machine is busy. It is tried again.")
    ray_watch.hush()


def _not_ready(fault: Exception, own: bool) -> str:
    why = " ".join(str(fault).split())[:300]
    if not own:
        return f"Ray at {os.environ['RAY_ADDRESS']} (RAY_ADDRESS) could not be joined ({why}). {_MEND_ADDRESS}"
    if "AF_UNIX" in why:  # the path of a socket
        place = next((f"{name}={os.environ[name]}" for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "/tmp")
        return (
            f"Ray could not be started on this machine: the folder for temporary files ({place}) has too long a name "
            f"for its sockets ({why}). Set RAY_TMPDIR to a folder with a short name, such as /tmp, then resume."
        )
    return f"Ray could not be started on this machine ({why}). When it has room and time, resume."


def _check_that_it_listens() -> None:
    """Ray itself would knock for a quarter of an hour, and hear no signal meanwhile.

    Raises:
        Paused: nothing listens there.
    """
    from ray._private import services

    address = os.environ["RAY_ADDRESS"]
    if address == "auto":
        with contextlib.suppress(ConnectionError):  # Ray says at once that there is none
            address = services.get_ray_address_from_environment("auto", None)
    found = _ADDRESS.fullmatch(address)
    if found is None:  # Ray says at once what is wrong with it
        return
    end_s = time.monotonic() + JOIN_S
    while True:
        try:
            socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=max(1.0, JOIN_S)).close()
            return
        except (OSError, OverflowError) as fault:  # a port above 65535 overflows
            if time.monotonic() > end_s:
                why = str(fault)
                break
        time.sleep(0.5)
    raise Paused(f"nothing listens at {address} (RAY_ADDRESS): {why}. {_MEND_ADDRESS}")


def _own_path() -> Any:
    """A job whose workers import what is installed on their machine, or lies on its PYTHONPATH.

    Ray puts the driver's folders in front of that, unless a job brings a folder of its own.
    """
    from ray.job_config import JobConfig

    class OwnPath(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    return OwnPath()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray's init replaces the process's signal handlers; then a TERM would end a sweep without a pause."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _in_a_group_of_its_own() -> Iterator[None]:
    """A signal to our process group (TERM of a service manager, HUP of a closed terminal) is not for Ray's servers.

    They would be gone while fits end their epoch. When this process dies they die too, by the kernel's hand.
    """
    from ray._private import services

    plain = services.ConsolePopen

    def begin(command: Sequence[str], *how: Any, **more: Any) -> Any:
        # A worker for each core, made beforehand: Tune's actors take none of them, and each is half a second of a core.
        none = ["--num_prestart_python_workers=0" if part.startswith(_PRESTART) else part for part in command]
        return plain(none, *how, process_group=0, **more)

    with _put(services, "ConsolePopen", begin):
        yield


@contextlib.contextmanager
def _without_helpers() -> Iterator[None]:
    """A Ray of ours starts no dashboard, no autoscaler and no collector of logs: nobody asks them anything.

    Each is a process that takes a second of a core, and the start waits for the first. `include_dashboard=False` alone
    leaves all three.
    """
    from ray._private import services
    from ray._private.node import Node

    nothing: Any = lambda *how, **more: None  # noqa: E731
    no_dashboard: Any = lambda *how, **more: ("", None)  # noqa: E731
    with (
        _put(services, "start_api_server", no_dashboard),
        _put(Node, "start_monitor", nothing),
        _put(Node, "start_log_monitor", nothing),
    ):
        yield


@contextlib.contextmanager
def _put(owner: Any, name: str, other: Any) -> Iterator[None]:
    """Inside, `owner` has something else under this name."""
    plain = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, plain)


def slots(resources: Resources) -> Slots:
    """What each fit gets, and how many run at once on the machines that are here or that the cluster may start.

    Raises:
        UserError: one fit asks for more than any machine of the cluster has.
    """
    file = os.environ.get("SWEEPER_MACHINES")
    to_come = promised(Path(file).expanduser()) if file else []
    known = all(kind.cpus is not None for kind in to_come)  # else a first machine must have come, to be measured
    _await_first(known, sum(kind.count for kind in to_come))
    here = _here()
    kinds = completed(to_come, here) or here
    gpus = (1.0 if any(kind.gpus for kind in kinds) else 0.0) if resources.gpus == "auto" else float(resources.gpus)
    cpus = 1.0 if resources.cpus == "auto" else float(resources.cpus)
    most = max(sum(kind.fits(cpus, gpus) for kind in those) for those in (here, kinds))
    if most < 1:
        raise UserError(
            f"resources: a fit asks for {cpus:g} CPUs and {gpus:g} GPUs; no machine of this Ray has or will have that "
            f"({'; '.join(map(str, kinds)) or 'there is none'}). Ask for less in 'resources', or give the cluster more."
        )
    count = most if resources.max_concurrent == "auto" else min(most, int(resources.max_concurrent))
    threads = max(1, int(cpus)) if resources.threads == "auto" else int(resources.threads)
    # By default Tune starts one actor at a time, and drops it if a fit elsewhere ends first: short fits would run one
    # by one. An autoscaler, too, starts machines for the fits that it sees waiting.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(count)
    return Slots(count, cpus, gpus, "cuda" if gpus else "cpu", threads, bound_by_resources=count == most)


def _await_first(known: bool, promised_count: int) -> None:
    """Return when a machine that holds fits is here, or need not be. Who waits is told so, early.

    Raises:
        Paused: none came in time.
    """

    def came() -> bool:
        return known or any(kind.cpus for kind in _here())

    if until(came, SOON_S, every_s=1.0):
        return
    why = "What keeps it stands on the head in /tmp/ray/session_latest/logs/monitor*, and in what `ray up` has printed."
    log.warning("no worker has come yet, of %d promised; waiting up to %.0f s. %s", promised_count, FIRST_WORKER_S, why)
    if not until(came, FIRST_WORKER_S, every_s=1.0):
        raise Paused(f"no worker has come within {FIRST_WORKER_S:.0f} s. {why} Mend that, then resume.")


def _here() -> list[Machines]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [Machines(1, float(node.get("CPU", 0)), float(node.get("GPU", 0))) for node in alive]


def promised(file: Path) -> list[Machines]:
    """The most workers that the cluster of this file may have.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        values = yaml_text.read(file.read_text(encoding="utf-8"), str(file)).values
    except OSError as fault:
        raise UserError(
            f"{file} cannot be read: {fault.strerror}. SWEEPER_MACHINES names it: correct or unset that variable."
        ) from None
    head, most = values.get("head_node_type"), int(values.get("max_workers", 0))
    types: Mapping[str, Any] = values.get("available_node_types") or {}
    if values["provider"]["type"] == "local":
        return [Machines(most, None, None)] if most else []
    workers = []
    for type_ in (type_ for name, type_ in types.items() if name != head):
        count, has = min(int(type_.get("max_workers", most)), most), type_.get("resources") or {}
        workers.append(Machines(count, float(has.get("CPU", 0)), float(has.get("GPU", 0))))
    return [kind for kind in workers if kind.count]


def completed(kinds: Sequence[Machines], here: Sequence[Machines]) -> list[Machines]:
    """`kinds`, where one that only Ray knows is assumed to be like the largest machine that is here."""
    cpus = max((machine.cpus or 0.0 for machine in here), default=0.0)
    gpus = max((machine.gpus or 0.0 for machine in here), default=0.0)
    return [Machines(kind.count, cpus, gpus) if kind.cpus is None else kind for kind in kinds]
