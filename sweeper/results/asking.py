"""What a person asks of a sweep by hand, points and narrower ranges: read, checked, and left for its driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeper.errors import UserError
from sweeper.results.results import Results
from sweeper.spec.asking import narrowing, points
from sweeper.spec.faults import Faults
from sweeper.spec.samplers import SAMPLERS
from sweeper.spec.space import Point
from sweeper.spec.yaml_text import plain_value
from sweeper.state.asking.inbox import Inbox
from sweeper.trial import State


def try_point(results: Results, words: Sequence[str], seeds: int | None = None) -> str:
    """Ask for the point of `words` (`lambda=0.3`), with `seeds` where they are given; says what was asked for.

    Raises:
        UserError: it is outside the space, there is a trial of it, it is asked for already, or too few seeds.
    """
    spec, name = results.spec, results.spec.name
    try:
        wanted = points.read(results.space, _values(words), mending=lambda parameter: _wider(results, parameter))
    except Faults as error:
        raise UserError("\n".join(dict.fromkeys(fault.text for fault in error.faults))) from None
    start = len(spec.search.seed_list)
    if seeds is not None and seeds < start:
        raise UserError(f"--seeds is {seeds}, and trials of '{name}' start with {start}. Use {start} or more.")
    _new(results, wanted)
    Inbox(results.folder.path).put({"kind": "try", "point": wanted, "seeds": seeds})
    said = ", ".join(f"{parameter} {item}" for parameter, item in wanted.items())
    whole = points.only(results.space, wanted) is not None
    return f"asked for: {said}{'' if whole else '; the rest is drawn by chance'}."


def narrow(results: Results, words: Sequence[str]) -> str:
    """Ask for a narrower space from now on, `lambda=0.1..10`; says what was asked for.

    Raises:
        UserError: it is not inside the space that the sweep began with, or nothing new.
    """
    written = narrowing.typed(words)
    space = narrowing.narrowed(results.spec.space, results.space, written)
    if space == results.space:
        raise UserError("the space is that already. 'sweeper status --json' shows what was changed.")
    waiting = [request.body["axes"] for request in Inbox(results.folder.path).waiting() if "axes" in request.body]
    if waiting[-1:] == [written]:
        raise UserError("that is asked for already, and waits for the sweep's driver.")
    Inbox(results.folder.path).put({"kind": "narrow", "axes": written})
    axes, before = space.axes, results.space.axes
    parts = [f"{label} {points.extent(axes[label])} (before: {points.extent(before[label])})" for label in written]
    return f"from the next trial on: {', '.join(parts)}."


def _values(words: Sequence[str]) -> dict[str, Any]:
    """`lambda=0.3` as YAML would read it."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals and text):
            raise UserError(f"'{word}' is no value. Write NAME=VALUE, such as lambda=0.3.")
        if name in values:
            raise UserError(f"{name} is given twice. Keep one.")
        values[name] = plain_value(text)
    return values


def _wider(results: Results, parameter: str) -> str:
    name = results.spec.name
    axes = [label for each in results.narrowings for label in each.written]
    if label := next((label for label in axes if label.partition("[")[0] == parameter), None):
        held = points.extent(results.spec.space.axes[label])
        return f"or let it have more again, up to {held}: sweeper narrow {name} {label}=..."
    return f"or begin a sweep with a wider space: sweeper clone {name} -o wider.yaml"


def _new(results: Results, wanted: Point) -> None:
    """Raises UserError where the point is, or will be, a trial without being asked for."""
    spec, name = results.spec, results.spec.name
    if any(request.body.get("point") == wanted for request in Inbox(results.folder.path).waiting()):
        raise UserError("that point is asked for already, and waits for the sweep's driver.")
    point = points.only(results.space, wanted)
    for trial in results.trials if point is not None else ():
        if dict(trial.params) == point and trial.state in (State.COMPLETE, State.RUNNING):
            more = f" More seeds for it: sweeper more {name}@{trial.number} --seeds {len(trial.seed_list) + 2}"
            raise UserError(
                f"trial {trial.number} is that point, and {trial.state}.{more * (trial.state is State.COMPLETE)}"
            )
    own = sum(not trial.by_hand for trial in results.trials)
    if SAMPLERS[spec.search.sampler].grid and own < spec.budget and point in results.space.grid():
        raise UserError("the grid has that point, and will try it by itself: sweeper resume " + name)
