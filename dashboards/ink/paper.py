"""A Chart on paper: matplotlib, without pyplot's global state, so that a thread may draw."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, NullLocator

from dashboards.ink.chart import Band, Chart, Panel, ReferenceLine, Scale, Series, longest, slant, upright
from dashboards.ink.style import LIGHT, SPREAD_OPACITY, Theme

DPI = 100  # at which a pixel of the canvas is a pixel of the picture
COLUMN_IN, PAGE_IN = 3.35, 6.9  # widths of a column and of a page, in inches, as conferences set them
_POINT = 72 / DPI
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN, _BELOW = 68, 16, 30, 62, 70, 36
_DASH: Mapping[str, Literal["-", "--", ":", "-."]] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def save(chart: Chart, path: Path, *, theme: Theme = LIGHT, width_in: float | None = None) -> None:
    """Write the picture. The suffix of `path` chooses the format: .png, .svg or .pdf.

    `width_in`: scale it, letters and all, to this width in inches. `COLUMN_IN` with a canvas of
    `chart.COLUMN` gives letters of 6 to 7 points.
    """
    figure = draw(chart, theme=theme, width_in=width_in)
    figure.savefig(path, dpi=300 if width_in else 2 * DPI, facecolor=theme.paper)


def draw(chart: Chart, *, theme: Theme = LIGHT, width_in: float | None = None) -> Figure:
    """The picture, not yet written."""
    count, (wide, high) = len(chart.panels), chart.panel
    titled = any(panel.title for panel in chart.panels) and count > 1
    top = _TOP + 16 * (_legend_rows(chart) - 1) + 14 * titled
    width = chart.canvas[0] + _LEFT * 1.0 + _RIGHT + _BETWEEN * (chart.columns - 1)
    foot = _wrapped(chart.caption, width - _RIGHT)
    ticks = max((name.count("\n") for panel in chart.panels for name in panel.x.names), default=0)
    bottom = _BOTTOM + 15 * foot.count("\n") + 12 * max(0, ticks - 1) + _slant(chart)
    below = _BELOW + (_slant(chart) if chart.rows > 1 else 0)
    height = chart.canvas[1] + top + bottom + below * (chart.rows - 1)
    scale = (width_in or width / DPI) / (width / DPI)
    figure = Figure(figsize=(width / DPI * scale, height / DPI * scale))
    for index, panel in enumerate(chart.panels):
        row, column = divmod(index, chart.columns)
        left, low = _LEFT + column * (wide + _BETWEEN), bottom + (chart.rows - 1 - row) * (high + below)
        axes = figure.add_axes((left / width, low / height, wide / width, high / height))
        _panel(axes, panel, theme, scale, titled=count > 1)
    _legend(figure, chart, theme, scale, (_LEFT / width, 1 - 4 / height))
    figure.text(8 / width, 6 / height, _text(foot), fontsize=7 * scale, color=theme.muted, va="bottom")
    return figure


def _text(text: str) -> str:
    """The text as it is: matplotlib sets what stands between two dollars as mathematics."""
    return text.replace("$", r"\$")


def _wrapped(text: str, width: float) -> str:
    """The caption in lines of `width` pixels (5.2 a letter at 7 points)."""
    return "\n".join(textwrap.wrap(text, int(width / 5.2)))


def _slant(chart: Chart) -> float:
    """Room for names that must be written slanted, in pixels."""
    width, _ = chart.panel
    turned = [(name, slant(panel.x.names, width)) for panel in chart.panels for name in panel.x.names]
    return max(
        (5.0 * len(upright(name)) if angle == 90 else 4.5 * longest(name) for name, angle in turned if angle), default=0
    )


def _panel(axes: Axes, panel: Panel, theme: Theme, scale: float, *, titled: bool) -> None:
    _dress(axes, theme, scale)
    for band in panel.bands:
        _area(axes, band, theme)
    bars = [series for series in panel.series if series.draw == "bars"]
    for series in panel.series:
        place = (bars.index(series), len(bars)) if series in bars else (0, 1)
        _series(axes, series, theme, scale, place)
    for label in panel.labels:
        axes.annotate(
            _text(label.text), (label.x, label.y), (label.dx * _POINT * scale, label.dy * _POINT * scale),
            textcoords="offset points", fontsize=8 * scale, color=theme.ink, ha="center", va="center", zorder=6,
            arrowprops={"arrowstyle": "-", "color": theme.muted, "linewidth": 0.6 * scale, "shrinkA": 0,
                        "shrinkB": 4 * scale},
        )  # fmt: skip
    _scale(axes, "x", panel.x, scale)
    _scale(axes, "y", panel.y, scale)
    for line in panel.reference_lines:
        (axes.axvline if line.axis == "x" else axes.axhline)(
            line.value, color=theme.colour(line.look.colour), linewidth=scale, linestyle="--", zorder=2
        )
    for line in panel.reference_lines:  # now that they have set the axes' ends
        _reference_text(axes, line, theme, scale)
    if titled:
        axes.set_title(_text(panel.title), fontsize=9 * scale, color=theme.ink, loc="left")


def _dress(axes: Axes, theme: Theme, scale: float) -> None:
    axes.set_facecolor(theme.paper)
    axes.grid(color=theme.grid, linewidth=0.6 * scale)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.muted)
    axes.spines[["left", "bottom"]].set_linewidth(0.8 * scale)
    axes.tick_params(which="both", labelsize=8 * scale, colors=theme.ink, length=3.5 * scale, width=0.8 * scale)
    axes.tick_params(which="both", pad=3.5 * scale)
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)


def _series(axes: Axes, series: Series, theme: Theme, scale: float, place: tuple[int, int]) -> None:
    colour = theme.colour(series.look.colour)
    if series.draw == "bars":
        _bar(axes, series, colour, scale, place)
        return
    if series.draw == "bins":
        begins = list(series.base) or 0
        width = 0.94 * series.width
        axes.bar(list(series.x), list(series.y), width, begins, color=colour, alpha=series.alpha, zorder=3)
        return
    line = "none" if series.draw == "points" else _DASH[series.look.dash]
    _, caps, lines = axes.errorbar(
        list(series.x),
        list(series.y),
        xerr=_lengths(series.x_error),
        yerr=_lengths(series.error),
        marker=series.look.symbol.matplotlib if series.size else "",
        linestyle=line,
        linewidth=series.thick * scale,
        drawstyle="steps-post" if series.draw == "steps" else "default",
        markersize=series.size * _POINT * scale,
        color=colour,
        markeredgecolor=theme.ink if series.ringed else "none",
        markeredgewidth=0.8 * scale if series.ringed else 0,
        elinewidth=scale,
        capsize=2 * scale,
        capthick=scale,
        alpha=series.alpha,
        zorder=4 if series.draw == "points" and series.opacity == 1 else 3 if series.opacity == 1 else 2,
    )
    for part in (*caps, *lines):
        part.set_alpha(SPREAD_OPACITY * series.alpha)


def _bar(axes: Axes, series: Series, colour: str, scale: float, place: tuple[int, int]) -> None:
    index, count = place
    width = 0.8 / count
    x = np.asarray(series.x) + (index - (count - 1) / 2) * width
    errors = _lengths(series.error)
    axes.bar(x, list(series.y), width=width * 0.92, color=colour, alpha=series.alpha, zorder=3)
    if errors is not None:
        axes.errorbar(x, list(series.y), yerr=errors, fmt="none", ecolor=axes.xaxis.label.get_color(), zorder=4,
                      elinewidth=scale, capsize=1.5 * scale)  # fmt: skip


def _lengths(lengths: Sequence[float]) -> list[float] | None:
    """Half-lengths with 0 where there is none; None where there is none at all."""
    if not len(lengths) or all(math.isnan(length) for length in lengths):
        return None
    return [0.0 if math.isnan(length) else length for length in lengths]


def _area(axes: Axes, band: Band, theme: Theme) -> None:
    axes.fill_between(
        list(band.x), list(band.low), list(band.high), step="post" if band.steps else None,
        color=theme.colour(band.look.colour), alpha=0.18, linewidth=0, zorder=1,
    )  # fmt: skip


def _reference_text(axes: Axes, line: ReferenceLine, theme: Theme, scale: float) -> None:
    """Beside an upright line; above a level one in the lower half, else below it."""
    text: dict[str, Any] = {"fontsize": 7 * scale, "color": theme.muted, "textcoords": "offset points"}
    if line.axis == "x":
        text |= {"xycoords": ("data", "axes fraction"), "ha": "right", "va": "top"}
        axes.annotate(_text(line.text), (line.value, 1), (-3, -3), **text)
        return
    _, share = axes.transAxes.inverted().transform(axes.transData.transform((axes.get_xlim()[0], line.value)))
    side = ("bottom", 2) if share < 0.5 else ("top", -3)
    text |= {"xycoords": ("axes fraction", "data"), "ha": "left", "va": side[0]}
    axes.annotate(_text(line.text), (0, line.value), (3, side[1]), **text)


def _scale(axes: Axes, which: str, scale: Scale, factor: float) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_label_text(_text(scale.title), fontsize=9 * factor)
    axis.labelpad = 4 * factor
    if scale.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        axis.set_minor_formatter(NullFormatter())
    if scale.low is not None and scale.high is not None:
        (axes.set_xlim if which == "x" else axes.set_ylim)(scale.low, scale.high)
    if scale.ticks:
        axis.set_minor_locator(NullLocator())
        axis.set_ticks(list(scale.ticks), [f"{tick:g}" for tick in scale.ticks])
    if scale.names:
        width = axes.get_window_extent().width / axes.figure.dpi * DPI / factor
        angle = slant(scale.names, width) if which == "x" else 0
        names = map(upright, scale.names) if angle == 90 else scale.names
        axis.set_ticks(range(len(scale.names)), [_text(name) for name in names])
        if angle:
            axes.tick_params(axis="x", rotation=angle)
            for text in axes.get_xticklabels():
                text.set_horizontalalignment("right")
                text.set_verticalalignment("center" if angle == 90 else "top")
                text.set_rotation_mode("anchor")


def _legend_rows(chart: Chart) -> int:
    letters = sum(len(series.name) * 6 + 34 for series in chart.keys)
    return max(1, math.ceil(letters / (chart.canvas[0] + _RIGHT)))


def _legend(figure: Figure, chart: Chart, theme: Theme, scale: float, corner: tuple[float, float]) -> None:
    keys = [_key(series, theme, scale) for series in chart.keys]
    if keys:
        figure.legend(
            handles=keys, loc="upper left", bbox_to_anchor=corner, ncols=math.ceil(len(keys) / _legend_rows(chart)),
            frameon=False, fontsize=8 * scale, columnspacing=1.2, handletextpad=0.4, borderpad=0, borderaxespad=0,
            labelcolor=theme.ink,
        )  # fmt: skip


def _key(series: Series, theme: Theme, scale: float) -> Line2D | Patch:
    colour = theme.colour(series.look.colour)
    if series.draw in ("bars", "bins"):
        return Patch(facecolor=colour, alpha=series.alpha, linewidth=0, label=_text(series.name))
    return Line2D(
        [], [], color=colour, label=_text(series.name), linewidth=1.4 * scale,
        linestyle="none" if series.draw == "points" else _DASH[series.look.dash],
        marker=series.look.symbol.matplotlib if series.size else "none", markeredgewidth=scale,
        markersize=min(series.size, 10) * _POINT * scale,
        alpha=series.alpha,
    )  # fmt: skip
