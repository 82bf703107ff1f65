"""What Ray Tune is given: orders whose names give nothing away, and an end where its Ray has died."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.tune.execution.tune_controller import TuneController
from ray.tune.search.variant_generator import _resolve_nested_dict, format_vars

from sweeper.engine import ray_watch
from sweeper.engine.order import Bundle, Node, Order, config
from sweeper.engine.tune import RayLost, RayWatch
from sweeper.state.processes import here


def test_an_order_and_its_node_are_frozen_and_travel_unchanged() -> None:
    node = Node(Path("/sweeps/birds"), 7, "s3://bucket/sweeps", "cuda", threads=1, cpus=1.0, gpus=0.5)
    order = Order(3, 1, {"rank": 4}, same={"split_hash": "abc"}, rungs=(2, 6))
    made = config(node, order)
    assert copy.deepcopy(made) == {"node": node, "bundle": Bundle((order,))}
    with pytest.raises(dataclasses.FrozenInstanceError):
        order.seed = 2  # type: ignore[misc]


def test_the_scratch_folder_that_tune_names_after_a_config_tells_neither_lease_nor_store() -> None:
    node = Node(Path("/sweeps/birds"), 7, "s3://bucket/sweeps", "cuda", threads=1, cpus=1.0, gpus=0.5)
    spelled = format_vars(_resolve_nested_dict(config(node, Order(3, 1, {"rank": 4}, "held-out"))))
    assert spelled == "bundle=held-out_3_1,node=cuda"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[dict[str, object]], socket.socket]]:
    """The nodes of a cluster that this process has joined, and its head."""
    nodes: list[dict[str, object]] = [{"NodeID": "mine", "Alive": True}, {"NodeID": "another", "Alive": False}]
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        context = SimpleNamespace(get_node_id=lambda: "mine", gcs_address=address)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        monkeypatch.setitem(vars(ray_watch.driver_side), "_global_node", None)
        yield nodes, head


def test_only_the_death_of_its_own_node_or_of_the_head_ends_an_attempt(
    cluster: tuple[list[dict[str, object]], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, head = cluster
    look = ray_watch.lost()
    assert look() is None
    nodes[0]["Alive"] = False
    assert look() == "Ray's own process on this machine (its raylet) died"
    nodes[0]["Alive"] = True
    head.close()
    assert look() is None, "it may come back"
    monkeypatch.setattr(ray_watch, "SILENT_S", 0.0)
    assert re.fullmatch(r"Ray's head at 127\.0\.0\.1:\d+ does not answer any more", look() or "")


def test_a_death_ends_tunes_loop_without_its_cleaning_up_and_a_loop_that_stands_still_the_process() -> None:
    cleanup, stuck = TuneController.cleanup, threading.Event()
    watch = RayWatch(lambda: "Ray died", lambda said: stuck.set(), every_s=0.001, stuck_s=0.01)
    watch.on_step_begin(0, [])
    watch.look()
    with pytest.raises(RayLost, match="Ray died"):
        watch.on_step_begin(1, [])
    assert TuneController.cleanup is not cleanup, "it would ask the dead"
    watch.end()
    assert TuneController.cleanup is cleanup
    assert stuck.is_set()


def test_sessions_of_dead_drivers_are_removed_but_for_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, said in enumerate([f"{here()} 999999999 1", f"{here()} 999999999 1", "another-host 1 1", None]):
        (tmp_path / f"session_{day}").mkdir()
        if said:
            (tmp_path / f"session_{day}" / "sweeper-driver").write_text(said)
    own = tmp_path / "session_9"
    own.mkdir()
    node = SimpleNamespace(get_session_dir_path=lambda: str(own))
    monkeypatch.setitem(vars(ray_watch.driver_side), "_global_node", node)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with contextlib.suppress(ZeroDivisionError), ray_watch.session():
        assert sorted(path.name for path in tmp_path.iterdir()) == [f"session_{n}" for n in (1, 2, 3, 9)]
        raise ZeroDivisionError
    assert own.exists(), "something went wrong: it is kept to be looked at"
    with ray_watch.session():
        pass
    assert not own.exists()
