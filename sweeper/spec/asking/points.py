"""Points that somebody asks for: some values of the space, or all of them; what is left out is drawn by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sweeper.errors import nearest, unknown
from sweeper.spec.dimensions import Choice, Dimension, Fixed, Range, value_of
from sweeper.spec.faults import Fault, Faults, KeyPath, dotted, given
from sweeper.spec.space import Point, Space

REDRAWINGS = 64
PLACE: KeyPath = ("search", "points")
Mending = Callable[[str], str]  # of the space, by the parameter's name


def read(space: Space, written: Mapping[str, Any], path: KeyPath = (), mending: Mending | None = None) -> Point:
    """What was `written` at `path` of a point, as the parameters' own types; not more than was written.

    `mending` says, by the parameter's name, how the space could be made to hold a value that lies outside.

    Raises:
        Faults: every slip: an unknown parameter, one that no method of the point has, a value outside the space.
    """
    mending = mending or (lambda name: f"or widen space.{name}")
    found: Point = {}
    faults: list[Fault] = []
    if not written:
        faults = [Fault(path, f"{dotted(path) or 'the point'} is empty. Give one value or more, such as rank: 16.")]
    for name, item in written.items():
        place = (*path, name)
        try:
            if name not in space.dimensions:
                raise Faults([Fault(place, unknown(dotted(place), str(name), space.dimensions))])
            found[name] = value_of(name, item, place)
        except Faults as error:
            faults += error.faults
    if faults:
        raise Faults(faults)
    faults = list(_outside(space, found, path, mending))
    if faults:
        raise Faults(faults)
    return found


def _outside(space: Space, point: Point, path: KeyPath, mending: Mending) -> Iterator[Fault]:
    methods = [point["method"]] if "method" in point else list(space.methods)
    if "method" in point and point["method"] not in space.methods:
        close = nearest(str(point["method"]), space.methods)
        guess = f" Did you mean '{close}'?" if close else ""
        text = f"is '{point['method']}', which is none of {', '.join(space.methods)}.{guess} Use one of them"
        yield Fault((*path, "method"), f"{dotted((*path, 'method'))} {text}, {mending('method')}.")
        return
    having = [method for method in methods if point.keys() <= space.labels(method).keys()]
    if not having:
        names = ", ".join(point.keys() - {"method"})
        text = f"{dotted(path) or 'the point'}: none of {', '.join(methods)} has all of {names}"
        yield Fault(path, f"{text}. Leave some out, or use another method.")
        return
    if any(_inside(space, point, method) for method in having):
        return
    alone = True
    for name, item in point.items():
        axes = [space.axes[space.labels(method)[name]] for method in having]
        if not any(axis.contains(item) for axis in axes):
            place, alone = (*path, name), False
            allowed = " or ".join(dict.fromkeys(map(extent, axes)))
            shown = f"{item:g}" if isinstance(item, float) else given(item)
            yield Fault(place, f"{dotted(place)} is {shown}, outside {allowed}. Use that, {mending(name)}.")
    if alone:
        yield Fault(path, f"{dotted(path) or 'the point'} fits no one method of {', '.join(having)}. Say which method.")


def extent(axis: Dimension) -> str:
    """What a dimension holds, in words: `0.01 to 100`, or `8, 16, 32`."""
    match axis:
        case Fixed(only):
            return f"{only}, which is fixed"
        case Choice(values):
            return ", ".join(map(str, values))
        case Range(low, high):
            return f"{low:g} to {high:g}"


def _inside(space: Space, point: Point, method: str) -> bool:
    labels, axes = space.labels(method), space.axes
    return point.keys() <= labels.keys() and all(axes[labels[name]].contains(item) for name, item in point.items())


def fits(space: Space, wanted: Point) -> bool:
    """Whether the space has a point with the values `wanted`."""
    methods = [wanted["method"]] if "method" in wanted else space.methods
    return any(_inside(space, {**wanted, "method": method}, method) for method in methods)


def only(space: Space, wanted: Point) -> Point | None:
    """The one point of the space that has the values `wanted`; None where there are several."""
    methods = [method for method in space.methods if _inside(space, {**wanted, "method": method}, method)]
    if len(methods) != 1:
        return None
    axes, rest = space.axes, {name: label for name, label in space.labels(methods[0]).items() if name not in wanted}
    if any(not isinstance(axes[label], Fixed) for name, label in rest.items() if name != "method"):
        return None
    return _drawn(space, wanted, np.random.default_rng(0))


def completed(space: Space, wanted: Point, seed: Sequence[int], known: Sequence[Point] = ()) -> Point:
    """A point of the space that has the values `wanted`; the rest is drawn from the stream of `seed`.

    It is none of those `known` where there is another one.
    """
    point: Point = {}
    for turn in range(REDRAWINGS):
        point = _drawn(space, wanted, np.random.default_rng([*seed, turn]))
        if point not in known:
            break
    return point


def _drawn(space: Space, wanted: Point, chance: np.random.Generator) -> Point:
    methods = [method for method in space.methods if _inside(space, {**wanted, "method": method}, method)]

    def at(label: str, axis: Dimension) -> Any:
        name = label.partition("[")[0]
        if name in wanted:
            return wanted[name]
        share = float(chance.random())
        if name == "method":
            return methods[int(share * len(methods))]
        if isinstance(axis, Choice):
            return axis.values[int(share * len(axis.values))]
        assert isinstance(axis, Range)  # what is fixed is not drawn
        return axis.at(share)

    return space.walk(at)


def matches(point: Point, wanted: Point) -> bool:
    """Whether `point` has all values that are `wanted`."""
    return all(name in point and point[name] == item for name, item in wanted.items())


def faults_of(space: Space, listed: Sequence[Mapping[str, Any]], *, grid: bool) -> Iterator[Fault]:
    """What is wrong with `search.points`, beside the space; a `grid` has its own points alone."""
    seen: list[Point] = []
    for index, written in enumerate(listed):
        path = (*PLACE, index)
        try:
            point = read(space, written, path)
        except Faults as error:
            yield from error.faults
            continue
        if point in seen:
            yield Fault(path, f"{dotted(path)} is search.points[{seen.index(point)}] again. Keep one.")
        seen.append(point)
    if grid and not space.continuous:
        yield from _beside_the_grid(space, listed, seen)


def _beside_the_grid(
    space: Space, listed: Sequence[Mapping[str, Any]], read_points: Sequence[Point]
) -> Iterator[Fault]:
    if len(read_points) < len(listed):  # told already
        return
    left = space.grid()
    for index, wanted in enumerate(read_points):
        found = next((point for point in left if matches(point, wanted)), None)
        if found is None:
            text = "is no point of the grid, or one that is listed before. Use the grid's values."
            yield Fault((*PLACE, index), f"{dotted((*PLACE, index))} {text}")
        else:
            left.remove(found)
