"""What travels to an actor: which fits to train (a `Bundle` of `Order`s), and where and with what (`Node`).

Actors and the queue share only this module. It imports nothing heavy: a worker needs no Optuna.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeper.state.sweep_folder import SweepFolder

Kind = Literal["fit", "held-out", "gain"]
SHARED = {  # of a fit's provenance: what all fits of a sweep have in common, or they could not be compared
    "split_hash": "who of the data is in which split",
    "data_digest": "the bytes of the data's files",
    "backbone_digest": "the backbone's weights",
}


def unlike(same: Mapping[str, str], provenance: Mapping[str, Any]) -> list[str]:
    """What of `SHARED` is other than `same` says, a phrase each. What an older release did not note is not compared."""
    return [
        f"{what} ({key} {provenance[key]}, elsewhere {same[key]})"
        for key, what in SHARED.items()
        if key in same and provenance.get(key) not in (None, same[key])
    ]


@dataclass(frozen=True)
class Order:
    """One piece of work for an actor: train a fit, measure a trained one on the held-out split, or measure a gain.

    That is what training several fits like this one at once gains.

    `same` says of `SHARED` what it is in the sweep's other fits, as far as that is known.
    The fit reports after each epoch in `rungs`, where it is compared with others.
    """

    number: int
    seed: int
    params: Mapping[str, Any]
    kind: Kind = "fit"
    same: Mapping[str, str] = field(default_factory=dict)
    rungs: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[Kind, int, int]:
        """Tells this order from any other of the sweep."""
        return self.kind, self.number, self.seed

    def __str__(self) -> str:
        return f"{self.kind} {self.number}/{self.seed}"


@dataclass(frozen=True)
class Bundle:
    """What one actor carries out at once: one order, or as many as it trains together."""

    orders: tuple[Order, ...]

    def __iter__(self) -> Iterator[Order]:
        return iter(self.orders)

    def __len__(self) -> int:
        return len(self.orders)

    def __str__(self) -> str:
        first, *others = self.orders
        return f"{first} and {len(others)} more" if others else str(first)


@dataclass(frozen=True)
class Node:
    """Where an actor works: the sweep's folder, the lease token and store it writes with, its share of the machine.

    `code` is the digest of the code that the driver runs, and the actor must run too; None: any.
    """

    folder: Path
    token: int | None
    store: str | None
    device: str
    threads: int
    cpus: float
    gpus: float
    code: str | None = None

    def sweep(self) -> SweepFolder:
        """The sweep's folder, writable under the driver's lease."""
        return SweepFolder(self.folder, token=self.token, store=self.store)

    def __str__(self) -> str:
        return self.device


def config(node: Node, *orders: Order) -> dict[str, Any]:
    """Both as a config of Ray Tune. Tune puts a config's values into a folder name, so their `str` is short."""
    return {"node": node, "bundle": Bundle(orders)}
