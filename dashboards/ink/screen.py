"""A Chart as a plotly figure, for notebooks: numbers under the cursor, series switched by the legend."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.ink.chart import Band, Chart, Panel, ReferenceLine, Scale, Series, slant
from dashboards.ink.style import LIGHT, SPREAD_OPACITY, Theme

MARGIN = {"l": 80, "r": 20, "t": 60, "b": 70}


def plotly(chart: Chart, theme: Theme = LIGHT) -> go.Figure:
    """The chart as a plotly figure."""
    figure = make_subplots(
        rows=chart.rows,
        cols=chart.columns,
        subplot_titles=[_text(panel.title) for panel in chart.panels] if len(chart.panels) > 1 else None,
        horizontal_spacing=min(0.12, 1 / (chart.columns + 2)),
        vertical_spacing=0.12,
    )
    seen: set[str] = set()
    for index, panel in enumerate(chart.panels):
        row, column = divmod(index, chart.columns)
        _draw(figure, panel, {"row": row + 1, "col": column + 1}, theme, seen, chart.panel[0])
    font = {"color": theme.ink, "size": 13}
    figure.update_layout(
        font=font,
        paper_bgcolor=theme.paper,
        plot_bgcolor=theme.paper,
        height=chart.canvas[1] + MARGIN["t"] + MARGIN["b"],
        margin=MARGIN,
        barmode="group",
        legend={"orientation": "h", "x": 0, "y": 1.03 if len(chart.panels) == 1 else 1.1, "yanchor": "bottom"},
        hoverlabel={"font": {"color": theme.ink}, "bgcolor": theme.paper, "bordercolor": theme.muted},
    )
    figure.update_annotations(font_color=theme.ink)
    return figure


def _draw(figure: go.Figure, panel: Panel, at: dict[str, int], theme: Theme, seen: set[str], width: float) -> None:
    for band in panel.bands:
        for trace in _area(band, theme):
            figure.add_trace(trace, **at)
    for series in panel.series:
        figure.add_trace(_trace(series, panel, theme, first=series.key and series.name not in seen), **at)
        seen |= {series.name} if series.key else set()
    for line in panel.reference_lines:  # after the series: plotly leaves out what is drawn on an empty panel
        _reference_line(figure, line, theme, at)
    for label in panel.labels:
        figure.add_annotation(
            x=_placed(label.x, panel.x), y=_placed(label.y, panel.y), text=_text(label.text), ax=label.dx,
            ay=-label.dy, font={"size": 11, "color": theme.ink}, showarrow=True, arrowhead=0, arrowwidth=0.7,
            arrowcolor=theme.muted, standoff=6, **at,
        )  # fmt: skip
    angle = slant(panel.x.names, width)
    slanted = {"tickangle": -angle, "tickfont": {"size": 11}, "automargin": True} if angle else {}
    figure.update_xaxes(**_axis(panel.x, theme), **slanted, **at)
    figure.update_yaxes(**_axis(panel.y, theme), **at)


def _placed(value: float, scale: Scale) -> float:
    """plotly wants the logarithm of an annotation's place on a logarithmic axis."""
    return math.log10(value) if scale.log else value


def _trace(series: Series, panel: Panel, theme: Theme, *, first: bool) -> go.Scatter | go.Bar:
    colour = theme.colour(series.look.colour)
    common: dict[str, Any] = {
        "x": list(series.x) or [None],  # a series of nothing still has its line in the legend
        "y": list(series.y) or [None],
        "name": _text(series.name),
        "legendgroup": series.name,
        "showlegend": first,
        "text": [_text(text) for text in series.hover] or None,
        "hovertemplate": "%{text}<extra></extra>" if series.hover else None,
        "opacity": series.alpha,
        "error_y": _bars(series.error, colour),
    }
    if series.draw == "bins":
        own = {"base": list(series.base) or None, "width": 0.94 * series.width, "offset": -0.47 * series.width}
        return go.Bar(**common, **own, marker={"color": colour}, textposition="none")
    if series.draw == "bars":
        return go.Bar(**common, marker={"color": colour}, textposition="none")
    line = {"color": colour, "width": series.thick, "dash": series.look.dash}
    ring = {"color": theme.ink if series.ringed else colour, "width": 1.0 if series.ringed else 0.0}
    return go.Scatter(
        **common,
        error_x=_bars(series.x_error, colour),
        mode="markers" if series.draw == "points" else "lines" if series.size == 0 else "lines+markers",
        line={**line, "shape": "hv" if series.draw == "steps" else "linear"},
        marker={"color": colour, "symbol": series.look.symbol.plotly, "size": series.size, "line": ring},
        hoverinfo=None if series.hover or series.draw == "points" else "skip" if not series.key else None,
    )


def _text(text: str) -> str:
    """Lines of text in plotly's own small HTML, which has no `&quot;`. A name that looks like a tag or TeX is text.

    plotly sets text between dollars as TeX where a page has MathJax, as notebooks do.
    """
    return html.escape(text, quote=False).replace("$", "&#36;").replace("\n", "<br>")


def _bars(lengths: Sequence[float], colour: str) -> dict[str, Any] | None:
    if not len(lengths) or all(math.isnan(length) for length in lengths):
        return None
    array = [None if math.isnan(length) else length for length in lengths]
    return {"array": array, "color": _faded(colour, SPREAD_OPACITY), "thickness": 1.2, "width": 3}


def _faded(colour: str, opacity: float) -> str:
    return "rgba({},{},{},{})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)), opacity)


def _area(band: Band, theme: Theme) -> list[go.Scatter]:
    shape = {"width": 0, "shape": "hv" if band.steps else "linear"}
    fill = _faded(theme.colour(band.look.colour), 0.18)
    common = {"mode": "lines", "line": shape, "hoverinfo": "skip", "showlegend": False, "legendgroup": band.name}
    return [
        go.Scatter(x=list(band.x), y=list(band.low), **common),
        go.Scatter(x=list(band.x), y=list(band.high), fill="tonexty", fillcolor=fill, **common),
    ]


def _reference_line(figure: go.Figure, reference: ReferenceLine, theme: Theme, at: dict[str, int]) -> None:
    line = {"color": theme.colour(reference.look.colour), "width": 1.2, "dash": "dash"}
    text = {"text": _text(reference.text), "font": {"size": 11, "color": theme.muted}}
    if reference.axis == "x":
        figure.add_vline(reference.value, line=line, annotation=text, annotation_position="top left", **at)
    else:
        figure.add_hline(reference.value, line=line, annotation=text, annotation_position="bottom left", **at)


def _axis(scale: Scale, theme: Theme) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "title": _text(scale.title),
        "zeroline": False,
        "gridcolor": theme.grid,
        "linecolor": theme.grid,
    }
    if scale.log:
        shown |= {"type": "log"}
    if scale.low is not None and scale.high is not None:
        shown["range"] = [_placed(scale.low, scale), _placed(scale.high, scale)]
    if scale.ticks:
        shown |= {"tickmode": "array", "tickvals": list(scale.ticks), "ticktext": [f"{tick:g}" for tick in scale.ticks]}
    if scale.names:
        names = [_text(name) for name in scale.names]
        shown |= {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names}
    return shown
