"""The files of a sweep's parent run: its tables, and its pictures for screen and paper.

Drawing takes seconds, and longer with more trials, so `record` limits its share of the time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dashboards.document.tables import to_csv
from sweeper.results.results import Results

TABLE, REPORT, SMALL = "trials.json", "report.html", "front-small.png"
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
    """The front (page, PNG, SVG; needs two objectives) and how it grew."""
    from dashboards.document import writers  # load both drawing libraries
    from dashboards.figures import front, growth
    from dashboards.ink import paper

    grown = growth.hypervolume_chart(growth.hypervolume_numbers(hypervolumes))
    paper.save(grown, folder / "hypervolume.png")
    spec = results.spec
    if len(spec.objectives) > 1:
        numbers = front.front_numbers(results.summary_table, spec.objectives)
        chart = front.front_chart(numbers)
        (folder / "front.html").write_text(writers.to_html(front.front_page(numbers, spec.name)), encoding="utf-8")
        for picture in ("front.png", "front.svg"):
            paper.save(chart, folder / picture)
        paper.save(chart, folder / SMALL, width_in=_SMALL_IN)


def report(results: Results) -> str:
    """The page of `sweeper report`."""
    from dashboards.document import writers  # load both drawing libraries
    from sweeper.report import sweep_report

    return writers.to_html(sweep_report.document(sweep_report.gather(results)))
