"""A Chart or an Explorer as JSON, for the script that draws it on a page. Numbers have six digits, nan is null."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from dashboards.ink.chart import Band, Chart, Label, Panel, ReferenceLine, Scale, Series
from dashboards.ink.explorer import Explorer
from dashboards.ink.style import FAINT, NEUTRAL, Look

HUES = {NEUTRAL: "ink", FAINT: "muted"}  # what a page's style calls them


def written(drawn: Chart | Explorer) -> str:
    """The JSON as it stands in a page: no tag or comment begins in it."""
    body = _chart(drawn) if isinstance(drawn, Chart) else _explorer(drawn)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _chart(chart: Chart) -> dict[str, Any]:
    return {"panels": [_panel(panel) for panel in chart.panels], "rows": chart.rows, "height": chart.canvas[1]}


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "x": _scale(panel.x),
        "y": _scale(panel.y),
        "series": [_series(series) for series in panel.series],
        "bands": [_band(band) for band in panel.bands],
        "lines": [_line(line) for line in panel.reference_lines],
        "labels": [_label(label) for label in panel.labels],
    }


def _scale(scale: Scale) -> dict[str, Any]:
    ends = {"low": _number(scale.low), "high": _number(scale.high)}
    return {"title": scale.title, "log": scale.log, "ticks": list(scale.ticks), "names": list(scale.names), **ends}


def _series(series: Series) -> dict[str, Any]:
    hover = list(series.hover)
    return {
        "name": series.name,
        "draw": series.draw,
        **_look(series.look),
        **{name: _numbers(getattr(series, name)) for name in ("x", "y", "base", "error", "x_error")},
        "hover": hover[:1] if len(set(hover)) == 1 else hover,
        **{name: getattr(series, name) for name in ("width", "size", "ringed", "thick", "key")},
        "opacity": round(series.alpha, 3),
    }


def _look(look: Look) -> dict[str, str]:
    return {"hue": HUES.get(look.colour, look.colour), "symbol": look.symbol.plotly, "dash": look.dash}


def _band(band: Band) -> dict[str, Any]:
    ends = {name: _numbers(getattr(band, name)) for name in ("x", "low", "high")}
    return {**ends, "hue": _look(band.look)["hue"], "steps": band.steps}


def _line(line: ReferenceLine) -> dict[str, Any]:
    return {"axis": line.axis, "value": line.value, "text": line.text, "hue": _look(line.look)["hue"]}


def _label(label: Label) -> dict[str, Any]:
    return {"texts": [label.text], "x": label.x, "y": label.y, "towards": [label.dx, label.dy]}


def _explorer(drawn: Explorer) -> dict[str, Any]:
    return {
        "columns": [
            {name: getattr(column, name) for name in ("name", "title", "word", "axis", "log", "whole", "digits")}
            for column in drawn.columns
        ],
        "rows": [[_number(cell) if isinstance(cell, float) else cell for cell in row] for row in drawn.rows],
        "spread": {c: _numbers(column.spread) for c, column in enumerate(drawn.columns) if len(column.spread)},
        "place": list(drawn.places),
        "method": list(drawn.methods),
        "looks": {method: _look(look) for method, look in drawn.looks.items()},
        "front": [_numbers(point) for point in drawn.front],
        "labels": [{"row": row, "texts": list(texts)} for row, texts in drawn.names],
        "lines": [_line(line) for line in drawn.lines],
        **{name: getattr(drawn, name) for name in ("x", "y", "view", "chosen", "towards", "far", "hint", "height")},
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(float(value)) for value in values]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
