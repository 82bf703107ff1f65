"""Tables to pictures in two steps: the numbers first (`numbers`), then ink.

Plotly for the screen, matplotlib for paper. No drawing depends on the network, nor on pyplot's
global state: a thread may draw.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dashboards.numbers import (
    CANVAS,
    FrontNumbers,
    HypervolumeNumbers,
    Point,
    front_numbers,
    hypervolume_numbers,
)
from dashboards.style import BLUE, CROSS, GRID, INK, MUTED, STAR, Look, Symbol, looks

__all__ = [
    "FrontNumbers",
    "HypervolumeNumbers",
    "front_html",
    "front_numbers",
    "front_plotly",
    "front_png",
    "hypervolume_numbers",
    "hypervolume_plotly",
    "hypervolume_png",
]

_DPI = 100  # at which a pixel of the numbers' canvas is a pixel of the picture
_POINT = 72 / _DPI
_MARGIN = {"left": 80, "right": 20, "top": 45, "bottom": 85}

_CONTROLS = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["zoom2d", "pan2d", "autoScale2d", "resetScale2d"]],
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff;
        margin: 1rem auto; max-width: 62rem; padding: 0 1rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ text-align: right; padding: .25rem .9rem; border-bottom: 1px solid #ddd }}
th:nth-child(2), td:nth-child(2) {{ text-align: left }}
p {{ color: #555 }}
</style></head><body>
<h1>{title}</h1>
{figure}
<p>{caption}</p>
{table}
</body></html>
"""


def _strong(point: Point) -> bool:
    return point.on_front or point.baseline is not None


def _symbol(point: Point, look: Look) -> Symbol:
    if not point.feasible:
        return CROSS
    return STAR if point.baseline else look.symbol


def _spread(value: float) -> str:
    return "" if math.isnan(value) else f" ± {value:.4f}"


def front_plotly(numbers: FrontNumbers) -> go.Figure:
    """The front for the screen: every trial's numbers on hovering, methods switched by the legend."""
    figure = go.Figure()
    if numbers.outline:
        xs, ys = zip(*numbers.outline, strict=True)
        figure.add_scatter(x=xs, y=ys, mode="lines", name="front", line={"color": INK, "width": 1.5}, hoverinfo="skip")
    styles = looks(numbers.methods)
    for method, look in styles.items():
        members = [p for p in numbers.points if p.method == method]
        for chosen in ([p for p in members if not _strong(p)], [p for p in members if _strong(p)]):
            if chosen:
                figure.add_trace(_cloud(chosen, numbers, look))
    for name, symbol, colour in _keys(numbers, styles):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            legendgroup=name,
            marker={"symbol": symbol.plotly, "size": 11, "color": colour},
        )
    for label in numbers.labels:
        figure.add_annotation(
            x=label.x, y=label.y, text=html.escape(label.text), ax=label.dx, ay=-label.dy, font={"size": 11},
            showarrow=True, arrowhead=0, arrowwidth=0.7, arrowcolor=MUTED, standoff=6,
        )  # fmt: skip
    _dress(figure, numbers.x.title, numbers.y.title)
    figure.update_xaxes(range=[numbers.x.low, numbers.x.high])
    figure.update_yaxes(range=[numbers.y.low, numbers.y.high])
    return figure


