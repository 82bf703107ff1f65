"""Tables to pictures in two steps: the numbers first, then a Chart of them, which either ink draws.

Plotly for the screen (`screen`), matplotlib for paper (`paper`). No drawing depends on the network.
Each figure has a module of its own; here are the two that a sweep's record shows, in the calls that it needs.
"""

from __future__ import annotations

import html
from pathlib import Path

import plotly.graph_objects as go

from dashboards.document.document import Table
from dashboards.document.page import page
from dashboards.document.writers import html_table
from dashboards.figures.front import front_chart, spread
from dashboards.figures.growth import HypervolumeNumbers, hypervolume_chart, hypervolume_numbers
from dashboards.figures.numbers import FrontNumbers, front_numbers
from dashboards.ink import paper, screen

__all__ = [
    "FrontNumbers",
    "HypervolumeNumbers",
    "front_chart",
    "front_html",
    "front_numbers",
    "front_plotly",
    "front_png",
    "hypervolume_chart",
    "hypervolume_numbers",
    "hypervolume_plotly",
    "hypervolume_png",
]


def front_plotly(numbers: FrontNumbers) -> go.Figure:
    """The front for the screen: every trial's numbers on hovering, methods switched by the legend."""
    return screen.plotly(front_chart(numbers))


def front_png(numbers: FrontNumbers, path: Path) -> None:
    """The front on paper. The suffix of `path` chooses the format: .png, .svg or .pdf."""
    paper.save(front_chart(numbers), path)


def front_html(numbers: FrontNumbers, *, title: str = "Pareto front") -> str:
    """One page that needs no network, no storage and no other page: figure, caption, table of the front."""
    body = f"{screen.embedded(front_chart(numbers))}<p>{html.escape(numbers.caption)}</p>{html_table(_table(numbers))}"
    return page(title, body)


def _table(numbers: FrontNumbers) -> Table:
    rows = tuple(
        (str(p.number), p.name, f"{p.x:.4f}{spread(p.x_std)}", f"{p.y:.4f}{spread(p.y_std)}") for p in numbers.front
    )
    return Table(("trial", "configuration", numbers.x.title, numbers.y.title), rows, words=(0, 1))


def hypervolume_plotly(numbers: HypervolumeNumbers) -> go.Figure:
    """How the front grew, for the screen."""
    return screen.plotly(hypervolume_chart(numbers))


def hypervolume_png(numbers: HypervolumeNumbers, path: Path) -> None:
    """How the front grew, on paper (.png, .svg or .pdf)."""
    paper.save(hypervolume_chart(numbers), path)
