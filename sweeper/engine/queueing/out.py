"""What is out: an order that an actor has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeper.engine.order import Kind, Order


@dataclass
class Out:
    """An order that is out: how many epochs its fit had when it was given out, and has by the newest report.

    `bundle` has the keys of all orders that its actor has, its own included.
    """

    order: Order
    begun_with: int
    epoch: int
    bundle: tuple[tuple[Kind, int, int], ...]
    reported: bool = False
    values: Mapping[str, float | None] = field(default_factory=dict)
