"""The same screen in a notebook: one output of a cell, which is drawn anew, by the IPython that runs the cell.

`rich` makes the HTML, and escapes whatever is in it.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from sweeper.screen.live import Lines, LiveScreen, Steps

WIDTH, HEIGHT, KEPT = 110, 40, 12  # of the lines that were said, those that stay above
_PAGE = "<pre style='line-height:1.2;font-family:monospace;white-space:pre'>{code}</pre>"


class Display:
    """One display of a cell, as `rich.live.Live` is one of a terminal."""

    def __init__(self) -> None:
        self.console = _console()
        self._handle: Any = None
        self._said: list[RenderableType] = []

    def say(self, line: RenderableType) -> None:
        """Keep a line above what is drawn."""
        self._said = [*self._said, line][-KEPT:]

    def start(self) -> None:
        """Make the display, in the cell's own thread: what another thread displays first belongs to no cell."""
        self._handle = _display()({"text/plain": ""}, raw=True, display_id=True)

    def update(self, renderable: RenderableType, *, refresh: bool = True) -> None:
        """Draw anew."""
        console = _console()
        console.print(Group(*self._said, renderable))
        shown = {
            "text/html": console.export_html(code_format=_PAGE, inline_styles=True, clear=False),
            "text/plain": console.export_text(),
        }
        self._handle.update(shown, raw=True)

    def stop(self) -> None:
        """It stays as it is."""

    def __enter__(self) -> Display:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """It stays as it is."""


class CellScreen(LiveScreen):
    """For notebooks: what runs and the front so far, with the last lines that were said above it."""

    _live: Display

    def __init__(self, name: str) -> None:
        super().__init__(name, _console())

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._steps = Steps(self._clock)  # what stays is how it ended
        self._refresh(at_once=True)
        self._live.update(self.drawn())

    def _area(self) -> Display:
        return Display()

    def show(self, line: Text) -> None:
        """Keep it above what is drawn."""
        self._live.say(line)


def _console() -> Console:
    return Console(file=io.StringIO(), width=WIDTH, height=HEIGHT, record=True, force_jupyter=False)


def _display() -> Any:
    return sys.modules["IPython"].display.display


def in_notebook() -> bool:
    """Whether a kernel runs this code, that can draw a display anew."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def listener(name: str) -> Lines:
    """The cell's display in a notebook, else lines."""
    return CellScreen(name) if in_notebook() else Lines(name)
