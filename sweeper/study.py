"""The sweep's memory: what was proposed, what came of it. The only door to Optuna.

The study in the database is the single source of truth. Two attributes of an Optuna trial carry
what Optuna has no field for: `proposal` (params, baseline) and `outcome` (metrics, spread, ...).
"""

from __future__ import annotations

import json
import math
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper import pareto, samplers
from sweeper.errors import UserError
from sweeper.space import Choice, Dimension, Fixed
from sweeper.spec import SweepSpec
from sweeper.trial import State, Trial, mean_and_spread, with_nan, without_nan

SCHEMA = 1
_STATES = {
    TrialState.RUNNING: State.RUNNING,
    TrialState.WAITING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class NoSuchSweep(UserError):
    """The database knows no study of that name."""


@dataclass(frozen=True)
class Proposal:
    """A configuration to be tried, under its trial's number."""

    number: int
    params: Mapping[str, Any]
    baseline: str | None = None


class Study:
    """Ask, tell and look, over one Optuna study. `guard` is asked before each write and raises to forbid it."""

    def __init__(
        self,
        spec: SweepSpec,
        url: str,
        *,
        create: bool = False,
        identity: Mapping[str, Any] | None = None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self._spec = spec
        self.guard = guard
        self._signs = tuple(1.0 if sense == "max" else -1.0 for sense in spec.objectives.values())
        self._seen: dict[int, Trial] = {}
        self._points = spec.space.grid() if spec.search.sampler == "grid" else None
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
        if create:
            directions = [_DIRECTIONS[sense] for sense in spec.objectives.values()]
            self._study = optuna.create_study(storage=storage, study_name=spec.name, directions=directions)
            born = {"schema": SCHEMA, "identity": dict(identity or spec.identity()), "uuid": uuid.uuid4().hex}
            self._study.set_user_attr("sweeper", born)
        else:
            self._study = self._load(storage)

    def _load(self, storage: optuna.storages.RDBStorage) -> optuna.Study:
        try:
            study = optuna.load_study(storage=storage, study_name=self._spec.name)
        except KeyError:
            raise NoSuchSweep(
                f"no study '{self._spec.name}' in the database. 'sweeper list' shows those there are."
            ) from None
        written = study.user_attrs.get("sweeper", {}).get("schema")
        if written != SCHEMA:
            raise UserError(
                f"study '{self._spec.name}' has schema {written}; this release reads {SCHEMA}. Use the release that "
                "wrote it, or begin a sweep with a new name."
            )
        return study

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change, as it was when the study began."""
        identity: dict[str, Any] = self._study.user_attrs["sweeper"]["identity"]
        return identity

    @property
    def uuid(self) -> str:
        """Tells this sweep from any other of its name; of a study without one, made of its name and identity."""
        born = self._study.user_attrs["sweeper"]
        derived = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([self._spec.name, born["identity"]], sort_keys=True))
        return str(born.get("uuid") or derived.hex)

    # --- ask

    @property
    def budget(self) -> int:
        """How many trials the sweep may have, baselines included."""
        return self._spec.budget

    def propose(self) -> Proposal | None:
        """The next configuration, remembered before it is given; None when the budget is asked for."""
        self.guard()
        rows = self._study.get_trials(deepcopy=False)
        waiting = [row for row in rows if row.state is TrialState.WAITING]
        number = waiting[0].number if waiting else len(rows)
        if number >= self.budget:
            return None
        fixed, _ = self._fixed(number)
        if fixed is not None and not waiting:
            self._study.enqueue_trial(self._anchors(fixed))
        self._study.sampler = self._sampler(number)
        return self._fill(self._study.ask())

    def open_proposals(self) -> list[Proposal]:
        """Trials that were proposed and have come to nothing yet, for whoever resumes.

        A trial that was begun but got no parameters before a crash gets them now, from the same
        random stream as it would have had.
        """
        found = []
        for row in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "proposal" in row.user_attrs:
                found.append(_proposal(row))
            else:
                self._study.sampler = self._sampler(row.number)
                found.append(self._fill(optuna.trial.Trial(self._study, row._trial_id)))
        return found

    def _fixed(self, number: int) -> tuple[dict[str, Any] | None, str | None]:
        """The point that trial `number` must be (a baseline or a grid point), and the baseline's name."""
        baselines = self._spec.search.baselines
        if number < len(baselines):
            return self._spec.space.baseline(baselines[number]), baselines[number]
        if self._points is not None:
            return self._points[number - len(baselines)], None
        return None, None

    def _fill(self, trial: optuna.Trial) -> Proposal:
        """Draw the parameters of `trial` and write the proposal down."""
        fixed, baseline = self._fixed(trial.number)
        axes = self._spec.space.axes
        if fixed is not None:
            for name in self._anchors(fixed):
                self._draw(trial, name, axes[name])
            params = fixed
        elif self._flat:
            # These samplers model one box: every dimension is drawn, and what the method lacks is dropped.
            drawn = {
                name: self._draw(trial, name, dim) for name, dim in axes.items() if not isinstance(dim, Fixed)
            }
            params = self._spec.space.walk(lambda name, _: drawn[name])
        else:
            params = self._spec.space.walk(lambda name, dim: self._draw(trial, name, dim))
        trial.set_user_attr("proposal", {"params": params, "baseline": baseline})
        return Proposal(trial.number, params, baseline)

    def _draw(self, trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
        """One coordinate, from a random stream of its own: what a crash has left undrawn is drawn the same later."""
        place = list(self._spec.space.axes).index(name)
        self._study.sampler = self._sampler(trial.number, place)
        return samplers.draw(trial, name, dimension)

    def _anchors(self, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """What the sampler learns of a fixed point: its coordinates inside the space.

        A flat sampler needs every coordinate; one that the point lacks is put at the near edge
        (no lambda is the limit of a small lambda).
        """
        found = {}
        coordinates = self._spec.space.coordinates(fixed)
        for name, dimension in self._spec.space.axes.items():
            if isinstance(dimension, Fixed):
                continue
            if name in coordinates and dimension.contains(coordinates[name]):
                found[name] = coordinates[name]
            elif self._flat:
                found[name] = dimension.values[0] if isinstance(dimension, Choice) else dimension.low
        return found

    @property
    def _flat(self) -> bool:
        return self._spec.search.sampler in ("gp", "nsga2")

    def _sampler(self, number: int, place: int = 0) -> BaseSampler:
        return samplers.build(self._spec.search, number, place, constrained=bool(self._spec.constraints))

    # --- tell

    def complete(self, number: int, rows: Sequence[Mapping[str, float | None]]) -> Trial:
        """Tell that every seed of trial `number` is trained; `rows` holds each seed's validation metrics.

        An objective that is not a finite number makes the trial a failed one, with its reason.
        """
        metrics, spread = mean_and_spread(rows)
        values = [metrics.get(name, math.nan) for name in self._spec.objectives]
        undefined = [name for name, v in zip(self._spec.objectives, values, strict=True) if not math.isfinite(v)]
        outcome = {"metrics": without_nan(metrics), "spread": without_nan(spread), "seeds": len(rows)}
        outcome["violations"] = [
            bound.violation(metrics.get(n, math.nan)) for n, bound in self._spec.constraints.items()
        ]
        if undefined:
            reason = f"undefined: {', '.join(undefined)} is not a finite number"
            return self._tell(number, TrialState.FAIL, None, outcome | {"reason": reason})
        return self._tell(number, TrialState.COMPLETE, values, outcome)

    def fail(self, number: int, reason: str) -> Trial:
        """Tell that trial `number` came to nothing, and why."""
        return self._tell(number, TrialState.FAIL, None, {"reason": reason})

    def _tell(self, number: int, state: TrialState, values: list[float] | None, outcome: dict[str, Any]) -> Trial:
        self.guard()
        row = self._study.get_trials(deepcopy=False)[number]
        if not row.state.is_finished():
            self._study.sampler = self._sampler(number)  # it writes the constraints beside the values
            # One fact, two writes: the outcome first, so that a finished trial always has one.
            self._study._storage.set_trial_user_attr(row._trial_id, "outcome", json.loads(json.dumps(outcome)))
            self._study.tell(number, values, state=state)
        return self.trial(number)

    # --- look

    def trial(self, number: int) -> Trial:
        """Trial `number` as it stands."""
        return self._view(self._study.get_trials(deepcopy=False)[number])

    def trials(self) -> list[Trial]:
        """Every trial, by number."""
        return [self._view(row) for row in self._study.get_trials(deepcopy=False)]

    def _view(self, row: FrozenTrial) -> Trial:
        if row.number not in self._seen or not self._seen[row.number].state.finished:
            self._seen[row.number] = self._convert(row)
        return self._seen[row.number]

    def _convert(self, row: FrozenTrial) -> Trial:
        proposal, outcome = row.user_attrs.get("proposal", {}), row.user_attrs.get("outcome", {})
        values = dict(zip(self._spec.objectives, row.values or (), strict=False))
        return Trial(
            number=row.number,
            state=_STATES[row.state],
            params=proposal.get("params", {}),
            values=values,
            metrics=with_nan(outcome.get("metrics", {})),
            spread=with_nan(outcome.get("spread", {})),
            seeds=outcome.get("seeds", 0),
            feasible=all(v <= 0 for v in outcome.get("violations", ())),
            baseline=proposal.get("baseline"),
            reason=outcome.get("reason"),
            started_ms=_milliseconds(row.datetime_start) or int(time.time() * 1e3),
            ended_ms=_milliseconds(row.datetime_complete),
        )

    def look(self) -> tuple[list[Trial], list[int]]:
        """Every trial, and the numbers of the front among these very trials: one moment, one read."""
        trials = self.trials()
        return trials, front(trials, self._signs)

    def front(self) -> list[int]:
        """The numbers of the feasible complete trials that no other beats everywhere."""
        return self.look()[1]


def front(trials: Sequence[Trial], signs: Sequence[float]) -> list[int]:
    """The numbers of the trials on the Pareto front; `signs` is +1 for an objective to maximise, -1 to minimise."""
    able = [t for t in trials if t.state is State.COMPLETE and t.feasible]
    if not able:
        return []
    points_TM = np.array([list(t.values.values()) for t in able]) * np.asarray(signs)
    return [t.number for t, on in zip(able, pareto.front(points_TM), strict=True) if on]


def _proposal(row: FrozenTrial) -> Proposal:
    kept = row.user_attrs["proposal"]
    return Proposal(row.number, kept["params"], kept["baseline"])


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1e3)
