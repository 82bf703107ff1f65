"""The sweep's memory: what was proposed, what came of it. The only door to Optuna.

The study in the database is the single source of truth. Two attributes of an Optuna trial carry
what Optuna has no field for: `proposal` (params, baseline) and `outcome` (metrics, spread, ...).
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper.errors import UserError
from sweeper.front.front import Frontier
from sweeper.spec.asking.narrowing import Narrowing
from sweeper.spec.model import SweepSpec
from sweeper.spec.samplers import SAMPLERS
from sweeper.spec.space import Dimension, Fixed
from sweeper.state import allotment, database, migrations, rows, samplers
from sweeper.state.asking import hearing, next_point
from sweeper.state.asking.inbox import Inbox
from sweeper.state.asking.next_point import Proposal, Warm
from sweeper.trial import Trial, mean_and_spread
from trainables.undefined import to_null

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


class NoSuchSweep(UserError):
    """The database knows no study of that name."""


class Study:
    """Ask, tell and look, over one Optuna study.

    `guard` is asked before each write and raises to forbid it; `vouch` is asked at each commit, and raising
    undoes it. What lies in the `inbox` is taken up, each once.
    """

    def __init__(
        self,
        spec: SweepSpec,
        url: str,
        *,
        create: bool = False,
        identity: Mapping[str, Any] | None = None,
        guard: Callable[[], None] = lambda: None,
        vouch: Callable[[sa.Connection], None] | None = None,
        inbox: Inbox | None = None,
        warm: Warm | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._spec = spec
        self.url = url
        self.guard, self._vouch, self._inbox = guard, vouch, inbox
        self._given: set[int | tuple[int, int]] = set()  # open trials, and with so many seeds, that whoever asks knows
        self._frontier = Frontier(spec.objectives)
        self._ended: dict[int, tuple[Trial, Any]] = {}  # and what it got after its end
        self._past = rows.Past()
        self._first: tuple[list[FrozenTrial], list[Trial]] = [], []  # rows and trials of the past; none got more seeds
        self._uneven = False  # trials have different numbers of seeds
        self._flat = SAMPLERS[spec.search.sampler].flat
        self._points = next_point.grid(spec)
        if create:
            self._study = database.beginning(url, lambda: self._create(identity or spec.identity(), warm or Warm()))
            return
        with database.reading(url):  # all of it, so that what is damaged is found before anything is built on it
            database.beginning(url, lambda: database.check(url))
            self._study = database.beginning(url, self._load)
            self._read()

    def _storage(self) -> optuna.storages.RDBStorage:
        storage = optuna.storages.RDBStorage(self.url, engine_kwargs=database.options(self.url))
        if self._vouch is not None:
            sa.event.listen(storage.engine, "commit", self._vouch)
        return storage

    def _create(self, identity: Mapping[str, Any], warm: Warm) -> optuna.Study:
        directions = [_DIRECTIONS[sense] for sense in self._spec.objectives.values()]
        name, storage = self._spec.name, self._storage()
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        if study.user_attrs or study.get_trials(deepcopy=False):
            raise UserError(f"the database has a study '{name}' already. Choose another name.")
        self._signed = migrations.signature(identity) | {"trials": self._spec.budget}
        self._signed |= {"warm": asdict(warm)} if warm.notes else {}
        study.set_user_attr("sweeper", rows.sealed(self._signed))
        study.set_metric_names(list(self._spec.objectives))  # for Optuna's own tools
        return study

    def _load(self) -> optuna.Study:
        none = NoSuchSweep(f"no study '{self._spec.name}' in the database. 'sweeper list' shows those there are.")
        try:
            study = optuna.load_study(storage=self._storage(), study_name=self._spec.name)
        except KeyError:
            raise none from None
        if not (study.user_attrs or study.get_trials(deepcopy=False)):
            raise none  # whoever began it died before it was signed; it has nothing yet
        born = study.user_attrs.get("sweeper", {})
        rows.check_seal(born, f"what study '{self._spec.name}' began with")
        self._signed = migrations.migrated(self._spec.name, rows.bare(born))
        return study

    def note_identity(self, later: Mapping[str, Any]) -> None:
        """Add to the identity what it lacks, since an older release did not note it; `sign` writes it down."""
        self._signed = {**self._signed, "identity": {**later, **self._signed["identity"]}}

    def note_budget(self, trials: int) -> None:
        """Remember how many `trials` the sweep may have, baselines' included; `sign` writes it down.

        Raises:
            UserError: that is less than it had, or than it has begun.
        """
        begun = self._study.get_trials(deepcopy=False)
        had = max(self._signed.get("trials", 0), len(begun) - rows.extra(begun))
        if trials < had:
            raise UserError(f"search.trials gives {trials} trials, less than the {had} the sweep has. Give more.")
        self._signed = {**self._signed, "trials": trials}

    def sign(self) -> None:
        """Write down that the study is in today's schema, and what its values are; for whoever drives the sweep."""
        if self._study.user_attrs.get("sweeper") != (signature := rows.sealed(self._signed)):
            self.guard()
            self._study.set_user_attr("sweeper", signature)
        if self._study.metric_names is None:  # an older release began it, or a crash left it without
            self.guard()
            self._study.set_metric_names(list(self._spec.objectives))

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change, as it was when the study began."""
        identity: dict[str, Any] = self._signed["identity"]
        return identity

    @property
    def over(self) -> bool:
        """Whether the search has ended by itself: see `rows.is_over`."""
        return rows.is_over(self._study, self._spec)

    @property
    def warm(self) -> Warm:
        """What the sweep has from others since its beginning."""
        return Warm(**self._signed.get("warm", {}))

    @property
    def uuid(self) -> str:
        """Tells this sweep from any other of its name."""
        return str(self._signed["uuid"])

    # --- ask

    @property
    def budget(self) -> int:
        """How many trials the sweep may have, baselines included."""
        return self._spec.budget

    @database.patient
    def propose(self, left: float = math.inf) -> Proposal | None:
        """The next configuration, remembered before it is given; None when the budget is asked for.

        `left` is how many fits more a budget in time allows.
        """
        self.guard()
        asked = self._study.get_trials(deepcopy=False)
        self._past = past = self._past.upto(asked)
        living = asked[len(past.rows) :]
        extra = past.extra + rows.extra(living)
        for row in living:
            if row.state is TrialState.RUNNING and row.number not in self._given:
                return self._take_up(row)  # it was asked for, and the database's reply was lost
        number = next((row.number for row in living if row.state is TrialState.WAITING), len(asked))
        fixed = number < len(asked) or hearing.hear(self._study, self._spec, self._inbox, self.warm, asked)
        now = self._spec if fixed else self._current()
        exhausted = not fixed and next_point.exhausted(self._spec, now, self._points, asked)
        if self._spec.search.open_ended:
            trials = self.trials()
            if (owed := next(self._owed(trials), None)) is not None:
                return owed
        if not fixed and self._spec.search.open_ended:
            if self.over:
                return None
            step = allotment.next_step(trials, self._spec, left, exhausted=exhausted)
            if step.race is not None:
                self.give(step.race, trials[step.race].seeds + 1, "race")
                return next(self._owed(self.trials()))
            if not step.new:
                if all(trial.settled for trial in trials):
                    rows.close(self._study, self._spec)
                return None
        elif not fixed:
            if exhausted and all(trial.settled for trial in self.trials()):
                rows.close(self._study, self._spec)
            if exhausted or len(asked) - extra >= self.budget:
                return None
        if not fixed:
            self._enqueue(number, asked, now)
        self._study.sampler = self._sampler(number)
        return self._fill(self._study.ask())

    @property
    def narrowings(self) -> list[Narrowing]:
        """How the space was narrowed since the sweep began."""
        with database.reading(self.url):
            return hearing.narrowings(self._study)

    def _current(self) -> SweepSpec:
        """The spec with its space as it is now."""
        return hearing.current_spec(self._spec, self.narrowings)

    @database.patient
    def open_proposals(self) -> list[Proposal]:
        """Trials that were proposed and have come to nothing yet, for whoever resumes.

        One that got no parameters before a crash gets them now, from the same random stream as it would have had.
        """
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [*(self._take_up(row) for row in running), *self._owed(self.trials())]

    def _owed(self, trials: Sequence[Trial]) -> Iterator[Proposal]:
        """Trials that have ended and were given more seeds since, which are not all trained; each is given out once."""
        for trial in trials:
            key = trial.number, len(trial.seed_list)
            if trial.state.finished and not trial.settled and key not in self._given:
                self._given.add(key)
                yield Proposal(trial.number, trial.params, trial.seed_list, trial.baseline, told=trial.seeds)

    @database.patient
    def give(self, number: int, seeds: int, why: str) -> None:
        """Let trial `number`, which is complete, have `seeds` seeds in all; whoever asks next gets it again."""
        self.guard()
        trial = self.trials()[number]
        known = rows.later(self._study).get(number, {"outcome": None})
        if seeds > len(trial.seed_list):
            more = self._spec.search.first_seeds(seeds)
            rows.give(self._study, number, more, known["outcome"], why)

    def _take_up(self, row: FrozenTrial) -> Proposal:
        if "proposal" not in row.user_attrs:
            self._study.sampler = self._sampler(row.number)
            return self._fill(optuna.trial.Trial(self._study, row._trial_id))
        self._given.add(row.number)
        kept = row.user_attrs["proposal"]
        seeds = tuple(kept.get("seeds", self._spec.search.seed_list))
        return Proposal(row.number, kept["params"], seeds, kept["baseline"])

    def _enqueue(self, number: int, asked: Sequence[FrozenTrial], now: SweepSpec) -> None:
        """Fix trial `number` beforehand, if it is not left to the sampler; `asked` are all trials before it."""
        how = self._study, self._spec, now, self._points, self.warm
        known = [*self._past.params, *map(rows.params, asked[len(self._past.rows) :])]
        given = next_point.following(*how, number, asked, known, self.trials)
        if given.point is not None:
            # More may be told before it is taken up, so what was drawn is kept with it.
            kept = {"point": given.point} | ({} if given.asked is None else {"asked": given.asked})
            self._study.enqueue_trial(samplers.anchors(self._spec, given.point), user_attrs=kept)

    def _fill(self, trial: optuna.Trial) -> Proposal:
        """Draw the parameters of `trial` and write the proposal down."""
        given = next_point.fixed(self._spec, self._points, self.warm, trial.number)
        fixed, search = trial.user_attrs.get("point", given.point), self._spec.search
        count = trial.user_attrs.get(rows.REQUEST, {}).get("seeds")
        self._uneven = self._uneven or count is not None
        seeds = search.seed_list if count is None else search.first_seeds(count)
        why = {"asked": trial.user_attrs.get("asked"), "seeds": None if count is None else list(seeds)}
        axes, draw = self._spec.space.axes, functools.partial(self._draw, trial, {})
        if fixed is not None:
            for name in samplers.anchors(self._spec, fixed):
                draw(name, axes[name])
            params = fixed
        elif self._flat:
            # These samplers model one box: every dimension is drawn, and what the method lacks is dropped.
            drawn = {name: draw(name, dim) for name, dim in axes.items() if not isinstance(dim, Fixed)}
            params = self._spec.space.walk(lambda name, _: drawn[name])
        else:
            params = self._spec.space.walk(draw)
        trial.set_user_attr("proposal", rows.proposed(trial.number, trial.params, params, given.baseline, **why))
        hearing.heard(self._inbox, trial.user_attrs)
        self._given.add(trial.number)
        return Proposal(trial.number, params, seeds, given.baseline)

    def _draw(self, trial: optuna.Trial, shared: dict[Any, Any], name: str, dimension: Dimension) -> Any:
        """One coordinate, from a random stream of its own: what a crash has left undrawn is drawn the same later."""
        place = list(self._spec.space.axes).index(name)
        self._study.sampler = self._sampler(trial.number, place, shared)
        return samplers.draw(trial, name, dimension)

    def _sampler(self, number: int, place: int = 0, shared: dict[Any, Any] | None = None) -> BaseSampler:
        bounded = bool(self._spec.constraints)
        return samplers.build(self._spec.search, number, place, constrained=bounded, shared=shared)

    # --- tell

    def complete(self, number: int, by_seed: Sequence[Mapping[str, float | None]]) -> Trial:
        """Tell that every seed of trial `number` is trained; `by_seed` holds each seed's validation metrics.

        An objective that is not a finite number makes the trial a failed one, with its reason. A trial that has ended
        already was given more seeds: its numbers are means over all of them now.
        """
        metrics, spread = mean_and_spread(by_seed)
        values = [metrics.get(name, math.nan) for name in self._spec.objectives]
        undefined = [name for name, v in zip(self._spec.objectives, values, strict=True) if not math.isfinite(v)]
        outcome: dict[str, Any] = {"metrics": to_null(metrics), "spread": to_null(spread), "seeds": len(by_seed)}
        kept = [*self._spec.objectives, *self._spec.constraints]
        outcome["by_seed"] = [to_null({name: row.get(name, math.nan) for name in kept}) for row in by_seed]
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

    def prune(self, number: int, where: str) -> Trial:
        """Tell that trial `number` was stopped early, and where; what half-trained fits reached is not told."""
        unknown = [bound.violation(math.nan) for bound in self._spec.constraints.values()]
        return self._tell(number, TrialState.PRUNED, None, {"stopped": where, "violations": unknown})

    @database.patient
    def _tell(self, number: int, state: TrialState, values: list[float] | None, outcome: dict[str, Any]) -> Trial:
        self.guard()
        storage = self._study._storage
        row = storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))
        later = rows.later(self._study)
        if number in later:
            rows.give(self._study, number, later[number]["seeds"], outcome, later[number]["why"])
        elif not row.state.is_finished():
            self._study.sampler = self._sampler(number)  # it writes the constraints beside the values
            # One fact, two writes: the outcome first, so that a finished trial always has one.
            kept = rows.told(row, state, values, outcome)
            storage.set_trial_user_attr(row._trial_id, "outcome", kept)
            row = self._study.tell(number, values, state=state)
        with database.reading(self.url):
            if not (later or self._uneven):  # then no other trial has a part in what this one's values are
                return self._view(row, None)
            return next(trial for trial in self._read() if trial.number == number)

    # --- look

    @property
    def objectives(self) -> Mapping[str, str]:
        """What the sweep asks for: `max` or `min` by metric."""
        return self._spec.objectives

    def trials(self) -> list[Trial]:
        """Every trial, by number; one that is just being proposed is none yet, for it has no params."""
        with database.reading(self.url):
            return self._read()

    @database.patient
    def _read(self) -> list[Trial]:
        found, later = self._study.get_trials(deepcopy=False), rows.later(self._study)
        (known, first), past = self._first, self._past.upto(found)
        if later or found[: len(known)] != known:
            known, first = [], []
        if [row.number for row in found[len(known) :]] != list(range(len(known), len(found))):
            raise ValueError("rows of trials are missing")
        ended, begun = (
            [self._view(row, later.get(row.number)) for row in some if "proposal" in row.user_attrs]
            for some in (found[len(known) : len(past.rows)], found[len(past.rows) :])
        )
        trials, self._past = [*first, *ended, *begun], past
        self._uneven = any(trial.seed_list != self._spec.search.seed_list for trial in trials[len(first) :])
        self._first = ([], []) if later or self._uneven else (past.rows, [*first, *ended])
        return allotment.comparable(trials, self._spec) if self._uneven else trials

    def _view(self, row: FrozenTrial, later: dict[str, Any] | None) -> Trial:
        """The trial of a row, and of what it got `later`; one that has ended is understood once."""
        known = self._ended.get(row.number)
        if known is not None and known[1] == later:
            return known[0]
        trial = rows.trial(row, list(self._spec.objectives), self._spec.search.seed_list, later)
        if trial.state.finished:
            self._ended[row.number] = trial, later
        return trial

    def look(self) -> tuple[list[Trial], list[int]]:
        """Every trial, and the numbers of the front among these very trials: one moment, one read."""
        trials = self.trials()
        return trials, self._frontier.of(trials)

    def front(self) -> list[int]:
        """The numbers of the feasible complete trials that no other beats everywhere."""
        return self.look()[1]
