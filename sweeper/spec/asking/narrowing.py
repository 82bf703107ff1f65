"""A space that is narrowed while its sweep lives: `lambda=0.1..10`, `rank=8,16,32`; never beyond what it began with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import UserError, unknown
from sweeper.spec.asking.points import extent
from sweeper.spec.dimensions import ByMethod, Choice, Dimension, Fixed, Range, value_of
from sweeper.spec.space import Space
from sweeper.spec.yaml_text import plain_value

ENUMERABLE = 1000  # points: whether all of a larger space were tried is not asked
Written = dict[str, Any]  # by an axis' label: a value, a list, or {low, high}


@dataclass(frozen=True)
class Narrowing:
    """From trial `start` on the axes hold less: by label what they hold, and what they `held` before, in words.

    It was asked for at `ms` (milliseconds since 1970). `written` is what `narrowed` reads.
    """

    start: int
    ms: int
    written: Written
    held: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {"start": self.start, "ms": self.ms, "written": self.written, "held": dict(self.held)}


def typed(words: Sequence[str]) -> Written:
    """What somebody typed, `lambda=0.1..10` or `rank=8,16,32`, by label.

    Raises:
        UserError: that is neither.
    """
    found: Written = {}
    for word in words:
        label, equals, text = word.partition("=")
        low, dots, high = text.partition("..")
        items = [plain_value(item) for item in text.split(",")]
        if not (label and equals and text) or "" in (*items, *([low, high] if dots else ())):
            raise UserError(f"'{word}' is no range. Write lambda=0.1..10, or values: rank=8,16,32.")
        if label in found:
            raise UserError(f"{label} is given twice. Keep one.")
        found[label] = {"low": plain_value(low), "high": plain_value(high)} if dots else items
    return found


def narrowed(began: Space, current: Space, written: Written) -> Space:
    """The `current` space with the axes `written`, which lie inside those that it `began` with.

    Raises:
        UserError: an unknown axis, or a value that lies outside.
    """
    dimensions = dict(current.dimensions)
    for label, item in written.items():
        whole = began.dimensions.get(label)
        if isinstance(whole, ByMethod):
            each = ", ".join(f"{label}[{method}]=..." for method in whole.dimensions)
            raise UserError(f"{label} has a range for each method. Say which: {each}.")
        if label not in began.axes:
            raise UserError(unknown(label, label, began.axes))
        name, _, method = label.rstrip("]").partition("[")
        axis = _inside(label, name, began.axes[label], item)
        if method:
            own = dimensions[name]
            assert isinstance(own, ByMethod)  # as it began
            dimensions[name] = ByMethod({**own.dimensions, method: axis})
        else:
            dimensions[name] = axis
    return Space(dimensions)


def _inside(label: str, name: str, axis: Dimension, item: object) -> Dimension:
    if isinstance(axis, Fixed):
        raise UserError(f"{label} is {axis.value}, and fixed: there is nothing to narrow.")
    if isinstance(item, Mapping):
        low, high = (value_of(name, item[end], (label, end)) for end in ("low", "high"))
        if isinstance(low, str) or isinstance(high, str):
            raise UserError(f"{label} has no order. Use values: {extent(axis)}.")
        if low > high:
            raise UserError(f"{label} has low {low:g} above high {high:g}. Exchange them.")
        if isinstance(axis, Choice):
            return _chosen(label, [each for each in axis.values if low <= each <= high], axis)
        outside = f"{low:g} to {high:g}" if not (axis.contains(low) and axis.contains(high)) else ""
        if not outside:
            return Fixed(low) if low == high else Range(low, high, axis.log, axis.integer)
    else:
        values = [value_of(name, each, (label,)) for each in (item if isinstance(item, list) else [item])]
        outside = ", ".join(str(each) for each in values if not axis.contains(each))
        if not outside:
            return _chosen(label, values, axis)
    raise UserError(
        f"{label} was to be {outside}, which is not inside {extent(axis)}, what the sweep began with: its trials say "
        "nothing of what lies beyond, so begin another sweep for that, with search.warm_start to learn from this one."
    )


def _chosen(label: str, values: Sequence[Any], axis: Dimension) -> Dimension:
    if not values:
        raise UserError(f"{label} would have no value left of {extent(axis)}.")
    listed = tuple(dict.fromkeys(values))
    return Choice(listed) if len(listed) > 1 else Fixed(listed[0])


def enumerated(space: Space) -> list[dict[str, Any]] | None:
    """Every point of the space; None where there are more than `ENUMERABLE` in all, or no end of them."""
    found: list[dict[str, Any]] = []
    for method in space.methods:
        axes = {name: space.axes[label] for name, label in space.labels(method).items() if name != "method"}
        columns = {name: _values(axis) for name, axis in axes.items()}
        size = math.prod(math.inf if column is None else len(column) for column in columns.values())
        if len(found) + size > ENUMERABLE:
            return None
        points = itertools.product(*(column or () for column in columns.values()))
        found += [{"method": method, **dict(zip(columns, values, strict=True))} for values in points]
    return found


def _values(axis: Dimension) -> Sequence[Any] | None:
    if isinstance(axis, Range):
        return range(int(axis.low), int(axis.high) + 1) if axis.integer else None
    return axis.grid()


def told(narrowing: Narrowing, began: Space) -> str:
    """One sentence for people: what was narrowed, from which trial on, and what it was."""
    axes = narrowed(began, began, narrowing.written).axes
    parts = [f"{label} {_short(axes[label])} (before: {narrowing.held[label]})" for label in narrowing.written]
    return f"from trial {narrowing.start} on {', '.join(parts)}"


def _short(axis: Dimension) -> str:
    return str(axis.value) if isinstance(axis, Fixed) else extent(axis)


def holds(began: Space, current: Space, point: Mapping[str, Any]) -> bool:
    """Whether what a trial at `point` came to says something of the `current` space: it lies inside, or never did."""
    coordinates, before, now = began.coordinates(point), began.axes, current.axes
    return all(now[label].contains(item) or not before[label].contains(item) for label, item in coordinates.items())
