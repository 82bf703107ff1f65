"""Where to write labels so that they cover neither points, nor lines, nor each other.

Lengths are pixels; the origin is the lower left corner of the drawing, y grows upwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHARACTER, LINE = 6.3, 13.0  # of the 11 pixel font that both inks use
_RADII = (14, 24, 36, 50, 66, 84)
_ANGLES = 16


@dataclass(frozen=True)
class Box:
    """An axis-parallel rectangle that ink takes up."""

    left: float
    low: float
    right: float
    high: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share area."""
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether the point lies within."""
        return self.left <= point[0] <= self.right and self.low <= point[1] <= self.high

    def inside(self, width: float, height: float) -> bool:
        """Whether the drawing holds it whole."""
        return self.left >= 0 and self.low >= 0 and self.right <= width and self.high <= height


@dataclass(frozen=True)
class Placement:
    """A text, and where its centre stands relative to the point that it names."""

    text: str
    dx: float
    dy: float


def place(
    anchors: Sequence[tuple[float, float]],
    texts: Sequence[Sequence[str]],
    *,
    obstacles: Sequence[Box],
    size: tuple[float, float],
    towards: tuple[float, float] = (1.0, 1.0),
    marks: Sequence[Box] = (),
) -> list[Placement | None]:
    """A place for each anchor's text, nearest first, on the side that `towards` points to where there is room.

    Each anchor has texts in order of preference. None where nothing is free: no label is better than
    one that cannot be read. Greedy, so the order of the anchors is the order of their importance.
    A leader crosses none of `marks`, which it could be taken to mean, unless there is no other way.
    """
    occupied, written = [*obstacles, *marks], list[Box]()
    placements: list[Placement | None] = []
    for anchor, wordings in zip(anchors, texts, strict=True):
        others = [mark for mark in marks if not mark.holds(anchor)]
        free = (
            (placement, [box, *leader])
            for crossed in (others, [])
            for placement in _candidates(wordings, towards)
            if (box := _around(anchor, placement)).inside(*size) and _free([box], occupied)
            if _free(leader := _leader(anchor, placement), [*written, *crossed])
        )
        placement, taken = next(free, (None, list[Box]()))
        written += taken[:1]
        occupied += taken
        placements.append(placement)
    return placements


def _free(boxes: Sequence[Box], occupied: Sequence[Box]) -> bool:
    return not any(box.overlaps(other) for box in boxes for other in occupied)


def _around(anchor: tuple[float, float], placement: Placement) -> Box:
    width = len(placement.text) * CHARACTER
    x, y = anchor[0] + placement.dx, anchor[1] + placement.dy
    return Box(x - width / 2, y - LINE / 2, x + width / 2, y + LINE / 2)


def _leader(anchor: tuple[float, float], placement: Placement) -> list[Box]:
    """The thin line from the point to its text, as a string of small boxes."""
    steps = max(2, int(math.hypot(placement.dx, placement.dy) / 4))
    at = [(anchor[0] + placement.dx * k / steps, anchor[1] + placement.dy * k / steps) for k in range(1, steps)]
    return [Box(x - 1, y - 1, x + 1, y + 1) for x, y in at]


def _candidates(texts: Sequence[str], towards: tuple[float, float]) -> Iterator[Placement]:
    """Places on growing rings; on each ring those on the wanted side first."""
    wanted = math.atan2(towards[1], towards[0])
    turns = sorted((2 * math.pi * k / _ANGLES for k in range(_ANGLES)), key=lambda a: -math.cos(a - wanted))
    for text, radius, angle in itertools.product(texts, _RADII, turns):
        reach = radius + len(text) * CHARACTER / 2
        yield Placement(text, math.cos(angle) * reach, math.sin(angle) * radius)
