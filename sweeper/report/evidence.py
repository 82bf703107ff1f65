"""The middle of a report: methods side by side, groups, what the objectives depend on, how the search went."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dashboards.document.document import DataTable, Picture, Section, Text
from dashboards.figures import bars, curves, growth, importance, parallel, reliability, surface
from dashboards.figures.front import front_chart, front_numbers
from dashboards.ink.chart import COLUMN, Chart
from dashboards.ink.wording import decimal, interval
from sweeper.errors import UserError, unknown
from sweeper.front import pareto
from sweeper.front.front import signs
from sweeper.front.intervals import of_share, shared_variance
from sweeper.front.recommend import Rule
from sweeper.report import papers, papers_figures
from sweeper.results.results import Results
from trainables.metrics import METRICS, Answers
from trainables.params import PARAMS


def sections(results: Results, by: Rule | str, named: Mapping[int, str], baselines: Mapping[int, str]) -> list[Section]:
    """The sections, those left out that have nothing to show.

    `named` are the chosen points and `baselines` theirs, by trial number.
    """
    all_sections = [
        Section("Methods side by side", tuple(methods(results, by))),
        Section("Groups", tuple(_groups(results, named, baselines))),
        Section("Calibration", tuple(_calibration(results))),
        Section("What it depends on", tuple(_dependence(results))),
        Section("How the search went", tuple(_search(results))),
        Section("The papers' figures", _papers(results, by), folded=True),
    ]
    return [section for section in all_sections if section.blocks]


def _papers(results: Results, by: Rule | str) -> tuple[Picture, ...]:
    return tuple(papers_figures.pictures(results, papers.points(results, by).numbers))


def methods(results: Results, by: Rule | str) -> list[DataTable | Picture | Text]:
    """Each method at the point that one rule takes from its own trials."""
    chosen = papers.points(results, by)
    rows = papers.method_rows(results, chosen.numbers)
    if rows.empty:
        return []
    tried = results.trials_table["method"].value_counts()
    counted = ", ".join(f"{method} {tried[method]}" for method in rows["method"])
    caption = (
        f"Validation split, in percent, mean ± standard deviation over {results.seeds_said} seeds. "
        f"Each method's point is chosen from its own trials by one rule ({chosen.rule}); trials to choose from: "
        f"{counted}."
    )
    return [*papers.tables(rows, caption), Picture("methods", papers.method_bars(rows))]


def _groups(results: Results, named: Mapping[int, str], baselines: Mapping[int, str]) -> list[Picture | DataTable]:
    """The chosen points and the baselines', group by group."""
    others = {number: f"{name} (baseline)" for number, name in baselines.items() if number not in named}
    chosen = dict(list((dict(named) | others).items())[:5])
    if not chosen or results.groups_table.empty:  # fits that were measured without groups
        return []
    return [
        Picture(
            "groups", bars.group_chart(bars.group_numbers(results.groups_table, chosen), _methods(results, chosen))
        ),
        _group_table(results, next(iter(chosen)), next(iter(chosen.values()))),
    ]


def _group_table(results: Results, number: int, name: str) -> DataTable:
    """Each group of one point: how many examples, its accuracy and how sure that is, over seeds and examples."""
    own = results.groups_table[results.groups_table["number"] == number]
    shared = _shared_variances([fit.answers for fit in results.fits if fit.number == number])
    rows = []
    for (kind, group), part in own.groupby(["kind", "name"], sort=False):
        n, accuracy = int(part["n"].iloc[0]), float(part["accuracy"].mean())
        ends = of_share(part["accuracy"], n, shared.get((str(kind), str(group))))
        rows.append((str(kind), str(group), f"{n:,}", decimal(accuracy if n else None), interval(*ends)))
    seeds = own["seed"].nunique()
    over = f"over {seeds} seeds and n examples" if seeds > 1 else "of n examples; one seed, of another nothing is known"
    caption = f"Trial {number} ({name}) on validation: mean over the seeds; 95 % intervals {over}."
    return DataTable(("kind", "group", "n", "accuracy", "95 %"), tuple(rows), caption, words=(0, 1))


