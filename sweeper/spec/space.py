"""The space of a sweep: which parameters are searched, in what range, and which exist when.

Walking it is define-by-run: the method first, then, in the order of `PARAMS`, only what that method has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import unknown
from sweeper.spec.dimensions import ByMethod, Choice, Dimension, Fixed, Range, default_range, entry, no_points
from sweeper.spec.faults import Fault, Faults, given
from trainables.methods import METHODS
from trainables.params import PARAMS, exists

__all__ = ["ByMethod", "Choice", "Dimension", "Fixed", "Point", "Range", "Space"]

Point = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """Every parameter that some method of the sweep has, in the order of `PARAMS`, the method first."""

    dimensions: Mapping[str, Dimension | ByMethod]

    @classmethod
    def of(cls, listed: Mapping[str, Dimension | ByMethod]) -> Space:
        """The space of these dimensions; what is left out is filled in.

        Raises:
            Faults: an unknown parameter, one that no method of the sweep has, one without a dimension for some method.
        """
        method = listed.get("method", Fixed(PARAMS["method"].default))
        methods = () if isinstance(method, ByMethod) else method.grid() or ()
        faults = [fault for name, axis in listed.items() for fault in _misfits(name, axis, methods)]
        if faults:
            raise Faults(faults)
        having = (name for name in PARAMS if any(exists(name, method) for method in methods))
        said = (name for name in having if name in listed or PARAMS[name].default is not None)
        return cls({name: listed.get(name) or _default(name) for name in said})

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
        listed: dict[str, Dimension | ByMethod] = {}
        faults: list[Fault] = []
        for name, shorthand in written.items():
            try:
                listed[name] = entry(name, shorthand)
            except Faults as error:
                faults += error.faults
        try:
            space = cls.of(listed)
        except Faults as error:
            faults += error.faults if not any(fault.path[1] == "method" for fault in faults) else ()
        if faults:
            raise Faults(faults)
        return space

    def plain(self) -> dict[str, Any]:
        """The YAML shorthand, written out in full."""
        return {name: axis.plain() for name, axis in self.dimensions.items()}

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of the sweep."""
        return tuple(self.axes["method"].grid() or ())

    @property
    def axes(self) -> dict[str, Dimension]:
        """Every axis by its label: the parameter's name, or `epochs[fft]` where each method has an axis of its own."""
        found: dict[str, Dimension] = {}
        for name, axis in self.dimensions.items():
            if isinstance(axis, ByMethod):
                found |= {f"{name}[{method}]": own for method, own in axis.dimensions.items()}
            else:
                found[name] = axis
        return found

    def labels(self, method: str) -> dict[str, str]:
        """Parameter -> the label of its axis, for what `method` has; the method itself first."""
        names = [name for name in self.dimensions if name == "method" or exists(name, method)]
        own = {name: isinstance(self.dimensions[name], ByMethod) for name in names}
        return {name: f"{name}[{method}]" if own[name] else name for name in names}

    def walk(self, draw: Callable[[str, Dimension], Any]) -> Point:
        """One point: `draw(label, axis)` is asked for what is not fixed, and only for what the method has."""
        axes = self.axes

        def value(label: str) -> Any:
            axis = axes[label]
            return axis.value if isinstance(axis, Fixed) else draw(label, axis)

        method = value("method")
        rest = {name: label for name, label in self.labels(method).items() if name != "method"}
        return {"method": method, **{name: value(label) for name, label in rest.items()}}

    def coordinates(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """What a point has on the axes, inside them or not, by label."""
        labels, axes = self.labels(point["method"]), self.axes
        return {labels[name]: value for name, value in point.items() if labels.get(name) in axes}

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Whether `point` holds exactly the parameters of its method, each inside its dimension."""
        if point.get("method") not in self.methods:
            return False
        labels, axes = self.labels(point["method"]), self.axes
        return labels.keys() == point.keys() and all(axes[labels[name]].contains(point[name]) for name in point)

    @property
    def continuous(self) -> list[str]:
        """The ranges without points, which no grid can enumerate."""
        return [label for label, axis in self.axes.items() if axis.grid() is None]

    def countable(self, method: str) -> bool:
        """Whether the points of `method` can be told off one by one, so that chance may draw one twice."""
        axes = [self.axes[label] for label in self.labels(method).values()]
        return not any(isinstance(axis, Range) and not axis.integer for axis in axes)

    def grid(self) -> list[Point]:
        """Every point, once, in a fixed order: by method, then in the order of the table, the last fastest.

        Raises:
            Faults: a range has no points.
        """
        if self.continuous:
            raise Faults(no_points(name) for name in self.continuous)
        return [point for method in self.methods for point in self._points(method)]

    def _columns(self, method: str) -> dict[str, Sequence[Any]]:
        axes = self.axes
        return {name: axes[label].grid() or () for name, label in self.labels(method).items() if name != "method"}

    def _points(self, method: str) -> Iterator[Point]:
        columns = self._columns(method)
        for values in itertools.product(*columns.values()):
            yield {"method": method, **dict(zip(columns, values, strict=True))}

    def size(self) -> int | None:
        """How many points there are; None if a range is continuous."""
        if self.continuous:
            return None
        return sum(math.prod(len(column) for column in self._columns(method).values()) for method in self.methods)

    def alone(self, method: str) -> Space:
        """The space of one method by itself, also of one that is not searched here.

        It has this space's dimensions; those that are missing are as in a spec that says nothing of them.
        """
        own = {
            name: axis.dimensions.get(method) if isinstance(axis, ByMethod) else axis
            for name, axis in self.dimensions.items()
            if name != "method" and exists(name, method)
        }
        return Space.of({"method": Fixed(method)} | {name: axis for name, axis in own.items() if axis is not None})

    def baseline(self, method: str) -> Point:
        """The point that stands for `method`: what is fixed stays, the rest is the default, moved into the range.

        Where the default is None, as of blocks, it is the most.
        """
        names = [name for name in PARAMS if name != "method" and exists(name, method)]
        typical = {name: self._typical(name, method) for name in names}
        return {"method": method, **{name: value for name, value in typical.items() if value is not None}}

    def _typical(self, name: str, method: str) -> Any:
        default = PARAMS[name].default
        match self.axes.get(self.labels(method).get(name, name)):
            case Fixed(value):
                return value
            case Range() as span:
                return span.high if default is None else span.clip(default)
            case Choice(values) if default is None:
                return max(values)
            case Choice(values):
                return default if default in values else values[0]
            case None:
                return default


def _default(name: str) -> Dimension:
    param = PARAMS[name]
    return (default_range(name) if param.searched else None) or Fixed(param.default)


def _misfits(name: str, axis: Dimension | ByMethod, methods: Sequence[str]) -> Iterator[Fault]:
    """What is wrong with one parameter beside the sweep's methods."""
    if name not in PARAMS:
        yield Fault(("space", name), unknown(f"space.{name}", name, PARAMS))
        return
    having = [method for method in methods if exists(name, method)]
    if not having:
        text = f"space.{name} has no meaning for {', '.join(methods)}. Remove it, or let space.method have one of: "
        yield Fault(("space", name), f"{text}{', '.join(method for method in METHODS.sound if exists(name, method))}.")
    elif isinstance(axis, ByMethod):  # it needs a dimension for each method that has it, and for no other
        missing = [method for method in having if method not in axis.dimensions]
        if missing:
            text = f"space.{name} has no dimension for {', '.join(missing)}. Add it, or write one for all methods."
            yield Fault(("space", name), text)
        for method in axis.dimensions.keys() - having:
            text = f"space.{name}.{method} is for a method that this sweep does not have with {name}. Remove it."
            yield Fault(("space", name, method), text)
