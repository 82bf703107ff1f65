"""Points that a person asks for by hand: read, compared with what was tried, and left for the sweep's driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeper.errors import UserError
from sweeper.results.results import Results
from sweeper.spec.asking import points
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
        wanted = points.read(spec.space, _values(words), mending=lambda _: _wider(name))
    except Faults as error:
        raise UserError("\n".join(dict.fromkeys(fault.text for fault in error.faults))) from None
    start = len(spec.search.seed_list)
    if seeds is not None and seeds < start:
        raise UserError(f"--seeds is {seeds}, and trials of '{name}' start with {start}. Use {start} or more.")
    _new(results, wanted)
    Inbox(results.folder.path).put({"kind": "try", "point": wanted, "seeds": seeds})
    said = ", ".join(f"{parameter} {item}" for parameter, item in wanted.items())
    whole = points.only(spec.space, wanted) is not None
    return f"asked for: {said}{'' if whole else '; the rest is drawn by chance'}."


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


def _wider(name: str) -> str:
    return f"or begin a sweep with a wider space: sweeper clone {name} -o wider.yaml"


def _new(results: Results, wanted: Point) -> None:
    """Raises UserError where the point is, or will be, a trial without being asked for."""
    spec, name = results.spec, results.spec.name
    if any(request.body.get("point") == wanted for request in Inbox(results.folder.path).waiting()):
        raise UserError("that point is asked for already, and waits for the sweep's driver.")
    point = points.only(spec.space, wanted)
    for trial in results.trials if point is not None else ():
        if dict(trial.params) == point and trial.state in (State.COMPLETE, State.RUNNING):
            more = f" More seeds for it: sweeper more {name}@{trial.number} --seeds {len(trial.seed_list) + 2}"
            raise UserError(
                f"trial {trial.number} is that point, and {trial.state}.{more * (trial.state is State.COMPLETE)}"
            )
    own = sum(not trial.by_hand for trial in results.trials)
    if SAMPLERS[spec.search.sampler].grid and own < spec.budget and point in spec.space.grid():
        raise UserError("the grid has that point, and will try it by itself: sweeper resume " + name)