def _shared_variances(answers: Sequence[Answers | None]) -> dict[tuple[str, str], float]:
    """By kind and name of the group, what its examples give to the variance of its accuracy; empty if unknown."""
    asked = [each.take(np.arange(len(each))) for each in answers if each is not None]
    alike = all(np.array_equal(each.labels_N, asked[0].labels_N) for each in asked)
    if len(asked) < 2 or len(asked) < len(answers) or not alike:
        return {}
    right_SN, variances = np.array([each.correct_N for each in asked]), {}
    for kind in asked[0].kinds:
        groups = asked[0].groups(kind)
        for g in np.flatnonzero(groups.counts_G > 1).tolist():
            variances[kind, groups.names[g]] = shared_variance(right_SN[:, np.flatnonzero(groups.member_N(g))])
    return variances


def _calibration(results: Results) -> list[Picture | Text]:
    chart = draw(results, "calibration")
    return [] if chart is None else [Picture("calibration", chart)]


def _dependence(results: Results) -> list[Picture | Text]:
    names = {f"by {name}": name for name in _searched(results)} | {"importance": "importance", "all trials": "parallel"}
    charts = {name: draw(results, which) for name, which in names.items()}
    return [Picture(name, chart) for name, chart in charts.items() if chart is not None]


def _search(results: Results) -> list[Picture | Text]:
    grown, attained = draw(results, "growth"), draw(results, "surface")
    blocks: list[Picture | Text] = [] if grown is None else [Picture("hypervolume", grown)]
    if attained is not None:
        blocks.append(Picture("attainment", attained, replace(attained, canvas=COLUMN)))
    return blocks


def grown(results: Results, reference: Mapping[str, float]) -> tuple[list[float], list[float]]:
    """Hypervolume above `reference` after each trial, in the order in which they ended, and each trial's seconds."""
    seconds = results.trials_table.set_index("number")["seconds"]
    volumes = [0.0 if math.isnan(volume) else volume for volume in results.growth(reference)]
    return volumes, [float(seconds[trial.number]) for trial in results.ended]


# --- one chart at a time


Senses = Mapping[str, Any]  # metric -> `max` or `min`


def draw(results: Results, which: str, metrics: Sequence[str] = ()) -> Chart | None:
    """One of `CHARTS` by its name, of the objectives or of these metrics; None where there is too little to draw.

    Raises:
        UserError: no chart or metric of that name, or the chart shows no metrics that could be chosen.
    """
    charts = CHARTS | {name: _curve(name) for name in _searched(results)}
    if which not in charts:
        raise UserError(f"no figure '{which}'. There are {', '.join(charts)}.")
    if not metrics:
        return charts[which](results, results.spec.objectives)
    if which not in (*OF_METRICS, *_searched(results)):
        raise UserError(f"figure '{which}' shows no metrics to choose. {', '.join(OF_METRICS)} do.")
    for name in metrics:
        if name not in METRICS or name not in results.trials_table:
            raise UserError(unknown(f"metric '{name}'", name, [m for m in METRICS if m in results.trials_table]))
    return charts[which](results, papers.senses(tuple(metrics)))


def _searched(results: Results) -> list[str]:
    """The parameters of the sweep's methods that are searched by default: lambda, rank, and what a plug-in adds."""
    return [name for name in results.spec.space.dimensions if PARAMS[name].searched]


def _front(results: Results, metrics: Senses) -> Chart | None:
    """Of other metrics than the objectives: the trials that no other beats in them."""
    if len(metrics) < 2:
        return None
    table, knee = results.trials_table, results.named.get("knee")
    if list(metrics) != list(results.spec.objectives):
        known = table[(table["state"] == "complete") & table["feasible"]].dropna(subset=list(metrics))
        best_T = pareto.front(known[list(metrics)].to_numpy(dtype=np.float64) * signs(metrics))
        table, knee = table.assign(on_front=table["number"].isin(known["number"][best_T])), None
    return front_chart(front_numbers(table, metrics, knee=knee, stars=results.baseline_points().values()))


