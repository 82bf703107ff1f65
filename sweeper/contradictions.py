"""What is wrong between the sections of a spec, or against a table, though each section reads well."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from sweeper.dimensions import Choice, Dimension, Fixed, Range, no_points, place
from sweeper.errors import Fault, dotted, nearest
from trainables.backbones import BACKBONES, FAMILIES
from trainables.data import DATASETS, misplaced

if TYPE_CHECKING:
    from sweeper.spec import SweepSpec


def contradictions(spec: SweepSpec, skip: Collection[str] = ()) -> list[Fault]:
    """Every slip that `CHECKS` finds, but for checks that read a section in `skip`."""
    checks = (check for sections, check in CHECKS if not set(sections) & set(skip))
    return [fault for check in checks for fault in check(spec)]


def check_names(place: str, name: str, table: Collection[str], families: Collection[str] = ()) -> Iterator[Fault]:
    """`name` must be in its table, or be `FAMILY:...` of one of its families."""
    family, colon, rest = name.partition(":")
    if name not in table and not (colon and rest and family in families):
        close = nearest(name, table)
        guess = f" Did you mean '{close}'?" if close else ""
        known = ", ".join([*sorted(table), *(f"{family}:NAME" for family in families)])
        yield Fault(tuple(place.split(".")), f"{place} is '{name}'.{guess} Known: {known}.")


def _dataset(spec: SweepSpec) -> Iterator[Fault]:
    return check_names("data.name", spec.data.name, DATASETS)


def _options(spec: SweepSpec) -> Iterator[Fault]:
    return (Fault(("data", option), text) for option, text in misplaced(spec.data).items())


def _backbone(spec: SweepSpec) -> Iterator[Fault]:
    return check_names("backbone.name", spec.backbone.name, BACKBONES, FAMILIES)


def _repeated(spec: SweepSpec) -> Iterator[Fault]:
    for key, values in (("seeds", spec.search.seed_list), ("baselines", spec.search.baselines)):
        for index, value in enumerate(values):
            if value in values[:index]:
                text = f"search.{key}[{index}] is {value!r}, which the list already has. Keep one."
                yield Fault(("search", key, index), text)


def _budget(spec: SweepSpec) -> Iterator[Fault]:
    search = spec.search
    if len(search.baselines) > search.trials:
        text = f"search.trials is {search.trials}, and there are {len(search.baselines)} baselines. Use more trials."
        yield Fault(("search", "trials"), text)


def _population(spec: SweepSpec) -> Iterator[Fault]:
    population, trials = spec.search.population, spec.search.trials
    path = ("search", "population")
    if population is not None and spec.search.sampler != "nsga2":
        yield Fault(path, f"search.population is {population}, which only nsga2 has. Remove it, or use sampler: nsga2.")
    elif population is not None and population >= trials:
        text = f"search.population is {population}, not below the budget of {trials} trials: all would be random."
        smaller = f"a population of at most {max(2, trials // 4)}, or " if trials > 2 else ""
        yield Fault(path, f"{text} Use {smaller}trials: {4 * population}.")


def _grid(spec: SweepSpec) -> Iterator[Fault]:
    if spec.search.sampler != "grid":
        return
    yield from (no_points(name) for name in spec.space.continuous)
    size, baselines = spec.space.size(), len(spec.search.baselines)
    if size is not None and spec.search.trials < size + baselines:
        text = f"search.trials is {spec.search.trials}, but grid and baselines are {size + baselines} points."
        yield Fault(("search", "trials"), f"{text} Use trials: {size + baselines}, or fewer values.")


def _exhausted(spec: SweepSpec) -> Iterator[Fault]:
    """A finite space has no more to give than its points; a sampler would begin to repeat itself."""
    size, asked = spec.space.size(), spec.search.trials - len(spec.search.baselines)
    if spec.search.sampler != "grid" and size is not None and asked > size:
        text = f"search.trials is {spec.search.trials}, but the space has {size} points."
        yield Fault(("search", "trials"), f"{text} Use sampler: grid, fewer trials, or a range instead of a list.")


def _points(spec: SweepSpec) -> Iterator[Fault]:
    for label, dimension in spec.space.axes.items():
        if spec.search.sampler != "grid" and isinstance(dimension, Range) and dimension.points is not None:
            path = (*place(label), "points")
            text = f"{dotted(path)} is for sampler grid; {spec.search.sampler} draws from the whole range."
            yield Fault(path, f"{text} Remove it, use a list of values, or use sampler: grid.")


def _stopping(spec: SweepSpec) -> Iterator[Fault]:
    stopping = spec.search.stopping
    longest = max((_most(spec.space.axes[spec.space.labels(m)["epochs"]]) for m in spec.space.methods), default=0)
    if stopping is not None and stopping.first >= longest:
        text = f"search.stopping.first is {stopping.first}, but fits have {longest:g} epochs at most. Use less."
        yield Fault(("search", "stopping", "first"), text)


def _most(dimension: Dimension) -> float:
    match dimension:
        case Fixed(value):
            return float(value)
        case Choice(values):
            return max(map(float, values))
        case Range(high=high):
            return high


def _reference(spec: SweepSpec) -> Iterator[Fault]:
    for name in (spec.search.reference or {}).keys() - spec.objectives.keys():
        text = f"search.reference.{name} is not an objective. Use {', '.join(spec.objectives)}."
        yield Fault(("search", "reference", name), text)


CHECKS: tuple[tuple[tuple[str, ...], Callable[[SweepSpec], Iterator[Fault]]], ...] = (
    (("data",), _dataset),
    (("data",), _options),
    (("backbone",), _backbone),
    (("search",), _repeated),
    (("search",), _budget),
    (("search",), _population),
    (("search", "space"), _stopping),
    (("search", "space"), _grid),
    (("search", "space"), _exhausted),
    (("search", "space"), _points),
    (("search", "objectives"), _reference),
)
