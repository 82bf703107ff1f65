"""A sweep in a notebook: `from sweeper import Sweep; Sweep.run("sweep.yaml")`, or `Sweep.load("x").front()`."""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from dashboards.document import writers
from dashboards.document.document import DataTable, Span, Text
from dashboards.ink.wording import decimal
from sweeper.errors import UserError
from sweeper.front.recommend import Recommendation
from sweeper.results import held_out, summary, watching
from sweeper.results.results import Results
from sweeper.screen import cell, live
from sweeper.spec import loading, presets
from sweeper.spec.model import NAME, SweepSpec
from sweeper.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from dashboards.ink.chart import Chart
    from sweeper.engine.attempt import Outcome


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

    @classmethod
    def run(cls, spec: str | Path | SweepSpec | Mapping[str, Any], root: str | Path | None = None) -> Sweep:
        """Begin a sweep and show how it goes, in one place of the notebook, until it ends. Interrupting pauses it.

        `spec` is a file, the name of a shipped preset, or what a file would say.

        Raises:
            UserError: whatever `sweeper run` would say.
        """
        asked = _spec(spec)
        where = root or os.environ.get("SWEEPER_ROOT")
        asked = loading.changed(asked, {"storage.root": str(where)}) if where else asked
        with cell.listener(asked.name) as screen:
            with screen.step("libraries"):
                from sweeper.engine import driver
            outcome = driver.run(asked, screen)
        return cls._ended(outcome)

    def resume(self, trials: int | None = None) -> Sweep:
        """Go on with it, as `run` shows it; `trials` is a larger budget."""
        with cell.listener(self._folder.name) as screen:
            with screen.step("libraries"):
                from sweeper.engine import driver
            outcome = driver.resume(self._folder, screen, trials=trials)
        return self._ended(outcome)

    def watch(self) -> Sweep:
        """Show how it goes while another process drives it, until that ends."""
        with watching.watched(self._folder) as look:
            live.follow(look, cell.Display() if cell.in_notebook() else None)
        return self.reload()

    @classmethod
    def _ended(cls, outcome: Outcome) -> Sweep:
        for note in outcome.notes:
            print(note)
        return cls(outcome.results.folder)

    def reload(self) -> Sweep:
        """The same sweep as it is now."""
        return Sweep(self._folder)

    # --- tables

    def trials(self) -> Frame:
        """One row per trial, by number: params, validation means with `_std`, whether it is on the front."""
        return Frame.of(self._results.trials_table.set_index("number"), self._objectives, ["label", "state"])

    def front(self) -> Frame:
        """The members of the front, best first objective first; `called` has the names of those that have one."""
        order = [trial.number for trial in self._results.members]
        called = {number: name for name, number in self._results.named.items()}
        members = self.trials().loc[order]
        named = members.assign(called=[called.get(number, "") for number in order])
        return Frame.of(named, self._objectives, ["label", "called"])

    def fits(self) -> Frame:
        """One row per trial and seed."""
        return Frame.of(self._results.fits_table, self._objectives)

    def groups(self) -> Frame:
        """One row per trial, seed and group, with its count."""
        return Frame.of(self._results.groups_table, self._objectives)

    def epochs(self) -> Frame:
        """One row per trial, seed and epoch."""
        return Frame.of(self._results.epochs_table, self._objectives)

    def test(self) -> Frame:
        """The test split's means of the chosen points, apart from all else: they choose nothing."""
        measured = held_out.read(self._results)
        rows = {number: {name: mean for name, (mean, _) in row.items()} for number, row in measured.items()}
        return Frame.of(pd.DataFrame.from_dict(rows, orient="index").rename_axis("number"), self._objectives)

    @property
    def _objectives(self) -> list[str]:
        return list(self._results.spec.objectives)

    # --- the choice

    def recommend(self, **bounds: float) -> Recommendation | None:
        """The knee, or what is best with an objective within a bound: `recommend(accuracy=0.82)`.

        Raises:
            UserError: a bound on what is no objective, or one that no member of the front keeps.
        """
        found = self._results.recommendation(bounds or None)
        return found and Advice(**vars(found))

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
        parts = [writers.to_fragment([Text((Span(summary.headline(self._results), strong=True),))])]
        if self._results.front:
            parts += [self._svg()] if len(self._objectives) > 1 else []
            parts.append(self.front()._repr_html_())
        return "\n".join(parts)

    def _svg(self) -> str:
        from dashboards.ink import paper

        page = io.StringIO()
        paper.draw(self._chart("front")).savefig(page, format="svg")
        text = page.getvalue()
        return text[text.index("<svg") :]  # without the head of a file of its own


def _spec(asked: str | Path | SweepSpec | Mapping[str, Any]) -> SweepSpec:
    if isinstance(asked, SweepSpec):
        return asked
    if isinstance(asked, Mapping):
        return loading.parse(json.dumps(asked), "the spec")
    return loading.load(presets.path(str(asked)) if asked in presets.names() else asked)


class Frame(pd.DataFrame):
    """A table that a notebook shows in small: some rows, a few columns. It has all; what is made from it is plain."""

    _metadata: ClassVar[list[str]] = ["shown"]  # pandas' name for attributes that are no columns
    ROWS, COLUMNS = 20, 6
    shown: list[Any]

    @classmethod
    def of(cls, table: pd.DataFrame, objectives: Sequence[str], first: Sequence[str] = ()) -> Frame:
        """A copy of `table`, of which the columns `first` and the objectives are shown, or else its first ones."""
        made = cls(table.copy())
        leading = [name for name in (*first, *objectives) if name in table]
        others = [name for name in table if name not in leading and not str(name).endswith("_std")]
        made.shown = leading if first else [*leading, *others][: cls.COLUMNS]
        return made

    def _repr_html_(self) -> str:
        rows = self.head(self.ROWS).reset_index() if self.index.name else self.head(self.ROWS)
        named = [self.index.name] if self.index.name else []
        columns = [name for name in (*named, *getattr(self, "shown", ())) if name in rows] or list(rows)
        cells = tuple(tuple(_cell(row, name) for name in columns) for row in rows.to_dict("records"))
        words = tuple(n for n, name in enumerate(columns) if not pd.api.types.is_numeric_dtype(rows[name]))
        shown = f"{len(rows)} of {len(self)} rows, {len(columns)} of {len(self.columns) + len(named)} columns"
        return writers.to_fragment([DataTable(tuple(map(str, columns)), cells, caption=shown, words=words)])


def _cell(row: Mapping[Any, Any], name: Any) -> str:
    value = row[name]
    return decimal(value, row.get(f"{name}_std", math.nan)) if isinstance(value, float) else str(value)


class Advice(Recommendation):
    """A recommendation that a notebook shows with its numbers and their 95 % intervals."""

    def _repr_html_(self) -> str:
        intervals = self.stability.intervals.get(self.number, {})
        rows = tuple(
            (name, decimal(value), "{:.3f} to {:.3f}".format(*intervals[name]) if name in intervals else "unknown")
            for name, value in self.values.items()
        )
        lead = Text(("Recommended: ", Span(f"#{self.number} {self.label}", strong=True), f", by {self.rule}."))
        sure = f"{self.stability.sentence(self.number)} {self.stability.drop(self.number, self.rule)}"
        table = DataTable(("objective", "validation", "95 % interval"), rows, words=(0,))
        return writers.to_fragment([lead, table, Text(f"{self.why} {sure}".rstrip())])