def _growth(results: Results, metrics: Senses) -> Chart | None:
    volumes, seconds = grown(results, results.spec.reference)
    return growth.hypervolume_chart(growth.hypervolume_numbers(volumes, seconds)) if volumes else None


def _curve(parameter: str) -> Callable[[Results, Senses], Chart | None]:
    def draw_curve(results: Results, metrics: Senses) -> Chart | None:
        frame = results.trials_table
        if parameter not in frame or frame.loc[frame["state"] == "complete", parameter].nunique() < 2:
            return None
        return curves.curve_chart(curves.curve_numbers(frame, parameter, metrics, _parameters(results)))

    return draw_curve


def _chosen_groups(results: Results, metrics: Senses) -> Chart | None:
    chosen = _chosen(results)
    if not chosen:
        return None
    return bars.group_chart(bars.group_numbers(results.groups_table, chosen), _methods(results, chosen))


def _chosen(results: Results) -> dict[int, str]:
    """The named points, each by the first of its names, the knee first."""
    chosen: dict[int, str] = {}
    for name, number in results.named.items():
        chosen.setdefault(number, name)
    return chosen


def _methods(results: Results, chosen: Mapping[int, str]) -> dict[str, str]:
    """The method of each chosen point, by the point's name."""
    return {name: str(results.by_number[number].params["method"]) for number, name in chosen.items()}


def _reliability(results: Results, metrics: Senses) -> Chart | None:
    chosen = _chosen(results)
    bins = results.calibration_table
    if not bins["number"].isin(list(chosen)).any():  # no front, or fits from before bins were kept
        return None
    numbers = reliability.reliability_numbers(bins, chosen)
    return reliability.reliability_chart(numbers, _methods(results, chosen))


def _importance(results: Results, metrics: Senses) -> Chart | None:
    importances = importance.importance_numbers(results.trials_table, _parameters(results), list(metrics))
    return None if importances is None else importance.importance_chart(importances)


def _parallel(results: Results, metrics: Senses) -> Chart | None:
    lines = parallel.parallel_numbers(results.trials_table, _parameters(results), metrics)
    return parallel.parallel_chart(lines) if len(lines.axes) > len(metrics) else None


def _surface(results: Results, metrics: Senses) -> Chart | None:
    objectives = results.spec.objectives
    if len(objectives) < 2 or not any(fit.number in results.front and fit.values for fit in results.fits):
        return None  # also where the results of all of them are gone
    return surface.surface_chart(surface.surface_numbers(results.fits_table, objectives, results.front))


def _parameters(results: Results) -> list[str]:
    return list(dict.fromkeys(name for trial in results.trials for name in trial.params))


def _of_paper(name: str) -> Callable[[Results, Senses], Chart | None]:
    return lambda results, metrics: papers_figures.FIGURES[name](results, papers.points(results, "accuracy").numbers)


OF_METRICS = ("front", "lambda", "rank", "importance", "parallel")
CHARTS: dict[str, Callable[[Results, Senses], Chart | None]] = {
    "front": _front,
    "growth": _growth,
    "lambda": _curve("lambda"),
    "rank": _curve("rank"),
    "groups": _chosen_groups,
    "calibration": _reliability,
    "importance": _importance,
    "parallel": _parallel,
    "surface": _surface,
    **{name: _of_paper(name) for name in papers_figures.FIGURES},
}


def sizes(results: Results) -> list[DataTable]:
    """Parameters by method and rank."""
    rows = papers.size_rows(results)
    return [] if rows.empty else [papers.size_table(rows, "Parameters of the models that were trained.", "Parameters")]