def _cloud(points: Sequence[Point], numbers: FrontNumbers, look: Look) -> go.Scatter:
    """Points of one method that are all strong (on the front, or a baseline), or all not."""
    strong = _strong(points[0])
    bars = {"color": look.colour, "thickness": 1.2, "width": 3}
    return go.Scatter(
        x=[p.x for p in points],
        y=[p.y for p in points],
        error_x={"array": [_or_none(p.x_std) for p in points], **bars} if strong else None,
        error_y={"array": [_or_none(p.y_std) for p in points], **bars} if strong else None,
        mode="markers",
        name=points[0].method,
        legendgroup=points[0].method,
        showlegend=False,
        text=[_hover(p, numbers) for p in points],
        hovertemplate="%{text}<extra></extra>",
        marker={
            "color": look.colour,
            "symbol": [_symbol(p, look).plotly for p in points],
            "size": [15 if p.baseline else 10 if p.on_front else 8 for p in points],
            "opacity": 1.0 if strong else 0.4,
            "line": {"color": INK, "width": [1.0 if p.on_front else 0.0 for p in points]},
        },
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _hover(point: Point, numbers: FrontNumbers) -> str:
    place = "on the front" if point.on_front else "dominated" if point.feasible else "breaks a constraint"
    return "<br>".join(
        [
            f"<b>{html.escape(point.name)}</b>",
            f"{numbers.x.name} {point.x:.4f}{_spread(point.x_std)}",
            f"{numbers.y.name} {point.y:.4f}{_spread(point.y_std)}",
            f"trial {point.number}, {place}",
        ]
    )


def _keys(numbers: FrontNumbers, styles: Mapping[str, Look]) -> list[tuple[str, Symbol, str]]:
    """The legend: name, shape and colour of each method, then of what is marked otherwise."""
    keys = [(method, look.symbol, look.colour) for method, look in styles.items()]
    keys += [("baseline", STAR, MUTED)] if numbers.baselines else []
    return [*keys, ("breaks a constraint", CROSS, MUTED)] if numbers.infeasible else keys


def _dress(figure: go.Figure, x_title: str, y_title: str) -> None:
    figure.update_layout(
        template="plotly_white",
        font={"color": INK, "size": 13},
        height=CANVAS[1] + _MARGIN["top"] + _MARGIN["bottom"],
        margin={"l": _MARGIN["left"], "r": _MARGIN["right"], "t": _MARGIN["top"], "b": _MARGIN["bottom"]},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(title=x_title, zeroline=False, gridcolor=GRID)
    figure.update_yaxes(title=y_title, zeroline=False, gridcolor=GRID)


def front_html(numbers: FrontNumbers, *, title: str = "Pareto front") -> str:
    """One page that needs no network, no storage and no other page: figure, caption, table of the front."""
    figure = front_plotly(numbers).to_html(full_html=False, include_plotlyjs=True, config=_CONTROLS)
    return _PAGE.format(
        title=html.escape(title), figure=figure, caption=html.escape(numbers.caption), table=_table(numbers)
    )


def _table(numbers: FrontNumbers) -> str:
    head = ("trial", "configuration", numbers.x.title, numbers.y.title)
    rows = [
        (str(p.number), p.name, f"{p.x:.4f}{_spread(p.x_std)}", f"{p.y:.4f}{_spread(p.y_std)}") for p in numbers.front
    ]
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table><thead><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr></thead>\n{body}</table>"


def front_png(numbers: FrontNumbers, path: Path) -> None:
    """The front on paper. The suffix of `path` chooses the format: .png, .svg or .pdf."""
    figure, axes = _sheet()
    if numbers.outline:
        axes.plot(*zip(*numbers.outline, strict=True), color=INK, linewidth=1.2, zorder=2)
    styles = looks(numbers.methods)
    for point in numbers.points:
        _draw(axes, point, styles[point.method])
    for label in numbers.labels:
        axes.annotate(
            label.text, (label.x, label.y), (label.dx * _POINT, label.dy * _POINT), textcoords="offset points",
            fontsize=8, ha="center", va="center", zorder=6,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
    axes.set(xlim=(numbers.x.low, numbers.x.high), ylim=(numbers.y.low, numbers.y.high))
    axes.set(xlabel=numbers.x.title, ylabel=numbers.y.title)
    keys = [Line2D([], [], color=INK, linewidth=1.2, label="front")] if numbers.outline else []
    keys += [_key(*key) for key in _keys(numbers, styles)]
    if keys:
        figure.legend(
            handles=keys, loc="upper left", bbox_to_anchor=(0.095, 1), ncols=8, frameon=False, fontsize=8,
            columnspacing=1.2, handletextpad=0.4,
        )  # fmt: skip
    figure.text(0.02, 0.015, numbers.caption, fontsize=7, color=MUTED)
    figure.savefig(path, dpi=2 * _DPI)


def _sheet() -> tuple[Figure, Axes]:
    """A sheet whose axes are as large as the canvas on which the labels were placed."""
    width = CANVAS[0] + _MARGIN["left"] + _MARGIN["right"]
    height = CANVAS[1] + _MARGIN["top"] + _MARGIN["bottom"]
    figure = Figure(figsize=(width / _DPI, height / _DPI))
    axes = figure.add_axes((_MARGIN["left"] / width, _MARGIN["bottom"] / height, CANVAS[0] / width, CANVAS[1] / height))
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw(axes: Axes, point: Point, look: Look) -> None:
    strong = _strong(point)
    axes.errorbar(
        [point.x],
        [point.y],
        xerr=None if math.isnan(point.x_std) else [point.x_std],
        yerr=None if math.isnan(point.y_std) else [point.y_std],
        fmt=_symbol(point, look).matplotlib,
        markersize=12 if point.baseline else 7 if point.on_front else 5.5,
        color=look.colour,
        markeredgecolor=INK if point.on_front else "none",
        markeredgewidth=0.8,
        elinewidth=1.0 if strong else 0.5,
        capsize=2 if strong else 0,
        alpha=1.0 if strong else 0.35,
        zorder=4 if strong else 3,
    )


def _key(name: str, symbol: Symbol, colour: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=symbol.matplotlib, color=colour, markersize=7, label=name)


_FINISHED, _VOLUME = "finished trials", "hypervolume (higher is better)"


def hypervolume_plotly(numbers: HypervolumeNumbers) -> go.Figure:
    """How the front grew, for the screen."""
    figure = go.Figure()
    figure.add_scatter(
        x=numbers.finished,
        y=numbers.hypervolume,
        mode="lines",
        line={"shape": "hv", "color": BLUE, "width": 2},
        hovertemplate="%{y:.4f} after %{x} trials<extra></extra>",
    )
    _dress(figure, _FINISHED, _VOLUME)
    return figure


def hypervolume_png(numbers: HypervolumeNumbers, path: Path) -> None:
    """How the front grew, on paper (.png, .svg or .pdf)."""
    figure, axes = _sheet()
    axes.step(numbers.finished, numbers.hypervolume, where="post", color=BLUE, linewidth=1.6)
    axes.set(xlabel=_FINISHED, ylabel=_VOLUME)
    figure.savefig(path, dpi=2 * _DPI)
