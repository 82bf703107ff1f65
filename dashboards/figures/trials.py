"""Every trial of a sweep, to look around in: the front's picture and the table of all trials, as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dashboards.document.document import Picture
from dashboards.figures.front import FrontNumbers, TrialPoint, bounds_lines, front_chart
from dashboards.ink.explorer import Cell, Explorer, Place, TrialColumn
from dashboards.ink.style import looks
from dashboards.ink.wording import heading, readable

HINT = "Point at a trial, or go through them with the arrow keys, to read its settings here."
_LAST: tuple[Place, ...] = ("baseline", "tuned", "dominated", "infeasible", "")  # after the front, in this order


def front_picture(
    numbers: FrontNumbers,
    trials: pd.DataFrame,
    parameters: Sequence[str],
    *,
    called: Mapping[int, str] | None = None,
    chosen: int | None = None,
    column: FrontNumbers | None = None,
) -> Picture:
    """The front; on a page with a table beside it. `called` names points, `column` is the picture for a paper's column.

    `chosen` is the trial to take.

    `trials` has the rows that `numbers` was made of; their `parameters` are shown where they vary.
    """
    drawn = explorer(numbers, trials, parameters, called or {}, chosen)
    return Picture("front", front_chart(numbers), None if column is None else front_chart(column), explorer=drawn)


def explorer(
    numbers: FrontNumbers,
    trials: pd.DataFrame,
    parameters: Sequence[str],
    called: Mapping[int, str],
    chosen: int | None,
) -> Explorer:
    """Every row of `trials`, the front first; those with both values are points too."""
    known = {point.number: point for point in numbers.points}
    placed = [(record, _place(known.get(int(record["number"])))) for record in trials.to_dict("records")]
    placed.sort(key=lambda both: _LAST.index(both[1]) if both[1] in _LAST else -1)
    records, places = [record for record, _ in placed], [place for _, place in placed]
    varied = [name for name in parameters if name != "method" and trials[name].astype(str).nunique() > 1]
    objectives = [numbers.x, numbers.y]
    columns = [
        TrialColumn("number", "trial", whole=True),
        TrialColumn("label", "configuration", word=True),
        *(
            TrialColumn(
                axis.name, heading(axis.name, axis.sense), axis=True, digits=3,
                spread=[float(record.get(f"{axis.name}_std", math.nan)) for record in records],
            )
            for axis in objectives
        ),
        *(_parameter(name, trials[name]) for name in varied),
        TrialColumn("called", "called", word=True),
        TrialColumn("place", "place", word=True),
        TrialColumn("state", "state", word=True),
    ]  # fmt: skip
    rows = [
        (
            int(record["number"]),
            str(record["label"]),
            *(float(record[axis.name]) for axis in objectives),
            *(_cell(record[name], column) for name, column in zip(varied, columns[4:], strict=False)),
            called.get(int(record["number"]), ""),
            "tuned baseline" if place == "tuned" else place,
            str(record["state"]),
        )
        for record, place in zip(records, places, strict=True)
    ]
    at = {int(record["number"]): row for row, record in enumerate(records)}
    points = [record for record, place in zip(records, places, strict=True) if place]
    methods = tuple(str(record["method"]) for record in records)
    far = any(not (0 <= axis.share(record[axis.name]) <= 1) for record in points for axis in objectives)
    return Explorer(
        columns=tuple(columns),
        rows=tuple(rows),
        places=tuple(places),
        methods=methods,
        looks=looks(sorted({str(record["method"]) for record in points})),
        x=2,
        y=3,
        view=((numbers.x.low, numbers.x.high), (numbers.y.low, numbers.y.high)),
        front=numbers.outline,
        names=tuple((at[point.number], texts) for point, texts in numbers.names),
        chosen=None if chosen is None else at[chosen],
        towards=(numbers.x.sign, numbers.y.sign),
        far=far,
        lines=tuple(bounds_lines(numbers)),
        hint=HINT,
    )


def _place(point: TrialPoint | None) -> Place:
    """How a trial is drawn; one that is no point, not at all."""
    if point is None:
        return ""
    if point.on_front:
        return "baseline on the front" if point.star else "front"
    if not point.feasible:
        return "infeasible"
    return "baseline" if point.star else "tuned" if point.baseline else "dominated"


def _parameter(name: str, values: pd.Series) -> TrialColumn:
    """An axis where it has numbers, a logarithmic one where they span most of a decade."""
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    if len(numbers) < values.notna().sum() or numbers.empty:
        return TrialColumn(name, readable(name), word=True)
    log = float(numbers.min()) > 0 and float(numbers.max() / numbers.min()) >= 8
    return TrialColumn(name, readable(name), axis=True, log=log, whole=bool((numbers % 1 == 0).all()))


def _cell(value: Any, column: TrialColumn) -> Cell:
    if pd.isna(value):
        return None
    return str(value) if column.word else int(value) if column.whole else float(value)
