"""What a row of Optuna's says, as a trial; and whether it still says what was written.

A database notices a page that it cannot read, and no bit that changed inside a number. So each row is
sealed when it is proposed and when it ends: with a digest of all that the search and the front are made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper.spec.model import SweepSpec
from sweeper.state import database
from sweeper.trial import State, Trial
from trainables.metrics import under_both_names
from trainables.undefined import to_nan

_LATER = "later/"  # before a trial's number
_OVER, _NARROWED = "over", "narrowed"
REQUEST = "request"  # with a row that was asked for by hand: the id of the request, and its seeds
Later = dict[str, Any]
STATES = {
    TrialState.RUNNING: State.RUNNING,
    TrialState.WAITING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}


def trial(row: FrozenTrial, objectives: Sequence[str], seed_list: Sequence[int], given: Later | None = None) -> Trial:
    """The trial that `row` tells of; `objectives` names its values, `seed_list` are the seeds that it starts with.

    `given` says which seeds it has been given since it ended, and what it came to with them (`later`).

    Raises:
        ValueError: the row is not what was written.
    """
    _check(row)
    proposal, outcome = row.user_attrs.get("proposal", {}), row.user_attrs.get("outcome", {})
    seeds, state, values = outcome.get("seeds", 0), STATES[row.state], row.values or ()
    seed_list = proposal.get("seeds", seed_list)
    if given is not None:
        seed_list = given["seeds"]
        if (again := given["outcome"]) is not None:
            outcome, seeds = again, again.get("seeds", 0)
            state = State.FAILED if "reason" in again else state
            values = [again["metrics"][name] for name in objectives] if state is State.COMPLETE else ()
    return Trial(
        number=row.number,
        state=state,
        params=proposal.get("params", {}),
        values=dict(zip(objectives, values, strict=False)),
        metrics=under_both_names(to_nan(outcome.get("metrics", {}))),
        spread=under_both_names(to_nan(outcome.get("spread", {}))),
        seeds=seeds,
        seed_list=tuple(seed_list),
        further=seeds - row.user_attrs.get("outcome", {}).get("seeds", 0) if given is not None else 0,
        by_seed=[to_nan(fit) for fit in outcome.get("by_seed", ())],
        feasible=all(v <= 0 for v in outcome.get("violations", ())),
        baseline=proposal.get("baseline"),
        asked=proposal.get("asked"),
        reason=outcome.get("reason"),
        stopped=outcome.get("stopped"),
        started_ms=_milliseconds(row.datetime_start) or int(time.time() * 1e3),
        ended_ms=_milliseconds(row.datetime_complete),
    )


def params(row: FrozenTrial) -> dict[str, Any]:
    """The params that were proposed in `row`; none where it was not proposed yet."""
    found: dict[str, Any] = row.user_attrs.get("proposal", {}).get("params", {})
    return found


def proposed(
    number: int, drawn: Mapping[str, Any], params: Mapping[str, Any], baseline: str | None, **asked: Any
) -> dict[str, Any]:
    """What is stored with trial `number` when it is proposed, sealed with the coordinates that Optuna has `drawn`.

    `asked` says why it is tried and with which `seeds`, where somebody asked for it.
    """
    why = {name: value for name, value in asked.items() if value is not None}
    return sealed({"params": params, "baseline": baseline} | why, number, drawn)


def forget_study(url: str, name: str) -> None:
    """Delete the study `name`, for good. Nothing where there is none."""
    storage = optuna.storages.RDBStorage(url, engine_kwargs=database.options(url))
    with contextlib.suppress(KeyError):
        optuna.delete_study(study_name=name, storage=storage)


def extra(found: Sequence[FrozenTrial]) -> int:
    """How many of these rows were asked for by hand: they are beside the budget."""
    return sum(REQUEST in row.user_attrs for row in found)


@dataclass(frozen=True)
class Past:
    """The first rows of a study, all of which have ended: looked at once, however many trials come after them.

    Of each it holds the params, and of all how many were asked for by hand.
    """

    rows: list[FrozenTrial] = field(default_factory=list)
    params: list[dict[str, Any]] = field(default_factory=list)
    extra: int = 0

    def upto(self, found: list[FrozenTrial]) -> Past:
        """The same of all that `found`, every row of the study, begins with."""
        past = self if found[: len(self.rows)] == self.rows else Past()  # the same objects are equal at once
        new = list(itertools.takewhile(lambda row: row.state.is_finished(), found[len(past.rows) :]))
        if not new:
            return past
        return Past([*past.rows, *new], [*past.params, *map(params, new)], past.extra + extra(new))


def told(
    row: FrozenTrial, state: TrialState, values: Sequence[float] | None, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    """`outcome` as it is stored with `row` when that ends in `state` with `values`: plain JSON, sealed."""
    return sealed(outcome, *_end(row, state, values))


def _end(row: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> list[Any]:
    """What stands beside the outcome of an ended row."""
    numbers = None if values is None else [float(value) for value in values]
    return [row.number, state.name, numbers, row.params, row.user_attrs.get("proposal")]


def sealed(kept: Mapping[str, Any], *beside: Any) -> dict[str, Any]:
    """`kept` as plain JSON with its seal, which covers what stands `beside` it too."""
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain | {"seal": _digest([*beside, plain])}


def check_seal(kept: Mapping[str, Any], name: str, *beside: Any) -> None:
    """Nothing, where `kept` is as it was sealed, or was written by a release that did not seal.

    Raises:
        ValueError: it is not.
    """
    if "seal" in kept and kept["seal"] != _digest([*beside, bare(kept)]):
        raise ValueError(f"{name} is not what was written")


def bare(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Without its seal."""
    return {name: value for name, value in kept.items() if name != "seal"}


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _check(row: FrozenTrial) -> None:
    """Raises ValueError where parts of the row that were written together do not fit together."""
    proposal = row.user_attrs.get("proposal", {})
    check_seal(proposal, f"the proposal of trial {row.number}", row.number, row.params)
    if not row.state.is_finished():
        return
    outcome = row.user_attrs.get("outcome")
    if outcome is None:
        raise ValueError(f"trial {row.number} has ended without an outcome")
    check_seal(outcome, f"the outcome of trial {row.number}", *_end(row, row.state, row.values))
    if row.system_attrs.get("constraints", outcome.get("violations")) != outcome.get("violations"):
        raise ValueError(f"trial {row.number} has other violations than were told")


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1e3)


