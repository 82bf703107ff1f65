"""What a cluster can come to give: machines that are not there yet count, and a fit lies on one of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from ray._private.utils import validate_socket_filepath

from sweeper.engine import machines
from sweeper.engine.machines import Machines
from sweeper.errors import Paused, UserError
from sweeper.spec.sections import Resources

WORKERS = {
    "head": {"resources": {"CPU": 0}, "max_workers": 0},
    "small": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 3},
    "large": {"resources": {"CPU": 32, "GPU": 4}, "max_workers": 9},
}


def file(folder: Path, provider: str = "aws", **changes: object) -> Path:
    path = folder / "ray_bootstrap_config.yaml"
    body = {"provider": {"type": provider}, "max_workers": 4, "head_node_type": "head", "available_node_types": WORKERS}
    path.write_text(json.dumps(body | changes))
    return path


def test_workers_of_each_type_up_to_its_own_and_the_common_limit_are_promised(tmp_path: Path) -> None:
    assert machines.promised(file(tmp_path)) == [Machines(3, 8.0, 1.0), Machines(4, 32.0, 4.0)]


def test_a_fit_lies_on_one_machine() -> None:
    assert Machines(2, 8.0, 1.0).fits(cpus=1.0, gpus=1.0) == 2
    assert Machines(2, 8.0, 1.0).fits(cpus=1.0, gpus=0.25) == 8
    assert Machines(2, 8.0, 1.0).fits(cpus=5.0, gpus=0.0) == 2
    assert Machines(2, 8.0, 1.0).fits(cpus=1.0, gpus=2.0) == 0, "two machines with one GPU are not one with two"


def test_own_machines_are_as_the_largest_that_is_here(tmp_path: Path) -> None:
    kinds = machines.promised(file(tmp_path, provider="local", max_workers=3))
    assert kinds == [Machines(3, None, None)]
    assert machines.completed(kinds, [Machines(1, 0.0, 0.0), Machines(1, 4.0, 1.0)]) == [Machines(3, 4.0, 1.0)]


def test_a_cluster_without_workers_promises_nothing(tmp_path: Path) -> None:
    assert machines.promised(file(tmp_path, provider="local", max_workers=0)) == []


@pytest.fixture
def head_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud's cluster at rest: the head, and no worker."""
    monkeypatch.setenv("SWEEPER_MACHINES", str(file(tmp_path)))
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "auto")
    monkeypatch.setattr(machines, "_here", lambda: [Machines(1, 0.0, 0.0)])


@pytest.mark.usefixtures("head_alone")
def test_fits_are_begun_for_gpus_that_will_come_up_to_max_concurrent() -> None:
    slots = machines.slots(Resources())
    assert (slots.count, slots.gpus, slots.device) == (3 + 4 * 4, 1.0, "cuda")
    assert machines.slots(Resources(max_concurrent=5)).count == 5


@pytest.mark.usefixtures("head_alone")
def test_the_autoscaler_is_shown_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    machines.slots(Resources(max_concurrent=5))
    assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "5"


def test_all_actors_of_a_machine_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "auto")
    monkeypatch.setattr(machines, "_here", lambda: [Machines(1, 4.0, 0.0)])
    assert machines.slots(Resources()).count == 4
    assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "4", "one at a time is dropped whenever a short fit ends first"


@pytest.mark.usefixtures("head_alone")
def test_what_no_machine_will_have_is_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"asks for 1 CPUs and 8 GPUs; no machine .* \(3 of 8 CPUs and 1 GPUs; 4 of 32"):
        machines.slots(Resources(gpus=8.0))


def test_whoever_waits_for_a_first_worker_is_told_so_and_at_the_end_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("max_workers: 2\nprovider: {type: local, head_ip: a, worker_ips: [b, c]}\n")
    monkeypatch.setenv("SWEEPER_MACHINES", str(own))
    monkeypatch.setattr(machines, "SOON_S", 0.0)
    monkeypatch.setattr(machines, "FIRST_WORKER_S", 0.0)
    monkeypatch.setattr(machines, "_here", lambda: [Machines(1, 0.0, 0.0)])
    with pytest.raises(Paused, match=r"no worker has come within 0 s\. .*monitor.* Mend that, then resume"):
        machines.slots(Resources())
    assert "no worker has come yet, of 2 promised" in caplog.text


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (None, "Ray could not be started on this machine (the node timed out). When it has room and time, resume."),
        ("10.0.0.1:6379", "Ray at 10.0.0.1:6379 (RAY_ADDRESS) could not be joined (the node timed out). See that"),
    ],
)
def test_a_ray_that_does_not_come_up_is_one_sentence_and_a_pause(
    monkeypatch: pytest.MonkeyPatch, address: str | None, sentence: str
) -> None:
    def init(**_: object) -> None:
        raise Exception("the node\n timed out")

    pretend(monkeypatch, init, address)
    monkeypatch.setattr(machines, "_check_that_it_listens", lambda: None)
    with pytest.raises(Paused, match=re.escape(sentence)):
        machines.start()


def pretend(monkeypatch: pytest.MonkeyPatch, init: Callable[..., None], address: str | None = None) -> None:
    """A Ray whose `init` is this one."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}", "[::1]:{}", "127.0.0.1:99999"]
)
def test_an_address_where_nothing_listens_is_told_before_ray_knocks(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    monkeypatch.setattr(machines, "JOIN_S", 0.0)
    pretend(monkeypatch, lambda **_: pytest.fail("Ray would knock for a quarter of an hour"), address.format(free))
    with pytest.raises(Paused, match=r"nothing listens at .* \(RAY_ADDRESS\): .*unset RAY_ADDRESS to use this machine"):
        machines.start()


def test_an_address_where_something_listens_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    with socket.create_server(("127.0.0.1", 0)) as other:
        pretend(monkeypatch, seen.update, f"127.0.0.1:{other.getsockname()[1]}")
        assert machines.start() is False
    assert "address" not in seen, "it reads RAY_ADDRESS itself"


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_long_name_of_the_temporary_folder_is_named_with_its_mend(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "/tmp/" + 80 * "x"

    def init(**_: object) -> None:
        validate_socket_filepath(f"{long}/ray/session_2026-11-27_02-11-35_033698_32563/sockets/plasma_store")

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, long)
    pretend(monkeypatch, init)
    with pytest.raises(
        Paused, match=rf"\({variable}={long}\) has too long a name .* Set RAY_TMPDIR to .* such as /tmp"
    ):
        machines.start()


def test_a_term_while_ray_starts_is_a_pause_and_the_handlers_are_ours_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
        signal.raise_signal(signal.SIGTERM)

    pretend(monkeypatch, init)
    with pytest.raises(machines.Terminated, match="Resume goes on") as ended:
        machines.start()
    assert ended.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_ray_of_our_own_is_a_head_and_a_raylet_and_nothing_else() -> None:
    program = (
        "from ray._private import worker\n"
        "from sweeper.engine import machines\n"
        "from sweeper.spec.sections import Resources\n"
        "with machines.ready(Resources()):\n"
        "    node = worker._global_node\n"
        "    print(*sorted(node.all_processes))\n"
        "    print([part for part in node.all_processes['raylet'][0].process.args if 'prestart' in part])\n"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}  # address, authentication
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=own)
    assert done.returncode == 0, done.stderr
    processes, workers = done.stdout.splitlines()
    assert set(processes.split()) <= {"gcs_server", "raylet", "reaper"}
    assert workers == "['--num_prestart_python_workers=0']"
