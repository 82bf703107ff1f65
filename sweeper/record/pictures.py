"""The files of a sweep's parent run: its tables, and its pictures for screen and paper.

Drawing takes seconds and grows with the trials, so whoever calls it does so at a pace, never per trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

TABLE, REPORT, SMALL = "trials.json", "report.html", "front-small.png"
_SMALL_IN = 2.4  # 720 pixels: MLflow shows a note's pictures as large as they are


def write_tables(folder: Path, table: pd.DataFrame) -> None:
    """`trials.csv`; the same as `trials.json`, in the shape that MLflow's page shows as a table; the front."""
    table.to_csv(folder / "trials.csv", index=False)
    shown = json.loads(table.to_json(orient="split", index=False, double_precision=15))
    text = json.dumps({"columns": shown["columns"], "data": shown["data"]}, ensure_ascii=False)
    (folder / TABLE).write_text(text, encoding="utf-8")
    members = table[table["on_front"]]
    members.to_csv(folder / "front.csv", index=False)
    members.to_json(folder / "front.json", orient="records", indent=2, force_ascii=False, double_precision=15)


def draw(
    folder: Path,
    name: str,
    table: pd.DataFrame,
    objectives: Mapping[str, Literal["min", "max"]],
    hypervolumes: Sequence[float],
) -> None:
    """The front (page, PNG, SVG; needs two objectives) and how it grew."""
    from dashboards.figures import recorded  # load both drawing libraries
    from dashboards.ink import paper  # load both drawing libraries

    recorded.hypervolume_png(recorded.hypervolume_numbers(hypervolumes), folder / "hypervolume.png")
    if len(objectives) > 1:
        numbers = recorded.front_numbers(table, objectives)
        (folder / "front.html").write_text(recorded.front_html(numbers, title=name), encoding="utf-8")
        recorded.front_png(numbers, folder / "front.png")
        recorded.front_png(numbers, folder / "front.svg")
        paper.save(recorded.front_chart(numbers), folder / SMALL, width_in=_SMALL_IN)
