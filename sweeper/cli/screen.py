"""What a person sees: a live table on a terminal, plain lines elsewhere, the front at the end."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dashboards.ink.wording import decimal
from sweeper.results.held_out import HeldOut
from sweeper.results.results import Results
from sweeper.results.summary import headline
from sweeper.spec.model import SweepSpec
from sweeper.trial import Trial


def front_table(
    rows: Sequence[Mapping[str, Any]],
    title: str,
    held_out: HeldOut | None = None,
    on_front: Mapping[int, float] | None = None,
) -> Table:
    """The front, a line each; held-out numbers in columns of their own, where they were measured.

    `on_front`: the chance of each trial to be on the true front.
    """
    table = Table(title=title, title_justify="left", header_style="bold")
    names = list(rows[0]["values"]) if rows else []
    for heading in ("trial", "configuration", *(f"{n} (val)" for n in names)):
        table.add_column(heading, justify="right" if "(val)" in heading else "left")
    for name in names if held_out else ():
        table.add_column(f"{name} (test)", justify="right", style="dim")
    if on_front:
        table.add_column("on the true front", justify="right")
    for row in rows:
        label = row["label"] + (f"  [baseline {row['baseline']}]" if row["baseline"] else "")
        cells: list[str | Text] = [str(row["number"]), Text(label)]
        cells += [decimal(row["values"][n], row["spread"][n]) for n in names]
        if held_out:
            test = held_out.get(row["number"], {})
            cells += [decimal(*test[n]) if n in test else "-" for n in names]
        if on_front:
            cells.append(f"{on_front[row['number']]:.0%}" if row["number"] in on_front else "-")
        table.add_row(*cells)
    return table


class Lines:
    """A listener for logs and pipes: one line when something has happened."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._look: Callable[[], Results] | None = None

    def begun(self, look: Callable[[], Results], notes: list[str]) -> None:
        """Say what the data is, then wait for trials."""
        self._look = look
        for note in notes:
            print(note, file=sys.stderr, flush=True)

    def told(self, trial: Trial) -> None:
        """One line for the trial, one for the sweep."""
        values = ", ".join(f"{k} {decimal(v, trial.spread.get(k, math.nan))}" for k, v in trial.values.items())
        print(f"trial {trial.number} {trial.state}: {trial.label}  {trial.why or values}", file=sys.stderr)
        if self._look is not None:
            print(headline(self._look()), file=sys.stderr, flush=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to tidy."""


class LiveTable(Lines):
    """A listener for terminals: the front so far, redrawn once a second."""

    def __init__(self, spec: SweepSpec, console: Console) -> None:
        super().__init__(spec)
        self._console = console
        self._live = Live(Text(f"{spec.name}: starting Ray and the data ..."), console=console, auto_refresh=False)
        self._last: list[Trial] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="screen", daemon=True)

    def begun(self, look: Callable[[], Results], notes: list[str]) -> None:
        """Start drawing."""
        self._look = look
        for note in notes:
            self._console.print(note)
        self._thread.start()

    def told(self, trial: Trial) -> None:
        """Remember the last few for the foot of the table."""
        self._last = [*self._last[-3:], trial]

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._live.update(Text(""), refresh=True)
        self._live.stop()

    def _redraw(self) -> None:
        while not self._stop.wait(1.0):
            assert self._look is not None  # begun() set it before it started this thread
            self._live.update(self._picture(self._look()), refresh=True)

    def _picture(self, results: Results) -> RenderableType:
        parts: list[RenderableType] = [Text(headline(results), style="bold")]
        if results.front:
            parts.append(front_table(results.front_rows, "front so far"))
        parts += [Text(f"trial {t.number} {t.state}: {t.label} {t.why or ''}", style="dim") for t in self._last]
        return Group(*parts)


def watch(look: Callable[[], Results], every_s: float = 2.0) -> None:
    """Print the headline whenever it changes, until the sweep no longer runs."""
    last = ""
    while True:
        results = look()
        line = headline(results)
        if line != last:
            print(line, flush=True)
            last = line
        if results.state != "running":
            return
        time.sleep(every_s)
