"""A driver whose Ray has died ends, where Tune would wait for ever."""

from __future__ import annotations

import pytest

from sweeper.raywatch import RayLost, RayWatch


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
