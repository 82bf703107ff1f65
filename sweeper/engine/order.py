"""What travels to an actor: which fit to train (`Order`), and where and with what (`Node`). Both are frozen.

This module is all that actors and the queue share, so it imports nothing heavy: a worker needs no Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeper.state.sweep_folder import SweepFolder

Kind = Literal["fit", "held-out"]


@dataclass(frozen=True)
class Order:
    """One piece of work for an actor: train a fit, or measure a trained one on the held-out split.

    `split_hash` is that of the data which the sweep's fits were trained on so far, None before the first one.
    After `rungs` epochs the fit reports, because there it is compared with others.
    """

    number: int
    seed: int
    params: Mapping[str, Any]
    kind: Kind = "fit"
    split_hash: str | None = None
    rungs: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[Kind, int, int]:
        """Tells this order from any other of the sweep."""
        return self.kind, self.number, self.seed

    def __str__(self) -> str:
        return f"{self.kind} {self.number}/{self.seed}"


@dataclass(frozen=True)
class Node:
    """Where an actor works: the sweep's folder there, the lease that it writes under, and its share of the machine."""

    folder: Path
    token: int | None
    store: str | None
    device: str
    threads: int
    cpus: float
    gpus: float

    def sweep(self) -> SweepFolder:
        """The sweep's folder, to be written under the driver's lease."""
        return SweepFolder(self.folder, token=self.token, store=self.store)

    def __str__(self) -> str:
        return self.device


def config(node: Node, order: Order) -> dict[str, Any]:
    """Both, as Ray Tune carries them: an actor finds them under these two keys.

    Tune spells a config into the name of a scratch folder; there the values are as short as their `str`.
    """
    return {"node": node, "order": order}
