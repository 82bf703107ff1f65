"""Groups of the data, method by method: the papers' figures of losses, intervals, ranks and sizes.

FairLoRA, figures 1, 2b, 11 and 12 (variance of the classes' losses); On Fairness of LoRA, figures 2, 6, 7 and 8.

Rows of groups, one per fit and group: number, seed, kind, name, n, loss, accuracy and, where there are such, eod, f1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import Look, line_looks, looks
from dashboards.ink.wording import direction

_ABREAST = 12  # groups, of which two panels or three have room side by side
MOST_LINES = 12
HalfWidth = Callable[[Sequence[float]], float]  # of an interval of the mean, from one value a seed; nan where unknown


@dataclass(frozen=True)
class SubgroupLine:
    """One method's or group's values, and the half-length of their bars."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    half: tuple[float, ...]


@dataclass(frozen=True)
class SubgroupNumbers:
    """For each measure its lines, over the positions that `ticks` name."""

    measures: Mapping[str, tuple[SubgroupLine, ...]]
    ticks: tuple[str, ...]


def loss_numbers(rows: pd.DataFrame, chosen: Mapping[int, str]) -> SubgroupNumbers:
    """Of the points `chosen` (number: name): the variance over the classes of their mean losses, and the mean loss.

    Each is taken for every seed, then averaged; bars are one standard deviation over the seeds.
    """
    classes = rows[(rows["kind"] == "class") & (rows["n"] > 0)].astype({"loss": float})
    by_fit = classes.groupby(["number", "seed"])["loss"]
    spread = {"variance of the classes' losses": by_fit.var(ddof=0), "loss of the worst class": by_fit.max()}
    measures = {}
    for measure, values in spread.items():
        by_trial = values.groupby("number")
        means, stds = by_trial.mean(), by_trial.std()
        measures[measure] = tuple(
            SubgroupLine(name, (float(place),), (float(means[number]),), (float(stds[number]),))
            for place, (number, name) in enumerate(chosen.items())
            if number in means
        )
    return SubgroupNumbers(measures, tuple(chosen.values()))


def loss_chart(numbers: SubgroupNumbers) -> Chart:
    """One mark for each method."""
    caption = (
        "Validation split; each method's point, mean over the seeds, bars their standard deviation. Lower is fairer."
    )
    styles = looks(list(numbers.ticks))
    panels = []
    for measure, lines in numbers.measures.items():
        series = tuple(
            Series(line.name, line.x, line.y, "points", styles[line.name], error=line.half, size=10, key=False)
            for line in lines
        )
        across = Scale(low=-0.6, high=len(numbers.ticks) - 0.4, names=numbers.ticks)
        panels.append(Panel(across, Scale(measure), series))
    return Chart(tuple(panels), caption, WIDE)


def epoch_numbers(epochs: pd.DataFrame, chosen: Mapping[int, str], measure: str) -> tuple[SubgroupLine, ...]:
    """Of the points `chosen` (number: name): `measure` after each epoch, mean and standard deviation over the seeds.

    `epochs` has one row per fit and epoch: number, seed, epoch and the measure.
    """
    lines = []
    for number, name in chosen.items():
        by_epoch = epochs[epochs["number"] == number].dropna(subset=[measure]).groupby("epoch")[measure]
        means, stds = by_epoch.mean(), by_epoch.std()
        if len(means):
            lines.append(SubgroupLine(name, tuple(map(float, means.index)), tuple(means), tuple(stds)))
    return tuple(lines)


def epoch_chart(lines: Sequence[SubgroupLine], title: str) -> Chart:
    """One line for each method."""
    styles = looks([line.name for line in lines])
    series = tuple(
        Series(line.name, line.x, line.y, "line", styles[line.name], error=line.half, size=6) for line in lines
    )
    last = max((x for line in lines for x in line.x), default=1.0)
    step = max(1, round(last / 8))
    across = Scale("epoch", 0.5, last + 0.5, ticks=tuple(float(x) for x in range(step, int(last) + 1, step)))
    caption = (
        "Validation split; each method's point, mean over the seeds, bars their standard deviation. Lower is fairer."
    )
    return Chart((Panel(across, Scale(title, 0, 1.04 * _top(lines)), series),), caption, (WIDE[0], 260.0))


def group_order(rows: pd.DataFrame, kind: str) -> list[tuple[str, int]]:
    """Name and number of examples of the groups of `kind` that have any, the smallest first."""
    own = rows[(rows["kind"] == kind) & (rows["n"] > 0)].drop_duplicates("name")
    return [(str(name), int(n)) for name, n in own.sort_values("n", kind="stable")[["name", "n"]].to_numpy()]


