"""The answer and the front, seen at once: the head of a report, and a page of its own in the record."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dashboards.document.document import Document, Picture, Section, Text, code, line
from dashboards.figures.front import Bounds, FrontNumbers, front_numbers
from dashboards.figures.trials import front_picture
from dashboards.ink.chart import COLUMN, SCREEN
from dashboards.ink.wording import decimal
from sweeper.front.recommend import Recommendation
from sweeper.results.results import Results
from sweeper.results.summary import of_trials


def page(results: Results, view: str = "") -> Document:
    """What the record shows first, soon made: no fit's folder is read. `view` leads to all runs."""
    choice = results.choice()
    blocks: list[Text | Picture] = []
    if choice is not None:
        blocks.append(Text(answer(results, choice), answer=True))
    if len(results.spec.objectives) > 1:
        blocks.append(picture(results, choice, called(results), column=False))
    links = line("A configuration is the name of its run. All runs: {}", code(view)) if view else ()
    blocks.append(Text(("Validation numbers. ", *links), aside=True))
    return Document(results.spec.name, stands(results), (Section("", tuple(blocks)),))


def stands(results: Results) -> str:
    """Data, backbone, and how far the sweep is."""
    counts = ", ".join(f"{count} {state}" for state, count in results.counts.items() if count) or "nothing yet"
    spec = results.spec
    return f"{spec.data.name}, {spec.backbone.name}. {results.state}: {counts}{of_trials(results)} trials."


def answer(results: Results, choice: Recommendation) -> str:
    """The point to take with its spread, the rule, and the chance that it is on the true front, where that is known."""
    trial = results.by_number[choice.number]
    numbers = ", ".join(
        f"{name} {decimal(trial.values[name], trial.spread.get(name, math.nan))}" for name in results.spec.objectives
    )
    over = f"± over {trial.seeds} seeds" if trial.seeds > 1 else "one seed: how others would do is not known"
    sure = choice.stability.on_front.get(choice.number) if choice.stability.draws else None
    chance = "" if sure is None else f", on the true front with a chance of {sure:.0%}"
    return f"Recommended: #{choice.number} {choice.label} ({numbers}; {over}){chance}, by {choice.rule}."


def called(results: Results, advice: Recommendation | None = None) -> dict[int, str]:
    """The points that have a name, by number: `knee, fairest`."""
    by_number: dict[int, list[str]] = {}
    for name, number in results.named.items():
        by_number.setdefault(number, []).append(name)
    if advice is not None:
        by_number.setdefault(advice.number, []).insert(0, "recommended")
    return {number: ", ".join(dict.fromkeys(names)) for number, names in by_number.items()}


def picture(
    results: Results,
    choice: Recommendation | None,
    names: Mapping[int, str],
    bounds: Mapping[str, float] | None = None,
    *,
    column: bool = True,
) -> Picture:
    """The front in the first two objectives; on a page with a table of all trials beside it.

    `column`: also as a picture for a paper's column.
    """
    spec, table = results.spec, results.summary_table
    ends: dict[str, tuple[float | None, float | None]] = {
        name: (bound.min, bound.max) for name, bound in spec.constraints.items()
    }
    for name, end in (bounds or {}).items():
        ends[name] = (end, None) if spec.objectives[name] == "max" else (None, end)
    large, small = _numbers(results, ends, SCREEN), _numbers(results, ends, COLUMN) if column else None
    parameters = list(dict.fromkeys(name for trial in results.trials for name in trial.params))
    chosen = None if choice is None else choice.number
    return front_picture(large, table, parameters, called=names, chosen=chosen, column=small)


def _numbers(results: Results, bounds: Bounds, canvas: tuple[float, float]) -> FrontNumbers:
    return front_numbers(
        results.summary_table,
        results.spec.objectives,
        knee=results.named.get("knee"),
        stars=results.baseline_points().values(),
        bounds=bounds,
        canvas=canvas,
    )
