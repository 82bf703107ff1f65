"""Notices that the Ray under a driver has died: Tune itself would wait for it for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import Callback

LOOK_EVERY_S = 5.0


class RayLost(RuntimeError):
    """The Ray that this driver is attached to has died; what its fits made durable is there for a resume."""


class RayWatch(Callback):
    """Ends an attempt whose node of Ray is gone. Other nodes may die: Tune moves their fits.

    Ray's own head tells a node from a slow one after some 15 s; a dead head (its GCS) ends the driver by itself.
    """

    def __init__(self, node: str, nodes: Callable[[], Sequence[dict[str, Any]]], every_s: float = LOOK_EVERY_S) -> None:
        self._node, self._nodes, self._every_s = node, nodes, every_s
        self._next_s = 0.0

    @classmethod
    def here(cls) -> RayWatch:
        """Of the node that this process is attached to."""
        import ray

        return cls(ray.get_runtime_context().get_node_id(), ray.nodes)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called by Tune in each turn of its loop.

        Raises:
            RayLost: the node is dead.
        """
        if time.monotonic() < self._next_s:
            return
        alive = {node["NodeID"] for node in self._nodes() if node["Alive"]}
        self._next_s = time.monotonic() + self._every_s
        if self._node not in alive:
            raise RayLost("Ray's own process on this machine (its raylet) died")
