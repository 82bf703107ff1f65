"""SweepSpec: the question as written, frozen, and what its sections say against each other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from sweeper.spec import samplers
from sweeper.spec.asking.points import faults_of
from sweeper.spec.dimensions import Fixed, Range, most, no_points, place
from sweeper.spec.faults import Fault, Faults, dotted
from sweeper.spec.samplers import SAMPLERS
from sweeper.spec.search import SWEEP, Search, Stopping
from sweeper.spec.sections import Bound, MetricName, Notify, Part, Resources, Storage, true_directions
from sweeper.spec.space import Space
from trainables.backbones import BACKBONES, BackboneConfig
from trainables.data import DATASETS, DataConfig
from trainables.data.base import KINDS, OVERLAPPING
from trainables.errors import hint, nearest
from trainables.methods import METHODS
from trainables.metrics import ALIASES
from trainables.options import says
from trainables.table import Table
from trainables.task import MetricsConfig, Task, TrainConfig

NAME = SWEEP
_NAME_RULE = "Use 1 to 63 of a-z, 0-9, '.', '_', '-', the first a letter or a digit."
_OBJECTIVES: dict[str, Literal["min", "max"]] = {"accuracy": "max", "delta_f1": "min"}


def _a_text(value: object) -> object:
    if isinstance(value, int | float):  # as YAML reads 2024, 1e3 and true
        raise ValueError("YAML reads that as a number or a truth value: put the name in quotes")
    return value


class SweepSpec(Part):
    """One question: which settings of a fine-tuning give the best of all objectives at once?"""

    name: Annotated[
        str,
        Field(pattern=NAME, description="the sweep's name, unique in its storage"),
        says(_NAME_RULE),
        BeforeValidator(_a_text),
    ]
    data: Annotated[
        DataConfig, Field(default_factory=DataConfig, description="the dataset, and what happens to bad records")
    ]
    backbone: Annotated[
        BackboneConfig, Field(default_factory=BackboneConfig, description="the pre-trained model that is adapted")
    ]
    groups: Annotated[
        str,
        Field(
            description="whose losses the penalty compares: class, attribute (its values), cell (of both), the name of "
            "one of several attributes, or overlapping (the groups of data.columns.groups)"
        ),
    ] = "class"
    space: Annotated[
        Space,
        PlainValidator(Space.parse),
        PlainSerializer(Space.plain),
        WithJsonSchema({}),
        Field(
            default_factory=lambda: Space.of({}),
            description="parameters: a value is fixed, a list is a choice, {low, high, log} is a range",
        ),
    ]
    objectives: Annotated[
        dict[MetricName, Literal["min", "max"]],
        Field(min_length=1, max_length=4, description="metrics of the validation split, and which way is better"),
        AfterValidator(true_directions),
    ] = _OBJECTIVES
    constraints: Annotated[
        dict[MetricName, Bound],
        Field(default_factory=dict, description="what a member of the front must keep, e.g. accuracy: '>= 0.8'"),
    ]
    search: Annotated[Search, Field(description="who proposes, how many trials, how many seeds")] = Search()
    train: Annotated[TrainConfig, Field(description="how every fit is trained")] = TrainConfig()
    metrics: Annotated[MetricsConfig, Field(description="how every fit is measured")] = MetricsConfig()
    resources: Annotated[Resources, Field(description="what one fit gets")] = Resources()
    notify: Annotated[Notify | None, Field(description="who is told when the sweep has finished, paused or failed")] = (
        None
    )
    storage: Annotated[Storage, Field(description="where the sweep's folder, memory and record are")] = Storage()

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, written: object) -> object:
        """With the sampler that `auto` stands for: a sweep that was kept goes on with it, whatever is learned later."""
        search = written.get("search") if isinstance(written, dict) else None
        if not isinstance(written, dict) or not isinstance(search, dict) or search.get("sampler") != "auto":
            return written
        name, why = "tpe", None
        with contextlib.suppress(ValueError):  # told when the sections are read
            space, known = Space.parse(written.get("space") or {}), Search.model_validate(search | {"sampler": name})
            at_once, pack = ((written.get("resources") or {}).get(name) for name in ("max_concurrent", "pack"))
            name, why = samplers.chosen(
                trials=known.likely - len(known.baseline_list),
                points=space.size(),
                axes=sum(not isinstance(axis, Fixed) for axis in space.axes.values()),
                seeds=len(known.most_seeds),
                at_once=at_once * (pack if isinstance(pack, int) else 1) if isinstance(at_once, int) else None,
            )
        return written | {"search": search | {"sampler": name, "auto": why}}

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> SweepSpec:
        faults = contradictions(self, skip=(info.context or {}).get("skip", ()))
        if faults:
            raise Faults(faults)
        return self

    def task(self) -> Task:
        """What all fits of the sweep share."""
        return Task(data=self.data, backbone=self.backbone, groups=self.groups, train=self.train, metrics=self.metrics)

    @property
    def reference(self) -> dict[str, float]:
        """The hypervolume's reference point: `search.reference`, else 0 where more is better, 1 where less is.

        Those are the worst values of metrics that are shares. A point whose unbounded metric (a loss) is
        above 1 adds nothing to the hypervolume, unless the spec gives a reference.
        """
        worst = {name: 0.0 if sense == "max" else 1.0 for name, sense in self.objectives.items()}
        return {name: (self.search.reference or {}).get(name, value) for name, value in worst.items()}

    @property
    def budget(self) -> int:
        """How many trials the sweep may have, baselines included; of a grid at most all its points."""
        size = self.space.size() if SAMPLERS[self.search.sampler].grid else None
        return self.search.trials if size is None else min(self.search.trials, size + len(self.search.baseline_list))

    def identity(self) -> dict[str, Any]:
        """What makes trials comparable, as plain JSON: all but resources, storage, budget, stop rule, ..."""
        values = self.model_dump(mode="json", exclude={"name", "resources", "notify", "storage"})
        values["objectives"] = [f"{name}: {sense}" for name, sense in self.objectives.items()]  # their order counts
        return values | comparable(self)


def comparable(spec: SweepSpec) -> dict[str, Any]:
    """What of data, backbone and search makes trials comparable."""
    free = ("auto", "trials", "budget", "until", "max_failures", "max_failed_share", "reference", "stopping")
    # The split's hash says whether it is the same data, wherever it lies.
    places = {"root", *(option.name for option in DATASETS[spec.data.name].options if option.where)}
    return {
        "data": spec.data.model_dump(mode="json", exclude=places),
        "backbone": spec.backbone.model_dump(mode="json"),
        "search": spec.search.model_dump(mode="json", exclude=set(free)),
    }


def contradictions(spec: SweepSpec, skip: Collection[str] = ()) -> list[Fault]:
    """Every slip that `CHECKS` finds, but for checks that read a section in `skip`."""
    checks = (check for sections, check in CHECKS if not set(sections) & set(skip))
    return [fault for check in checks for fault in check(spec)]


def _name(section: str, name: str, table: Table[Any]) -> Iterator[Fault]:
    if name not in table:
        yield Fault((section, "name"), f"{section}.name is '{name}'. {table.hint(name)}")


def _kinds(data: DataConfig) -> tuple[str, ...]:
    """What groups may be called, as far as it is known without a look at the data."""
    named, overlapping = data.named or (), _overlapping_names(data)
    return (*KINDS, *(name for name in named if name not in overlapping), *((OVERLAPPING,) if overlapping else ()))


def _overlapping_names(data: DataConfig) -> tuple[str, ...]:
    return getattr(getattr(data, "columns", None), "groups", None) or ()


def _slip(spec: SweepSpec) -> Iterator[Fault]:
    """A kind misspelt: told even where the data section is bad, so that nobody knows what else there is."""
    known = _kinds(spec.data)
    if spec.groups not in known and (close := nearest(spec.groups, known, 0.8)):
        *others, last = (f"'{kind}'" for kind in known)
        text = f"groups is '{spec.groups}'. Did you mean '{close}'? Use {', '.join(others)} or {last}."
        yield Fault(("groups",), text)


def _groups(spec: SweepSpec) -> Iterator[Fault]:
    name, named, known = spec.data.name, spec.data.named, _kinds(spec.data)
    if named is not None and spec.groups not in known and not nearest(spec.groups, known, 0.8):
        text = f"Use one of: {', '.join(known)}."
        if spec.groups in named:
            text = f"It is one of several that may overlap: use '{OVERLAPPING}', for all of them."
        elif spec.groups == OVERLAPPING:
            text = "None are named that may overlap: name their 0/1 columns in data.columns.groups."
        elif spec.groups == getattr(getattr(spec.data, "columns", None), "attribute", None):
            text = "It is the only attribute: use 'attribute'."
        yield Fault(("groups",), f"groups is '{spec.groups}'. {text}")
    elif spec.groups != "class" and name in DATASETS and not DATASETS[name].attribute:
        having = ", ".join(other for other, entry in DATASETS.items() if entry.attribute)
        text = f"groups is '{spec.groups}', and {name} has no attribute. Use 'class', or data with one: {having}."
        yield Fault(("groups",), text)


def _sides(spec: SweepSpec) -> Iterator[Fault]:
    """METRIC/ATTRIBUTE of an attribute that the data does not name."""
    named = spec.data.named
    known = (*(named or ()), *((OVERLAPPING,) if _overlapping_names(spec.data) else ()))
    for section in ("objectives", "constraints") if named is not None else ():
        for name in getattr(spec, section):
            metric, slash, side = name.partition("/")
            if slash and side not in known:
                text = f"{section}.{name}: the data names no attribute '{side}'. "
                if known:
                    text += hint(side, known)
                else:
                    text += f"Of its only attribute, if it has one, use {metric}."
                yield Fault((section, name), text)


def _overlapping(spec: SweepSpec) -> Iterator[Fault]:
    """Some methods draw batches by their groups, or weigh examples by them: each example must be in one."""
    if spec.groups != OVERLAPPING:
        return
    listed = dict.fromkeys((*spec.space.methods, *spec.search.baseline_list))
    wrong = [method for method in listed if method in METHODS and not METHODS[method].overlapping]
    can = ", ".join(name for name, method in METHODS.sound.items() if method.overlapping)
    if wrong:
        need = f"{', '.join(wrong)} need{'s' * (len(wrong) == 1)} groups that do not overlap"
        text = f"groups is '{OVERLAPPING}', and {need}."
        yield Fault(("groups",), f"{text} Use other groups, or one of: {can}.")
    if spec.train.sampler == "group-balanced":
        text = f"train.sampler is 'group-balanced', and groups is '{OVERLAPPING}'. Use 'shuffle', or other groups."
        yield Fault(("train", "sampler"), text)


def _repeated(spec: SweepSpec) -> Iterator[Fault]:
    given = spec.search.seeds if isinstance(spec.search.seeds, tuple) else ()
    for key, values in (("seeds", given), ("baselines", tuple(spec.search.baselines))):
        for index, value in enumerate(values):
            if value in values[:index]:
                text = f"search.{key}[{index}] is {value!r}, which the list already has. Keep one."
                yield Fault(("search", key, index), text)


def _budget(spec: SweepSpec) -> Iterator[Fault]:
    search, first = spec.search, len(spec.search.baseline_list)
    if first > search.trials:
        having = f"there are {first} baselines"
        if first > len(search.baselines):
            having = f"the baselines have {first}"
        yield Fault(("search", "trials"), f"search.trials is {search.trials}, and {having}. Use more trials.")


def _asked_for(spec: SweepSpec) -> Iterator[Fault]:
    search, first = spec.search, len(spec.search.baseline_list)
    yield from faults_of(spec.space, search.points, grid=SAMPLERS[search.sampler].grid)
    if first <= search.trials < first + len(search.points):
        text = f"search.trials is {search.trials}: not enough for {first} of baselines and {len(search.points)} of "
        yield Fault(("search", "trials"), f"{text}search.points. Use trials: {first + len(search.points)}, or more.")


def _warm(spec: SweepSpec) -> Iterator[Fault]:
    path, names = ("search", "warm_start"), spec.search.warm_start
    if names and spec.search.sampler in ("grid", "random"):
        text = f"search.warm_start is given, and sampler {spec.search.sampler} learns from nothing."
        yield Fault(path, f"{text} Use tpe, gp or nsga2, or leave it out.")
    for index, name in enumerate(names):
        if name == spec.name or name in names[:index]:
            text = "this very sweep" if name == spec.name else "listed before"
            yield Fault((*path, index), f"search.warm_start[{index}] is '{name}', {text}. Leave it out.")


def _population(spec: SweepSpec) -> Iterator[Fault]:
    population, trials = getattr(spec.search, "population", None), spec.search.trials
    path = ("search", "population")
    if population is not None and population >= trials:
        text = f"search.population is {population}, not below the budget of {trials} trials: all would be random."
        smaller = f"a population of at most {max(2, trials // 4)}, or " if trials > 2 else ""
        yield Fault(path, f"{text} Use {smaller}trials: {4 * population}.")


def _grid(spec: SweepSpec) -> Iterator[Fault]:
    if not SAMPLERS[spec.search.sampler].grid:
        return
    yield from (no_points(name) for name in spec.space.continuous)
    size, baselines = spec.space.size(), len(spec.search.baseline_list)
    if size is not None and spec.search.trials < size + baselines:
        text = f"search.trials is {spec.search.trials}, but grid and baselines are {size + baselines} points."
        yield Fault(("search", "trials"), f"{text} Use trials: {size + baselines}, or fewer values.")


def _exhausted(spec: SweepSpec) -> Iterator[Fault]:
    """A finite space has no more to give than its points; a sampler would begin to repeat itself."""
    size, asked = spec.space.size(), spec.search.trials - len(spec.search.baseline_list)
    if not SAMPLERS[spec.search.sampler].grid and size is not None and asked > size:
        text = f"search.trials is {spec.search.trials}, but the space has {size} points."
        yield Fault(("search", "trials"), f"{text} Use sampler: grid, fewer trials, or a range instead of a list.")


def _tuned(spec: SweepSpec) -> Iterator[Fault]:
    """A baseline's own trials have a space of their own: a grid tries all of it, others no more than it has."""
    grid, listed = SAMPLERS[spec.search.sampler].grid, spec.search.baseline_list
    for method in (name for name in dict.fromkeys(listed) if listed.count(name) > 1):
        path, count, space = ("search", "baselines", method), listed.count(method), spec.space.alone(method)
        size, text = space.size(), f"{dotted(('search', 'baselines', method))} is {listed.count(method)}, but "
        if grid and size is None:
            missing = ", ".join(space.continuous)
            yield Fault(path, f"{text}a grid needs values of {missing}. Use {method}: 1, or sweep {method} too.")
        elif size is not None and (count != size if grid else count > size):
            most = "" if grid else " at most, or a range instead of a list"
            yield Fault(path, f"{text}{method} has {size} points. Use {method}: {size}{most}.")


