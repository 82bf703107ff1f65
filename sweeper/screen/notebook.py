"""A finished or running sweep in a notebook: `from sweeper import Sweep; Sweep.load("x").front()`."""

from __future__ import annotations

import html
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sweeper.errors import UserError
from sweeper.front.recommend import Recommendation
from sweeper.results import held_out, summary
from sweeper.results.results import Results
from sweeper.spec.model import NAME
from sweeper.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from dashboards.ink.chart import Chart


class Sweep:
    """What a sweep has found, at the moment it was loaded. Tables are copies: change them as you like.

    >>> Sweep.load("my-first-sweep").front()                                     # doctest: +SKIP
    >>> Sweep.load("my-first-sweep").recommend(accuracy=0.82)                    # doctest: +SKIP
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._results = Results.open(folder)

    @classmethod
    def load(cls, name: str, root: str | Path | None = None) -> Sweep:
        """The sweep of that name under `root` (else `SWEEPER_ROOT`, else `./sweeps`).

        Raises:
            UserError: there is none.
        """
        if not re.match(NAME, name):
            raise UserError(f"'{name}' is not a sweep's name. 'sweeper list' shows those there are.")
        return cls(SweepFolder(Path(root or os.environ.get("SWEEPER_ROOT") or "sweeps") / name))

    def reload(self) -> Sweep:
        """The same sweep as it is now."""
        return Sweep(self._folder)

    # --- tables

    def trials(self) -> pd.DataFrame:
        """One row per trial, by number: params, validation means with `_std`, whether it is on the front."""
        return self._results.trials_table.set_index("number")

    def front(self) -> pd.DataFrame:
        """The members of the front, best first objective first; `called` has the names of those that have one."""
        order = [trial.number for trial in self._results.members]
        called = {number: name for name, number in self._results.named.items()}
        members = self.trials().loc[order]
        return members.assign(called=[called.get(number, "") for number in order])

    def fits(self) -> pd.DataFrame:
        """One row per trial and seed."""
        return self._results.fits_table.copy()

    def groups(self) -> pd.DataFrame:
        """One row per trial, seed and group, with its count."""
        return self._results.groups_table.copy()

    def epochs(self) -> pd.DataFrame:
        """One row per trial, seed and epoch."""
        return self._results.epochs_table.copy()

    def test(self) -> pd.DataFrame:
        """The test split's means of the chosen points, apart from all else: they choose nothing."""
        measured = held_out.read(self._results)
        rows = {number: {name: mean for name, (mean, _) in row.items()} for number, row in measured.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("number")

    # --- the choice

    def recommend(self, **bounds: float) -> Recommendation | None:
        """The knee, or what is best with an objective within a bound: `recommend(accuracy=0.82)`.

        Raises:
            UserError: a bound on what is no objective, or one that no member of the front keeps.
        """
        return self._results.recommendation(bounds or None)

    def pull(self, which: str = "knee", out: str | Path | None = None, *, merge: bool = False) -> Path:
        """The adapter of a point (`knee`, `most-accurate`, `fairest`, a trial's number) as a folder for plain peft."""
        from sweeper.models import folder as hand

        return hand.pull(self._folder, which, Path(out or f"{self._folder.name}-{which}"), merge=merge)

    # --- pictures

    def figure(self, which: str = "front", *metrics: str) -> go.Figure:
        """A plotly figure: front, growth, lambda, rank, groups, calibration, importance, parallel, surface.

        Or one of the papers', each method at its most accurate point: `methods`, `groups by size`, and so on.
        `front`, `lambda`, `rank`, `importance` and `parallel` show the objectives, or the metrics that are named:
        `figure("rank", "accuracy", "ece")`.

        Raises:
            UserError: no figure or metric of that name, or too little to draw it.
        """
        from dashboards.ink import screen as ink

        return ink.plotly(self._chart(which, *metrics))

    def _chart(self, which: str, *metrics: str) -> Chart:
        from sweeper.report import evidence

        chart = evidence.draw(self._results, which, metrics)
        if chart is None:
            raise UserError(f"too little to draw '{which}': it needs more trials, or another objective or parameter.")
        return chart

    def __repr__(self) -> str:
        return f"Sweep({summary.headline(self._results)})"

    def _repr_html_(self) -> str:
        """Where it stands, the front as a picture that needs no script, and as a table."""
        parts = [f"<p><b>{html.escape(summary.headline(self._results))}</b></p>"]
        objectives = self._results.spec.objectives
        if self._results.front:
            parts += [self._svg()] if len(objectives) > 1 else []
            columns = ["label", *objectives, *(f"{name}_std" for name in objectives), "called"]
            parts.append(self.front()[columns].to_html(float_format="{:.3f}".format, border=0))
        return "\n".join(parts)

    def _svg(self) -> str:
        from dashboards.ink import paper

        page = io.StringIO()
        paper.draw(self._chart("front")).savefig(page, format="svg")
        text = page.getvalue()
        return text[text.index("<svg") :]  # without the head of a file of its own
