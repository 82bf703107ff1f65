"""The files of a sweep's parent run: its tables, and its pictures for screen and paper.

Drawing takes seconds, and longer with more trials, so `record` limits its share of the time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dashboards.document import writers
from dashboards.document.tables import to_csv
from sweeper.report import front_page, sweep_report
from sweeper.results.results import Results

TABLE, FRONT, REPORT, SMALL = "trials.json", "front.html", "report.html", "front-small.png"
_SMALL_IN = 2.4  # 720 pixels: MLflow shows a note's pictures as large as they are


def write_tables(folder: Path, table: pd.DataFrame) -> None:
    """`trials.csv`; the same as `trials.json`, in the shape that MLflow's page shows as a table; the front."""
    members = table[table["on_front"]]
    for name, part in (("trials.csv", table), ("front.csv", members)):
        (folder / name).write_text(to_csv(part), encoding="utf-8")
    shown = json.loads(table.to_json(orient="split", index=False, double_precision=15))
    text = json.dumps({"columns": shown["columns"], "data": shown["data"]}, ensure_ascii=False)
    (folder / TABLE).write_text(text, encoding="utf-8")
    members.to_json(folder / "front.json", orient="records", indent=2, force_ascii=False, double_precision=15)


def draw(folder: Path, results: Results, hypervolumes: Sequence[float]) -> None:
    """The front (PNG, SVG; needs two objectives) and how it grew."""
    from dashboards.figures import growth
    from dashboards.ink import paper  # loads matplotlib

    grown = growth.hypervolume_chart(growth.hypervolume_numbers(hypervolumes))
    paper.save(grown, folder / "hypervolume.png")
    spec = results.spec
    if len(spec.objectives) > 1:
        chart = front_page.picture(results, None, {}, column=False).chart
        for picture in ("front.png", "front.svg"):
            paper.save(chart, folder / picture)
        paper.save(chart, folder / SMALL, width_in=_SMALL_IN)


def write_front(folder: Path, results: Results, view: str) -> None:
    """The page that shows the front at once. A third of a second at 1,000 trials: it is never behind the tables."""
    (folder / FRONT).write_text(writers.to_html(front_page.page(results, view)), encoding="utf-8")


def report(results: Results) -> str:
    """The page of `sweeper report`."""
    return writers.to_html(sweep_report.document(sweep_report.gather(results)))