# --- after its end: Optuna lets nobody change a row that has ended, so it stands in attributes of the study


def later(study: optuna.Study) -> dict[int, Later]:
    """By trial, what it got after its end: `seeds`, all that it has then, the `outcome` with those trained, and `why`.

    Raises:
        ValueError: it is not what was written.
    """
    found = {}
    for key, kept in study.user_attrs.items():
        if key.startswith(_LATER):
            number = int(key.removeprefix(_LATER))
            check_seal(kept, f"what trial {number} got after its end", number)
            found[number] = kept
    return found


def give(study: optuna.Study, number: int, seeds: Sequence[int], outcome: Mapping[str, Any] | None, why: str) -> None:
    """Write down that trial `number` has these seeds, and what it came to with those of them that are trained."""
    body = {"seeds": list(seeds), "outcome": outcome, "why": why}
    study.set_user_attr(f"{_LATER}{number}", sealed(body, number))


def narrowings(study: optuna.Study) -> dict[str, Later]:
    """How the space was narrowed, by the id of the request, in order.

    Raises:
        ValueError: it is not what was written.
    """
    kept = study.user_attrs.get(_NARROWED, {})
    check_seal(kept, "how the space was narrowed")
    return {each["id"]: each["narrowing"] for each in kept.get("listed", ())}


def narrow(study: optuna.Study, request: str, narrowing: Mapping[str, Any]) -> None:
    """Write down one more, as `request` asks for it."""
    listed = [{"id": name, "narrowing": body} for name, body in narrowings(study).items()]
    study.set_user_attr(_NARROWED, sealed({"listed": [*listed, {"id": request, "narrowing": narrowing}]}))


def is_over(study: optuna.Study, spec: SweepSpec) -> bool:
    """Whether nothing more is to be tried, though trials or seeds were left. A larger budget opens the search again."""
    return (spec.search.open_ended or _NARROWED in study.user_attrs) and study.user_attrs.get(_OVER) == _extent(
        study, spec
    )


def close(study: optuna.Study, spec: SweepSpec) -> None:
    """Write down that nothing more is to be tried."""
    study.set_user_attr(_OVER, _extent(study, spec))


def _extent(study: optuna.Study, spec: SweepSpec) -> dict[str, Any]:
    search, budget = spec.search.model_dump(mode="json"), spec.search.budget
    extent = {"trials": spec.budget, "budget": budget and budget.bounds, "seeds": search["seeds"]}
    asked = extra(study.get_trials(deepcopy=False))
    extent |= {"asked": asked} if asked else {}
    extent |= {"narrowed": count} if (count := len(narrowings(study))) else {}
    return extent if spec.search.until is None else extent | {"until": spec.search.until}
