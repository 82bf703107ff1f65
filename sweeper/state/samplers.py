"""Optuna's samplers, seeded so that proposal n is the same whoever asks for it, and how a dimension is drawn."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper.spec.model import SweepSpec
from sweeper.spec.samplers import SAMPLERS
from sweeper.spec.search import Search
from sweeper.spec.space import Choice, Dimension, Fixed, Point, Range
from sweeper.trial import Trial
from trainables.arrays import Floats

REDRAWINGS = 64
INSISTING = 4  # so often a sampler may repeat itself before chance decides: it can be sure of one method


@dataclass(frozen=True)
class Streams:
    """What a line of SAMPLERS makes its Optuna sampler of, beside the spec's `search`.

    `own` is the seed of one coordinate of one trial, `joint` that of all its coordinates: for samplers that draw them
    together, whose stream must not depend on the place. The first `startup` trials are drawn by chance, beside those of
    tuned baselines, which say little of the rest of the space. `violations` are Optuna's constraints of a trial, if the
    sweep has any. In `shared` a sampler keeps what all coordinates and drawings of one proposal have in common.
    """

    joint: int
    own: int
    startup: int
    violations: Callable[[FrozenTrial], Sequence[float]] | None
    shared: dict[Any, Any] = field(default_factory=dict)


def build(
    search: Search, number: int, place: int, *again: int, constrained: bool, shared: dict[Any, Any] | None = None
) -> BaseSampler:
    """A sampler for coordinate `place` of one proposal: sweep's seed, trial's number and place decide its stream.

    What it has learned it reads from the study, so one that is built after a crash goes on exactly.
    `again` gives another stream of the same place, `shared` is one for all samplers of a proposal.
    """
    streams = Streams(
        joint=_seed(search.seed, number),
        own=_seed(search.seed, number, place + 1, *again),
        startup=_startup(search) + len(search.baseline_list) - len(search.baselines),
        violations=_violations if constrained else None,
        shared={} if shared is None else shared,
    )
    sampler: BaseSampler = SAMPLERS[search.sampler].load()(search, streams)
    return sampler


def _startup(search: Search) -> int:
    """How many trials are drawn before anything is learned."""
    return max(4, min(10, search.trials // 4))


def tpe(search: Search, streams: Streams) -> BaseSampler:
    """Each coordinate by itself."""
    return _SharedTPE(streams)


class _SharedTPE(TPESampler):
    """Optuna's TPE of one coordinate, which shares what it reads and models with others of the same proposal.

    Optuna's own reads and sorts all trials, and fits its densities to them, at each coordinate and each drawing.
    """

    def __init__(self, streams: Streams) -> None:
        super().__init__(
            seed=streams.own, n_startup_trials=streams.startup, constraints_func=streams.violations, constant_liar=True
        )
        self._shared = streams.shared

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if "split" not in self._shared:
            self._shared["split"] = self._split(study, trial)
        below, above = self._shared["split"]
        key = tuple(search_space.items())
        if key not in self._shared:
            self._shared[key] = (
                self._build_parzen_estimator(study, search_space, below, handle_below=True),
                self._build_parzen_estimator(study, search_space, above, handle_below=False),
                dict[float, float](),
            )
        good, bad, known = self._shared[key]
        ((name, axis),) = search_space.items()
        samples = good.sample(self._rng.rng, self._n_ei_candidates)
        drawn = samples[name].tolist()
        if new := [value for value in dict.fromkeys(drawn) if value not in known]:
            known.update(zip(new, self._compute_acquisition_func({name: np.array(new)}, good, bad), strict=True))
        best = self._compare(samples, np.array([known[value] for value in drawn]))
        return {name: axis.to_external_repr(best[name])}

    def _split(self, study: optuna.Study, trial: FrozenTrial) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """The trials that ended well, and the others; those that run, too."""
        states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]
        others = [row for row in study.get_trials(deepcopy=False, states=states) if row.number != trial.number]
        ended = sum(row.state is not TrialState.RUNNING for row in others)
        gamma = default_gamma if len(study.directions) == 1 else default_gamma_multiobjective
        return _split_trials(study, others, gamma(ended))


def gp(search: Search, streams: Streams) -> BaseSampler:
    """All coordinates together; what it cannot model, by chance."""
    return GPSampler(
        seed=streams.joint,
        independent_sampler=RandomSampler(streams.own),
        n_startup_trials=streams.startup,
        constraints_func=streams.violations,
    )


def nsga2(search: Search, streams: Streams) -> BaseSampler:
    """All coordinates together, from two parents."""
    return NSGAIISampler(seed=streams.joint, population_size=search.population, constraints_func=streams.violations)


def uniform(search: Search, streams: Streams) -> BaseSampler:
    """Each coordinate by itself, by chance."""
    return RandomSampler(seed=streams.own)


def _seed(*what: int) -> int:
    return int(np.random.SeedSequence(what).generate_state(1)[0])


def draw(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """One coordinate, both ends of a range included."""
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, list(dimension.values))
    assert isinstance(dimension, Range)  # what is fixed is not drawn
    if dimension.integer:
        return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(list(dimension.values))
    assert isinstance(dimension, Range)  # what is fixed is not drawn
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def unrepeated(study: optuna.Study, spec: SweepSpec, number: int, tried: Iterable[Mapping[str, Any]]) -> Point | None:
    """Proposal `number`, drawn again while it is among those `tried`; None where chance repeats nothing.

    A method with nothing to search, or with a few ranks, is otherwise proposed again and again. Whoever asks
    finds the same point: each drawing has a stream of its own.
    """
    if not SAMPLERS[spec.search.sampler].repeats or not any(map(spec.space.countable, spec.space.methods)):
        return None
    known = list(tried)
    return next((point for point in _drawings(study, spec, number) if point not in known), None)


def tuned(spec: SweepSpec, name: str, number: int, rows: Sequence[FrozenTrial]) -> Point:
    """Trial `number`, of baseline `name`, whose own trials so far are `rows`, in their order; there is one at least.

    It is what the sampler would propose in a sweep of that method alone, which knows of these trials and no others.
    """
    own = spec.model_copy(update={"space": spec.space.alone(name), "search": spec.search.of_baseline(name)})
    memory = _memory(own)
    for place, row in enumerate(rows):
        memory.add_trial(_alone(row, own, place))
    return _untried(memory, own, number, [row.user_attrs["proposal"]["params"] for row in rows])


def informed(spec: SweepSpec, number: int, trials: Sequence[Trial], points_TM: Floats) -> Point:
    """Proposal `number` by a sampler that takes `points_TM` for what each of `trials` came to; nan where unknown.

    The first proposals are spread over the space instead: Sobol's points, scrambled by the sweep's seed. What is under
    way is told too, so that nobody proposes it once more. Trials with a number below 0 are of other sweeps.
    """
    search, first = spec.search, len(spec.search.baseline_list)
    known = [dict(trial.params) for trial in trials if trial.number >= 0]
    others = len(trials) - len(known)
    if number - first + others < _startup(search):
        spread = (_spread(spec, number - first + turn * _TURN) for turn in range(REDRAWINGS))
        point = next((point for point in spread if point not in known), None)
        if point is not None:
            return point
    memory = _memory(spec)
    population, given = getattr(search, "population", None), sum(0 <= trial.number < first for trial in trials)
    for place, (trial, values_M) in enumerate(zip(trials, points_TM, strict=True)):
        state = TrialState.FAIL if trial.reason else TrialState.PRUNED if trial.stopped else TrialState.RUNNING
        told = bool(np.isfinite(values_M).all())
        axes, params = spec.space.axes, anchors(spec, trial.params)
        system: dict[str, Any] = {} if trial.feasible else {"constraints": [1.0]}
        if spec.constraints and trial.feasible and (told or trial.stopped):
            system = {"constraints": [0.0]}
        if population is not None and not 0 <= trial.number < first:
            system[NSGAIISampler._get_generation_key()] = (place - given) // population
        memory.add_trial(
            create_trial(
                state=TrialState.COMPLETE if told else state,
                values=values_M.tolist() if told else None,
                params=params,
                distributions={name: _distribution(axes[name]) for name in params},
                system_attrs=system,
            )
        )
    return _untried(memory, spec, number, known)


def _untried(study: optuna.Study, spec: SweepSpec, number: int, known: Sequence[Point]) -> Point:
    """Proposal `number`, drawn until it is none of those `known`; the first drawing where all are."""
    together = [_together(study, spec, number)] if SAMPLERS[spec.search.sampler].flat else []
    drawings = itertools.chain(together, _drawings(study, spec, number))
    first = next(drawings)
    return next((point for point in itertools.chain([first], drawings) if point not in known), first)


_TURN = 1 << 12  # points that are passed over to look for another one


def _spread(spec: SweepSpec, index: int) -> Point:
    """Point `index` of a sequence that is spread evenly over the space. Source: Sobol 1967; Owen 1998."""
    places = [label for label, axis in spec.space.axes.items() if not isinstance(axis, Fixed)]
    if not places:
        return spec.space.walk(lambda label, axis: None)
    from scipy.stats import qmc  # a third of a second, which whoever only looks need not wait for

    sequence = qmc.Sobol(len(places), scramble=True, rng=np.random.default_rng(_seed(spec.search.seed, 0)))
    if index:
        sequence.fast_forward(index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that one point is no power of two
        shares = dict(zip(places, sequence.random(1)[0].tolist(), strict=True))

    def at(label: str, axis: Dimension) -> Any:
        if isinstance(axis, Choice):
            return axis.values[min(len(axis.values) - 1, int(shares[label] * len(axis.values)))]
        assert isinstance(axis, Range)  # what is fixed is not drawn
        return axis.at(shares[label])

    return spec.space.walk(at)


def anchors(spec: SweepSpec, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What the sampler learns of a fixed point: its coordinates inside the space.

    A flat sampler needs all; one that the point lacks is put at the near edge (no lambda: a small one's limit).
    """
    found = {}
    coordinates = spec.space.coordinates(fixed)
    for name, dimension in spec.space.axes.items():
        if isinstance(dimension, Fixed):
            continue
        if name in coordinates and dimension.contains(coordinates[name]):
            found[name] = coordinates[name]
        elif SAMPLERS[spec.search.sampler].flat:
            found[name] = dimension.values[0] if isinstance(dimension, Choice) else dimension.low
    return found


