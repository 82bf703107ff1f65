"""What Ray Tune is given: orders whose names give nothing away, and an end where its Ray has died."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
from ray.tune.search.variant_generator import _resolve_nested_dict, format_vars

from sweeper.engine.order import Node, Order, config
from sweeper.engine.tune import RayLost, RayWatch


def test_an_order_and_its_node_are_frozen_and_travel_unchanged() -> None:
    node = Node(Path("/sweeps/birds"), 7, "s3://bucket/sweeps", "cuda", threads=1, cpus=1.0, gpus=0.5)
    order = Order(3, 1, {"rank": 4}, same={"split_hash": "abc"}, rungs=(2, 6))
    made = config(node, order)
    assert copy.deepcopy(made) == {"node": node, "order": order}
    with pytest.raises(dataclasses.FrozenInstanceError):
        order.seed = 2  # type: ignore[misc]


def test_the_scratch_folder_that_tune_names_after_a_config_tells_neither_lease_nor_store() -> None:
    node = Node(Path("/sweeps/birds"), 7, "s3://bucket/sweeps", "cuda", threads=1, cpus=1.0, gpus=0.5)
    spelled = format_vars(_resolve_nested_dict(config(node, Order(3, 1, {"rank": 4}, "held-out"))))
    assert spelled == "node=cuda,order=held-out_3_1"


def test_only_the_death_of_its_own_node_ends_an_attempt() -> None:
    nodes = [{"NodeID": "mine", "Alive": True}, {"NodeID": "another", "Alive": False}]
    watch = RayWatch("mine", lambda: nodes, every_s=0.0)
    watch.on_step_begin(0, [])
    nodes[0]["Alive"] = False
    with pytest.raises(RayLost, match="raylet"):
        watch.on_step_begin(1, [])


def test_it_looks_now_and_then_and_not_in_each_turn_of_the_loop() -> None:
    looks: list[int] = []

    def nodes() -> list[dict[str, object]]:
        looks.append(1)
        return [{"NodeID": "mine", "Alive": True}]

    watch = RayWatch("mine", nodes, every_s=60.0)
    for turn in range(100):
        watch.on_step_begin(turn, [])
    assert len(looks) == 1
