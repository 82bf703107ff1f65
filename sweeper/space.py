"""The space of a sweep: which parameters are searched, in what range, and which exist when.

Walking it is define-by-run: the method first, then, in the order of `PARAMS`, only what that method has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.dimensions import DEFAULTS, Choice, Dimension, Fixed, Range, default_range, dimension, no_points
from sweeper.errors import Fault, Faults, given, unknown
from trainables.methods import METHODS
from trainables.params import PARAMS, exists

__all__ = ["DEFAULTS", "SEARCHED", "Choice", "Dimension", "Fixed", "Point", "Range", "Space"]

SEARCHED = ("lambda", "rank")  # over their whole usual range, where a spec says nothing of them
Point = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """Every parameter that some method of the sweep has, in the order of `PARAMS`, the method first."""

    dimensions: Mapping[str, Dimension] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what was left out, drop what no method has.

        Raises:
            Faults: an unknown parameter, or one that no method of the sweep has.
        """
        listed = dict(self.dimensions)
        faults = [Fault(("space", name), unknown(f"space.{name}", name, PARAMS)) for name in listed.keys() - PARAMS]
        methods = (listed.get("method") or Fixed(DEFAULTS["method"])).grid() or ()
        useful = [name for name in PARAMS if any(exists(name, method) for method in methods)]
        faults += [_homeless(name, methods) for name in listed if name in PARAMS and name not in useful]
        if faults:
            raise Faults(faults)
        object.__setattr__(self, "dimensions", {name: listed.get(name) or _default(name) for name in useful})

    @classmethod
    def parse(cls, written: object) -> Space:
        """From the YAML shorthand.

        Raises:
            Faults: all slips of the section.
        """
        if isinstance(written, Space):
            return written
        if not isinstance(written, Mapping):
            text = f"space is {given(written)}. Use a mapping such as `lambda: {{low: 0.01, high: 100}}`."
            raise Faults([Fault(("space",), text)])
        listed: dict[str, Dimension] = {}
        faults: list[Fault] = []
        for name, shorthand in written.items():
            try:
                listed[name] = dimension(name, shorthand)
            except Faults as error:
                faults += error.faults
        try:
            space = cls(listed)
        except Faults as error:
            faults += error.faults if not any(fault.path[1] == "method" for fault in faults) else ()
        if faults:
            raise Faults(faults)
        return space

    def plain(self) -> dict[str, Any]:
        """The YAML shorthand, written out in full."""
        return {name: axis.plain() for name, axis in self.dimensions.items()}

    def walk(self, draw: Callable[[str, Dimension], Any]) -> Point:
        """One point: `draw(name, dimension)` is asked for what is not fixed, and only for what the method has."""
        point: Point = {}
        for name, axis in self.dimensions.items():
            if not point or exists(name, point["method"]):
                point[name] = axis.value if isinstance(axis, Fixed) else draw(name, axis)
        return point

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Whether `point` holds exactly the parameters of its method, each inside its dimension."""
        method = point.get("method")
        if not self.dimensions["method"].contains(method):
            return False
        names = {name for name in self.dimensions if exists(name, str(method))}
        return names == set(point) and all(self.dimensions[name].contains(point[name]) for name in names)

    @property
    def continuous(self) -> list[str]:
        """The ranges without points, which no grid can enumerate."""
        return [name for name, axis in self.dimensions.items() if axis.grid() is None]

    def grid(self) -> list[Point]:
        """Every point, once, in a fixed order: by method, then in the order of the table, the last fastest.

        Raises:
            Faults: a range has no points.
        """
        if self.continuous:
            raise Faults(no_points(name) for name in self.continuous)
        return [point for method in self.dimensions["method"].grid() or () for point in self._points(method)]

    def _points(self, method: str) -> Iterator[Point]:
        names = [name for name in self.dimensions if name != "method" and exists(name, method)]
        columns = [self.dimensions[name].grid() or () for name in names]
        for values in itertools.product(*columns):
            yield {"method": method, **dict(zip(names, values, strict=True))}

    def size(self) -> int | None:
        """How many points there are; None if a range is continuous."""
        if self.continuous:
            return None
        grids = {name: axis.grid() or () for name, axis in self.dimensions.items()}
        methods = grids.pop("method")
        return sum(math.prod(len(grids[n]) for n in grids if exists(n, method)) for method in methods)

    def baseline(self, method: str) -> Point:
        """The point that stands for `method`: what is fixed stays, the rest is the default, moved into the range."""
        names = [name for name in PARAMS if name != "method" and exists(name, method)]
        return {"method": method, **{name: self._typical(name) for name in names}}

    def _typical(self, name: str) -> Any:
        default = DEFAULTS[name]
        match self.dimensions.get(name):
            case Fixed(value):
                return value
            case Range() as span:
                return span.clip(default)
            case Choice(values):
                return default if default in values else values[0]
            case None:
                return default


def _default(name: str) -> Dimension:
    searched = default_range(name) if name in SEARCHED else None
    return searched or Fixed(DEFAULTS[name])


def _homeless(name: str, methods: Sequence[str]) -> Fault:
    having = [method for method in METHODS if exists(name, method)]
    text = f"space.{name} has no meaning for {', '.join(methods)}. Remove it, or let space.method have one of: "
    return Fault(("space", name), f"{text}{', '.join(having)}.")