def size_numbers(
    rows: pd.DataFrame, chosen: Mapping[int, str], kind: str, measures: Sequence[str], half: HalfWidth
) -> SubgroupNumbers:
    """Each measure by group of `kind`, the smallest first: one line for each of `chosen`."""
    own, order = rows[rows["kind"] == kind], group_order(rows, kind)
    names = [name for name, _ in order]
    return SubgroupNumbers(
        {
            measure: tuple(
                _line(name, own[own["number"] == number], names, measure, half) for number, name in chosen.items()
            )
            for measure in _known(rows, kind, measures)
        },
        tuple(f"{name}\nn = {n:,}" for name, n in order),
    )


def _known(rows: pd.DataFrame, kind: str, measures: Sequence[str]) -> list[str]:
    own = rows[rows["kind"] == kind]
    return [measure for measure in measures if measure in own and own[measure].notna().any()]


def _line(name: str, own: pd.DataFrame, groups: Sequence[object], measure: str, half: HalfWidth) -> SubgroupLine:
    values = [own.loc[own["name"] == group, measure].dropna().astype(float).tolist() for group in groups]
    return SubgroupLine(
        name,
        tuple(map(float, range(len(groups)))),
        tuple(sum(each) / len(each) if each else math.nan for each in values),
        tuple(half(each) for each in values),
    )


def size_chart(numbers: SubgroupNumbers, interval: str) -> Chart:
    """One panel for each measure, one bar for each group and method; `interval` says what the error bars are."""
    panels = _panels(numbers, Scale(names=numbers.ticks), "bars", looks(_names(numbers)))
    caption = f"Validation split, the smallest group first; n: its examples. EOD: against all other groups. {interval}"
    if len(numbers.ticks) <= _ABREAST:
        return Chart(panels, caption, WIDE)
    return Chart(panels, caption, (WIDE[0], 170.0 * len(panels)), rows=len(panels))


def rank_numbers(
    rows: pd.DataFrame, ranks: Mapping[int, int], kind: str, measures: Sequence[str], half: HalfWidth
) -> SubgroupNumbers:
    """Each measure against the rank (number of the trial: rank): one line for each group, the smallest dozen."""
    places, order = sorted(set(ranks.values())), group_order(rows, kind)[:MOST_LINES]
    own = rows[(rows["kind"] == kind) & rows["number"].isin(list(ranks))]
    by_rank = own.assign(group=own["name"], name=own["number"].map(ranks))
    return SubgroupNumbers(
        {
            measure: tuple(
                _line(group, by_rank[by_rank["group"] == group], places, measure, half) for group, _ in order
            )
            for measure in _known(rows, kind, measures)
        },
        tuple(map(str, places)),
    )


def rank_chart(numbers: SubgroupNumbers, interval: str) -> Chart:
    """One panel for each measure, one line for each group."""
    return Chart(
        _panels(numbers, Scale("rank (0: the head alone)", names=numbers.ticks), "line", line_looks(_names(numbers))),
        "Validation split; for each rank its most accurate trial; of many groups the smallest dozen. EOD: against all "
        f"other groups. {interval}",
        WIDE,
    )


def _names(numbers: SubgroupNumbers) -> list[str]:
    return list(dict.fromkeys(line.name for lines in numbers.measures.values() for line in lines))


def _panels(
    numbers: SubgroupNumbers, across: Scale, draw: Literal["bars", "line"], styles: Mapping[str, Look]
) -> tuple[Panel, ...]:
    return tuple(
        Panel(
            across,
            _up(direction(measure, "min" if measure == "eod" else "max"), lines, draw),
            tuple(
                Series(line.name, line.x, line.y, draw, styles[line.name], error=line.half,
                       hover=[f"{line.name}\n{measure} {y:.4f}" for y in line.y])
                for line in lines
            ),
        )
        for measure, lines in numbers.measures.items()
    )  # fmt: skip


def _up(title: str, lines: Sequence[SubgroupLine], draw: Literal["bars", "line"]) -> Scale:
    """Bars begin at 0 and have room for their errors, as far as 1; lines fill the panel."""
    return Scale(title) if draw == "line" else Scale(title, 0, min(1.02, 1.1 * _top(lines)))


def _top(lines: Sequence[SubgroupLine]) -> float:
    """The upper end of the highest error bar; 1 where nothing is known or all is 0."""
    ends = (y + (0 if math.isnan(half) else half) for line in lines for y, half in zip(line.y, line.half, strict=True))
    return max((end for end in ends if end > 0), default=1.0)
