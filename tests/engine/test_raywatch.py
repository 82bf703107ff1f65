"""A driver whose Ray has died ends, where Tune would wait for ever."""

from __future__ import annotations

import re

import pytest
import ray

from sweeper.engine import machines
from sweeper.engine.tune import RayLost, RayWatch
from sweeper.errors import Paused


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

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(Paused, match=re.escape(sentence)):
        machines.start()
