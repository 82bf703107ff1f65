"""Bars side by side: metrics on one scale where higher is better, and groups of the chosen points.

The first is the shape of FairLoRA, figures 3, 4 and 6 to 8; the second shows what a gap is made of.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import looks
from dashboards.ink.wording import readable

MOST_GROUPS = 12


@dataclass(frozen=True)
class BarNumbers:
    """Heights by row and metric, 0 to 1 and higher is better, with the length of their error bars."""

    names: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    heights: tuple[tuple[float, ...], ...]
    errors: tuple[tuple[float, ...], ...]
    turned: tuple[str, ...] = ()


def bar_numbers(rows: pd.DataFrame, metrics: Mapping[str, str]) -> BarNumbers:
    """One row of `rows` for each method: name, method, each metric (a share between 0 and 1) and its `_std`.

    A metric is shown as it is, and as 1 minus itself where lower is better, so that a difference of
    heights is a difference of the metric. Metrics that are undefined in any row are left out.
    """
    kept = {name: sense for name, sense in metrics.items() if name in rows and rows[name].notna().all()}
    records = rows.to_dict("records")
    return BarNumbers(
        names=tuple(map(str, rows["name"])),
        methods=tuple(map(str, rows["method"])),
        metrics=tuple(kept),
        heights=tuple(
            tuple(row[name] if sense == "max" else 1 - row[name] for name, sense in kept.items()) for row in records
        ),
        errors=tuple(tuple(float(row.get(f"{name}_std", math.nan)) for name in kept) for row in records),
        turned=tuple(name for name, sense in kept.items() if sense == "min"),
    )


def bar_chart(numbers: BarNumbers) -> Chart:
    """One group of bars for each metric, one colour for each row."""
    styles = looks(numbers.names, dict(zip(numbers.names, numbers.methods, strict=True)))
    ticks = tuple(
        textwrap.fill(("1 − " if name in numbers.turned else "") + readable(name), 13) for name in numbers.metrics
    )
    series = tuple(
        Series(
            name,
            range(len(heights)),
            heights,
            "bars",
            styles[name],
            error=errors,
            hover=[f"{name}\n{readable(m)}: {h:.4f}" for m, h in zip(numbers.metrics, heights, strict=True)],
        )
        for name, heights, errors in zip(numbers.names, numbers.heights, numbers.errors, strict=True)
    )
    caption = (
        "Higher is better everywhere: a metric of which less is better is shown as 1 minus itself. "
        "Bars: one standard deviation over the seeds."
    )
    return Chart((Panel(Scale(names=ticks), Scale("higher is better", 0, 1.02), series),), caption, WIDE)


@dataclass(frozen=True)
class GroupNumbers:
    """For each measure: the groups shown (with their counts), and each point's mean and spread over the seeds."""

    points: tuple[str, ...]
    measures: tuple[tuple[str, tuple[str, ...], tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]], ...]
    hidden: int = 0
    lacking: tuple[str, ...] = ()  # points whose fits' results are gone


def group_numbers(groups: pd.DataFrame, chosen: Mapping[int, str]) -> GroupNumbers:
    """F1 and recall of each class, accuracy of each cell (or attribute value), of the trials `chosen` (number: name).

    `groups` has one row per fit and group: number, seed, kind, name, n, accuracy, recall, f1. Of many
    groups the worst dozen of the first point are shown.
    """
    known = groups[groups["number"].isin(list(chosen))]
    lacking = {number: name for number, name in chosen.items() if number not in set(known["number"])}
    chosen = {number: name for number, name in chosen.items() if number not in lacking}
    kinds = list(dict.fromkeys(known["kind"]))
    wanted = [("f1", "class"), ("recall", "class")] + [("accuracy", kinds[-1])] * (len(kinds) > 1)
    measures, hidden = [], 0
    for measure, kind in wanted:
        rows = known[(known["kind"] == kind) & (known["n"] > 0)].astype({measure: float})
        by_group = rows.groupby(["name", "number"], sort=False)[measure]
        means, spread = by_group.mean().unstack(), by_group.std().unstack()
        counts = rows.drop_duplicates("name").set_index("name")["n"]
        shown = list(counts.index)
        if len(shown) > MOST_GROUPS:
            worst = means[next(iter(chosen))].sort_values(kind="stable")
            hidden, shown = len(shown) - MOST_GROUPS, list(worst.index[:MOST_GROUPS])
        names = tuple(f"{name}\nn = {int(counts[name])}" for name in shown)
        values = tuple(tuple(float(means[n].get(name, math.nan)) for name in shown) for n in chosen)
        errors = tuple(
            tuple(float(spread[n].get(name, math.nan)) if n in spread else math.nan for name in shown) for n in chosen
        )
        measures.append((f"{readable(measure)} by {kind}", names, values, errors))
    return GroupNumbers(tuple(chosen.values()), tuple(measures), hidden, tuple(lacking.values()))


def group_chart(numbers: GroupNumbers, methods: Mapping[str, str] | None = None) -> Chart:
    """One panel for each measure; each point, by its name in `methods`, in its method's look."""
    styles = looks(numbers.points, methods)
    panels = [
        Panel(
            Scale(names=names), Scale("", 0, 1.02), title=title,
            series=tuple(
                Series(point, range(len(names)), heights, "bars", styles[point], error=lengths,
                       hover=[f"{point}\n{name}\n{h:.4f}" for name, h in zip(names, heights, strict=True)])
                for point, heights, lengths in zip(numbers.points, values, errors, strict=True)
            ),
        )
        for title, names, values, errors in numbers.measures
    ]  # fmt: skip
    caption = "Means over the seeds, bars their standard deviation; n: validation examples. Small groups are uncertain."
    if numbers.hidden:
        caption += f" The worst {MOST_GROUPS} of the first point; {numbers.hidden} others are not drawn."
    if numbers.lacking:
        caption += f" No results are left of {', '.join(numbers.lacking)}."
    return Chart(tuple(panels), caption, WIDE)
