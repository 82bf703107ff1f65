"""One parameter's dimension: fixed, a choice, or a range; and how YAML's shorthand becomes one.

A scalar is fixed, a list is a choice, `{low, high, log, points}` is a range, `{METHOD: ..., METHOD: ...}` has one
of these for each method. What a range leaves out comes from `PARAMS`, and each value must be of the parameter's type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from pydantic import ValidationError

from sweeper.errors import nearest, unknown
from sweeper.spec.faults import Fault, Faults, KeyPath, dotted, given, mend
from trainables.methods import METHODS
from trainables.params import PARAMS

RANGE_KEYS = ("low", "high", "log", "points")


@dataclass(frozen=True)
class Fixed:
    """One value; never drawn."""

    value: Any

    def grid(self) -> tuple[Any, ...]:
        """The one value."""
        return (self.value,)

    def contains(self, value: object) -> bool:
        """Whether `value` is the one."""
        return bool(value == self.value)

    def plain(self) -> Any:
        """As YAML writes it."""
        return self.value


@dataclass(frozen=True)
class Choice:
    """Some values, without an order."""

    values: tuple[Any, ...]

    def grid(self) -> tuple[Any, ...]:
        """The values as they were listed."""
        return self.values

    def contains(self, value: object) -> bool:
        """Whether `value` is listed."""
        return value in self.values

    def plain(self) -> Any:
        """As YAML writes it."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`, both included; `points` of them make a grid."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    points: int | None = None

    def grid(self) -> tuple[Any, ...] | None:
        """`points` values, evenly spaced (on the log axis where `log`), ends included; None without points."""
        if self.points is None:
            return None
        shares = [index / (self.points - 1) for index in range(1, self.points - 1)]
        inner = [self.at(share) for share in shares]
        return tuple(dict.fromkeys([self.low, *inner, self.high]))

    def at(self, share: float) -> float:
        """The number that lies at `share`, from 0 to 1, of the way; on the log axis where `log`."""
        if self.log:
            value = math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        else:
            value = (1 - share) * self.low + share * self.high
        return round(value) if self.integer else float(f"{value:.12g}")

    def contains(self, value: object) -> bool:
        """Whether `value` is a number of the range."""
        return _is_number(value) and self.low <= value <= self.high and (not self.integer or value == int(value))

    def clip(self, value: float) -> float:
        """The number of the range that is nearest to `value`."""
        return min(max(value, self.low), self.high)

    def plain(self) -> Any:
        """As YAML writes it."""
        points = {} if self.points is None else {"points": self.points}
        return {"low": self.low, "high": self.high, "log": self.log, **points}


Dimension = Fixed | Range | Choice


@dataclass(frozen=True)
class ByMethod:
    """A parameter whose dimension differs from method to method."""

    dimensions: Mapping[str, Dimension]

    def plain(self) -> Any:
        """As YAML writes it."""
        return {method: axis.plain() for method, axis in self.dimensions.items()}


def default_range(name: str) -> Dimension | None:
    """The usual dimension of a parameter: what `name: {}` means in YAML. None where `PARAMS` knows none."""
    param = PARAMS[name]
    if param.low is not None and param.high is not None:
        kind = type(param.default)
        return Range(kind(param.low), kind(param.high), param.log, kind is int)
    return Choice(tuple(param.choices)) if param.choices else None


def most(dimension: Dimension) -> float:
    """The largest number of a dimension of numbers."""
    match dimension:
        case Fixed(value):
            return float(value)
        case Choice(values):
            return max(map(float, values))
        case Range(high=high):
            return high


def place(label: str) -> KeyPath:
    """Where a spec writes the axis of that label: `epochs[fft]` is at space.epochs.fft."""
    name, _, method = label.rstrip("]").partition("[")
    return ("space", name, method) if method else ("space", name)


def no_points(label: str) -> Fault:
    """A grid meets a range that it cannot enumerate."""
    text = "is a range without points, and a grid needs values. Use a list, or add `points: 5`."
    return Fault(place(label), f"{dotted(place(label))} {text}")


def entry(name: str, written: object) -> Dimension | ByMethod:
    """One entry of the section `space`.

    Raises:
        Faults: an unknown name, a value that the parameter cannot have, an empty range.
    """
    path: KeyPath = ("space", name)
    if name not in PARAMS:
        raise Faults([Fault(path, unknown(dotted(path), name, PARAMS))])
    if not (isinstance(written, Mapping) and written and name != "method" and METHODS.keys() & written.keys()):
        return dimension(name, written)
    strange = [method for method in written if method not in METHODS]
    if strange:
        raise Faults([Fault((*path, word), unknown(dotted((*path, word)), str(word), METHODS)) for word in strange])
    return ByMethod({method: _of_method(name, method, own) for method, own in written.items()})