def _points(spec: SweepSpec) -> Iterator[Fault]:
    if SAMPLERS[spec.search.sampler].grid:
        return
    for label, dimension in spec.space.axes.items():
        if isinstance(dimension, Range) and dimension.points is not None:
            path = (*place(label), "points")
            text = f"{dotted(path)} is for sampler grid; {spec.search.sampler} draws from the whole range."
            yield Fault(path, f"{text} Remove it, use a list of values, or use sampler: grid.")


def _stopping(spec: SweepSpec) -> Iterator[Fault]:
    stopping = spec.search.stopping
    longest = max((most(spec.space.axes[spec.space.labels(m)["epochs"]]) for m in spec.space.methods), default=0)
    if isinstance(stopping, str) and longest < 2:
        text = f"search.stopping is {stopping}, but no fit has an epoch after which it could end early. Use off."
        yield Fault(("search", "stopping"), text)
    elif isinstance(stopping, Stopping) and stopping.first >= longest:
        text = f"search.stopping.first is {stopping.first}, but fits have {longest:g} epochs at most. Use less."
        yield Fault(("search", "stopping", "first"), text)


def _reference(spec: SweepSpec) -> Iterator[Fault]:
    for name in (spec.search.reference or {}).keys() - spec.objectives.keys():
        text = f"search.reference.{name} is not an objective. Use {', '.join(spec.objectives)}."
        yield Fault(("search", "reference", name), text)


def _twice(spec: SweepSpec) -> Iterator[Fault]:
    for old, new in ALIASES.items():
        if old in spec.objectives and new in spec.objectives:
            text = f"objectives.{old} is {new} under its older name: one objective twice. Leave one of them out."
            yield Fault(("objectives", old), text)


CHECKS: tuple[tuple[tuple[str, ...], Callable[[SweepSpec], Iterator[Fault]]], ...] = (
    (("data",), lambda spec: _name("data", spec.data.name, DATASETS)),
    (("groups",), _slip),
    (("data", "groups"), _groups),
    (("data", "objectives", "constraints"), _sides),
    (("groups", "space", "search", "train"), _overlapping),
    (("backbone",), lambda spec: _name("backbone", spec.backbone.name, BACKBONES)),
    (("search",), _repeated),
    (("search",), _budget),
    (("search",), _population),
    (("search", "name"), _warm),
    (("search", "space"), _asked_for),
    (("search", "space"), _stopping),
    (("search", "space"), _grid),
    (("search", "space"), _exhausted),
    (("search", "space"), _tuned),
    (("search", "space"), _points),
    (("objectives",), _twice),
    (("search", "objectives"), _reference),
)
