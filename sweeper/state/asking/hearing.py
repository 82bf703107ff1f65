"""The study takes up what is asked for by hand: a point becomes its next trial, a narrower space is written down."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from sweeper.errors import UserError
from sweeper.spec.asking.narrowing import Narrowing, narrowed
from sweeper.spec.asking.points import extent
from sweeper.spec.model import SweepSpec
from sweeper.state import rows, samplers
from sweeper.state.asking import next_point
from sweeper.state.asking.inbox import Inbox, Request
from sweeper.state.asking.next_point import Warm
from sweeper.trial import BY_HAND

log = logging.getLogger(__name__)


def hear(study: optuna.Study, spec: SweepSpec, inbox: Inbox | None, warm: Warm, asked: Sequence[FrozenTrial]) -> bool:
    """Take up requests, the oldest first, until one has become the next trial; whether one has.

    None is before baselines and the points that are tried first are begun: those are known by their numbers.

    What was asked for, narrowings included, says which request it is, so that whoever finds the file again knows that
    it was taken up. That of a point stays until its trial is proposed (`heard`): it is nothing that is shown before.
    `asked` are the rows of all trials.
    """
    first = len(spec.search.baseline_list) + len(next_point.first_of_all(spec, warm))
    if inbox is None or len(asked) < min(first, spec.budget):
        return False
    requests = inbox.waiting()
    if not requests:
        return False
    known = {row.user_attrs[rows.REQUEST]["id"] for row in asked if rows.REQUEST in row.user_attrs}
    for request in requests:
        point = None
        if request.body.get("kind") == "narrow":
            _narrow(study, spec, request, len(asked))
        elif request.id not in known:
            point = next_point.by_hand(spec, len(asked), request, list(map(rows.params, asked)))
        if point is not None:
            kept = {"point": point, "asked": BY_HAND}
            kept[rows.REQUEST] = {"id": request.id, "ms": request.ms, "seeds": request.body["seeds"]}
            study.enqueue_trial(samplers.anchors(spec, point), user_attrs=kept)
            return True
        inbox.drop(request)
    return False


def heard(inbox: Inbox | None, row: Mapping[str, Any]) -> None:
    """The trial with these attributes is proposed: if a request asked for it, that has been done."""
    if inbox is not None and rows.REQUEST in row:
        for request in inbox.waiting():
            if request.id == row[rows.REQUEST]["id"]:
                inbox.drop(request)


def _narrow(study: optuna.Study, spec: SweepSpec, request: Request, number: int) -> None:
    kept = rows.narrowings(study)
    if request.id in kept:
        return
    current = current_spec(spec, [Narrowing(**body) for body in kept.values()])
    try:
        written = dict(request.body["axes"])
        if narrowed(spec.space, current.space, written) == current.space:  # two people asked for the same
            return
        held = {label: extent(current.space.axes[label]) for label in written}
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as fault:
        log.warning("%s asks for what cannot be, and is dropped: %s", request.path, fault)
        return
    rows.narrow(study, request.id, Narrowing(number, request.ms, written, held).to_json())


def narrowings(study: optuna.Study) -> list[Narrowing]:
    """How the space was narrowed since the sweep began, in the order in which that was taken up.

    Raises:
        ValueError: it is not what was written.
    """
    return [Narrowing(**body) for body in rows.narrowings(study).values()]


def current_spec(spec: SweepSpec, listed: Sequence[Narrowing]) -> SweepSpec:
    """The spec with its space as it is now."""
    space = spec.space
    for narrowing in listed:
        space = narrowed(spec.space, space, narrowing.written)
    return spec if not listed else spec.model_copy(update={"space": space})
