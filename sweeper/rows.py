"""What a row of Optuna's says, as a trial; and whether it still says what was written.

A database notices a page that it cannot read, and no bit that changed inside a number. So each row is
sealed when it is proposed and when it ends: with a digest of all that the search and the front are made from.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sweeper.trial import State, Trial, with_nan

STATES = {
    TrialState.RUNNING: State.RUNNING,
    TrialState.WAITING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}


def trial(row: FrozenTrial, objectives: Sequence[str]) -> Trial:
    """The trial that `row` tells of; `objectives` names its values.

    Raises:
        ValueError: the row is not what was written.
    """
    _check(row)
    proposal, outcome = row.user_attrs.get("proposal", {}), row.user_attrs.get("outcome", {})
    return Trial(
        number=row.number,
        state=STATES[row.state],
        params=proposal.get("params", {}),
        values=dict(zip(objectives, row.values or (), strict=False)),
        metrics=with_nan(outcome.get("metrics", {})),
        spread=with_nan(outcome.get("spread", {})),
        seeds=outcome.get("seeds", 0),
        feasible=all(v <= 0 for v in outcome.get("violations", ())),
        baseline=proposal.get("baseline"),
        reason=outcome.get("reason"),
        started_ms=_milliseconds(row.datetime_start) or int(time.time() * 1e3),
        ended_ms=_milliseconds(row.datetime_complete),
    )


def proposed(number: int, drawn: Mapping[str, Any], params: Mapping[str, Any], baseline: str | None) -> dict[str, Any]:
    """What is stored with trial `number` when it is proposed, sealed with the coordinates that Optuna has `drawn`."""
    plain: dict[str, Any] = json.loads(json.dumps({"params": params, "baseline": baseline}))
    return plain | {"seal": _digest([number, drawn, plain])}


def told(
    row: FrozenTrial, state: TrialState, values: Sequence[float] | None, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    """`outcome` as it is stored with `row` when that ends in `state` with `values`: plain JSON, sealed."""
    plain: dict[str, Any] = json.loads(json.dumps(outcome))
    return plain | {"seal": _seal(row, state, values, plain)}


def _seal(row: FrozenTrial, state: TrialState, values: Sequence[float] | None, outcome: Mapping[str, Any]) -> str:
    numbers = None if values is None else [float(value) for value in values]
    return _digest([row.number, state.name, numbers, row.params, row.user_attrs.get("proposal"), _bare(outcome)])


def _bare(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kept.items() if name != "seal"}


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _check(row: FrozenTrial) -> None:
    """Raises ValueError where parts of the row that were written together do not fit together."""
    proposal = row.user_attrs.get("proposal", {})
    if "seal" in proposal and proposal["seal"] != _digest([row.number, row.params, _bare(proposal)]):
        raise ValueError(f"trial {row.number} is not what was proposed")
    if not row.state.is_finished():
        return
    outcome = row.user_attrs.get("outcome")
    if outcome is None:
        raise ValueError(f"trial {row.number} has ended without an outcome")
    if "seal" in outcome and outcome["seal"] != _seal(row, row.state, row.values, outcome):
        raise ValueError(f"trial {row.number} is not what was told")
    if row.system_attrs.get("constraints", outcome.get("violations")) != outcome.get("violations"):
        raise ValueError(f"trial {row.number} has other violations than were told")


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1e3)