def _of_method(name: str, method: str, written: object) -> Dimension:
    try:
        return dimension(name, written)
    except Faults as error:
        inner, outer = f"space.{name}", f"space.{name}.{method}"
        raise Faults(
            Fault((*fault.path[:2], method, *fault.path[2:]), fault.text.replace(inner, outer, 1))
            for fault in error.faults
        ) from None


def dimension(name: str, written: object) -> Dimension:
    """One dimension of the parameter `name`; `{values: [...]}` is a list too, and `{}` the usual range.

    Raises:
        Faults: a value that the parameter cannot have, an empty range.
    """
    if isinstance(written, Mapping):
        return _choice(name, written["values"]) if set(written) == {"values"} else _range(name, written)
    if isinstance(written, list | tuple):
        return _choice(name, written)
    return Fixed(value_of(name, written, ("space", name)))


def _choice(name: str, written: object) -> Dimension:
    path: KeyPath = ("space", name)
    if not isinstance(written, list | tuple) or not written:
        raise _slip(path, written, "Give a list with at least one value.")
    values: list[Any] = []
    faults: list[Fault] = []
    for index, item in enumerate(written):
        try:
            value = value_of(name, item, (*path, index))
            if value in values:
                raise _slip((*path, index), item, "The list has it already: keep one.")
            values.append(value)
        except Faults as error:
            faults += error.faults
    if faults:
        raise Faults(faults)
    return Choice(tuple(values)) if len(values) > 1 else Fixed(values[0])


def _range(name: str, written: Mapping[str, Any]) -> Dimension:
    usual = default_range(name)
    if not written and usual is not None:
        return usual
    default = PARAMS[name].default
    if isinstance(default, str):
        raise _slip(("space", name), dict(written), f"Use a value or a list, of {', '.join(PARAMS[name].choices)}.")
    start = usual if isinstance(usual, Range) else Range(math.nan, math.nan, integer=PARAMS[name].whole)
    faults: list[Fault] = []
    bounds: dict[str, Any] = {"low": start.low, "high": start.high, "log": start.log, "points": None}
    for key, value in written.items():
        try:
            bounds[key] = _bound(name, key, value)
        except Faults as error:
            faults += error.faults
    if not faults:
        faults = _contradictions(name, **bounds)
    if faults:
        raise Faults(faults)
    return Range(integer=start.integer, **bounds)


def _bound(name: str, key: str, value: object) -> Any:
    path: KeyPath = ("space", name, key)
    if key in ("low", "high"):
        return value_of(name, value, path)
    if key == "log" and not isinstance(value, bool):
        raise _slip(path, value, "Use true or false.")
    if key == "points" and (type(value) is not int or value < 2):
        raise _slip(path, value, "Use a whole number, 2 or more.")
    if key not in RANGE_KEYS:
        raise Faults([Fault(path, unknown(dotted(path), key, (*RANGE_KEYS, "values")))])
    return value


def _contradictions(name: str, *, low: float, high: float, log: bool, points: int | None) -> list[Fault]:
    path: KeyPath = ("space", name)
    if math.isnan(low) or math.isnan(high):
        return [Fault(path, f"space.{name} has no usual range. Give both low and high, or a list.")]
    if low == high:
        return [Fault(path, f"space.{name} has low {low:g} = high. For one value write `{name}: {low:g}`.")]
    if low > high:
        return [Fault(path, f"space.{name} has low {low:g} above high {high:g}. Exchange or widen them.")]
    if log and low <= 0:
        return [Fault(path, f"space.{name} has low {low:g} on a log axis. Use a low above 0, or log: false.")]
    return []


def value_of(name: str, written: object, path: KeyPath) -> Any:
    """`written` as the parameter's own type."""
    if name == "method" and isinstance(written, str) and written not in METHODS:
        raise _slip(path, written, METHODS.hint(written))
    number = not isinstance(PARAMS[name].default, str)
    if isinstance(written, bool) or (number and not _finite(written)):
        raise _slip(path, written, f"Use a {'finite number' if number else 'name'}.")
    try:
        return PARAMS[name].adapter.validate_python(written)
    except ValidationError as error:
        entry = error.errors(include_url=False)[0]
        if entry["type"] != "value_error":
            raise _slip(path, written, mend(entry)) from None
    close = nearest(str(written), PARAMS[name].choices)
    guess = f" Did you mean '{close}'?" if close else ""
    raise Faults([Fault(path, f"{dotted(path)}: {mend(entry)}{guess}")])


def _finite(written: object) -> bool:
    try:
        return math.isfinite(float(str(written)))
    except ValueError:
        return not isinstance(written, float)  # other words are for the parameter to judge


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _slip(path: KeyPath, written: object, mending: str) -> Faults:
    return Faults([Fault(path, f"{dotted(path)} is {given(written)}. {mending}")])