def _memory(spec: SweepSpec) -> optuna.Study:
    """A study that is asked and forgotten."""
    return optuna.create_study(directions=["maximize" if s == "max" else "minimize" for s in spec.objectives.values()])


def _alone(row: FrozenTrial, own: SweepSpec, place: int) -> FrozenTrial:
    """A trial of a baseline as a sweep of that method alone, `own`, has it as its trial `place`."""
    axes = {name: axis for name, axis in own.space.axes.items() if not isinstance(axis, Fixed)}
    kept = {key: value for key, value in row.system_attrs.items() if key == "constraints"}
    population = getattr(own.search, "population", None)
    if population is not None and place > 0:  # the first is given, and of no generation
        kept[NSGAIISampler._get_generation_key()] = (place - 1) // population
    return create_trial(
        state=row.state,
        values=row.values,
        params={name: row.user_attrs["proposal"]["params"][name] for name in axes},
        distributions={name: _distribution(axis) for name, axis in axes.items()},
        user_attrs=row.user_attrs,
        system_attrs=kept,
    )


def _together(study: optuna.Study, spec: SweepSpec, number: int) -> Point:
    """Proposal `number` of a sampler that models one box."""
    places = list(spec.space.axes)

    def sampler(place: int) -> BaseSampler:
        return build(spec.search, number, place, constrained=bool(spec.constraints))

    study.sampler = sampler(0)
    trial = study.ask()

    def drawn(label: str, axis: Dimension) -> Any:
        study.sampler = sampler(places.index(label))
        return draw(trial, label, axis)

    return spec.space.walk(drawn)


def _drawings(study: optuna.Study, spec: SweepSpec, number: int) -> Iterator[Point]:
    """Proposal `number`, drawn again and again, each time from a stream of its own."""
    search, places, row = spec.search, list(spec.space.axes), create_trial(state=TrialState.RUNNING)
    row.number, shared = number, dict[Any, Any]()

    def point(drawing: int) -> Point:
        again = (drawing,) if drawing else ()

        def drawn(label: str, axis: Dimension) -> Any:
            place = places.index(label)
            if drawing < INSISTING:
                sampler = build(search, number, place, *again, constrained=bool(spec.constraints), shared=shared)
            else:
                sampler = RandomSampler(_seed(search.seed, number, place + 1, *again))
            return sampler.sample_independent(study, row, label, _distribution(axis))

        return spec.space.walk(drawn)

    return map(point, range(REDRAWINGS))


def _violations(row: FrozenTrial) -> Sequence[float]:
    """Optuna's constraints: not above 0 is feasible. A trial without an outcome counts as violating."""
    return [float(v) for v in row.user_attrs.get("outcome", {}).get("violations", [1.0])]
