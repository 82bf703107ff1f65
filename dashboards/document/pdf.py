"""A Document on A4 pages: text, tables and vector pictures, drawn by matplotlib, which is there anyway."""

from __future__ import annotations

import textwrap
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dashboards.document.document import Block, Code, Document, Picture, Section, Table, Text
from dashboards.ink import paper
from dashboards.ink.style import INK, MUTED

WIDE_IN, HIGH_IN, MARGIN_IN = 8.27, 11.69, 0.7
_LETTER, _LINE = 0.52, 1.45  # of a letter's size: a letter's width on the average, and a line's height
_CELL = 0.64  # a letter's width in a table, where digits and bold are wider than prose


def save(document: Document, path: Path) -> None:
    """Write it; a table is broken where the page ends, and each picture has a page of its own at the end."""
    with PdfPages(path, metadata={"Title": document.title, "CreationDate": None}) as pages:
        sheet = _Sheet(pages)
        sheet.write(document.title, 16, gap=4)
        sheet.write(document.subtitle, 8, colour=MUTED)
        for section in document.sections:
            _section(sheet, section)
        sheet.close()
        for picture in document.pictures:
            drawn = paper.draw(picture.chart, width_in=WIDE_IN - 2 * MARGIN_IN)
            pages.savefig(drawn)


def _section(sheet: _Sheet, section: Section) -> None:
    sheet.need(60)
    sheet.write(section.title, 12, gap=6, above=10)
    for block in section.blocks:
        _block(sheet, block)


def _block(sheet: _Sheet, block: Block) -> None:
    match block:
        case Text(text, answer, aside):
            sheet.write(text, 9.5 if answer else 7.5 if aside else 8.5, colour=MUTED if aside else INK)
        case Code(text):
            sheet.write(text, 7, family="monospace", wrap=False)
        case Table():
            sheet.table(block)
        case Picture(name, _, _):
            sheet.write(f"Figure at the end: {name}.", 7.5, colour=MUTED)


class _Sheet:
    """Pages filled from the top. Lengths are points."""

    def __init__(self, pages: PdfPages) -> None:
        self._pages = pages
        self._begin()

    def _begin(self) -> None:
        self._figure = Figure(figsize=(WIDE_IN, HIGH_IN))
        self._y = (HIGH_IN - MARGIN_IN) * 72

    def close(self) -> None:
        """Write the page that is being filled."""
        self._pages.savefig(self._figure)  # type: ignore[no-untyped-call]

    def need(self, height: float) -> None:
        """Begin a new page where less than `height` is left."""
        if self._y - height < MARGIN_IN * 72:
            self.close()
            self._begin()

    def write(
        self,
        text: str,
        size: float,
        *,
        colour: str = INK,
        gap: float = 5,
        above: float = 0,
        family: str = "sans-serif",
        wrap: bool = True,
    ) -> None:
        """A paragraph, broken into lines and, if need be, over pages."""
        self._y -= above
        letters = int((WIDE_IN - 2 * MARGIN_IN) * 72 / (size * _LETTER))
        lines = textwrap.wrap(text, letters) if wrap else [line[:letters] for line in text.splitlines()]
        for line in lines:
            self.need(size * _LINE)
            self._text(MARGIN_IN * 72, line, size, colour, family=family)
            self._y -= size * _LINE
        self._y -= gap

    def _text(self, x: float, text: str, size: float, colour: str, *, right: bool = False, bold: bool = False,
              family: str = "sans-serif") -> None:  # fmt: skip
        self._figure.text(
            x / 72 / WIDE_IN, self._y / 72 / HIGH_IN, text, fontsize=size, color=colour, va="top", family=family,
            ha="right" if right else "left", weight="bold" if bold else "normal", parse_math=False,
        )  # fmt: skip

    def table(self, table: Table) -> None:
        """Columns as wide as their widest cell, made smaller where all together are too wide for the page."""
        letters = [max(map(len, column)) + 2 for column in zip(table.head, *table.rows, strict=True)]
        size = min(8.0, (WIDE_IN - 2 * MARGIN_IN) * 72 / (sum(letters) * _CELL))
        edges = [MARGIN_IN * 72 + sum(letters[:c]) * size * _CELL for c in range(len(letters) + 1)]
        self.need(size * _LINE * min(len(table.rows) + 2, 8))
        self._cells(table, table.head, edges, size, -1)
        for r, row in enumerate(table.rows):
            if self._y - size * _LINE < MARGIN_IN * 72:
                self.need(size * _LINE)
                self._cells(table, table.head, edges, size, -1)
            self._cells(table, row, edges, size, r)
        self._y -= 3
        self.write(table.caption, 7.5, colour=MUTED)

    def _cells(self, table: Table, row: tuple[str, ...], edges: list[float], size: float, r: int) -> None:
        if r in (0, *table.lines):
            self._rule(edges[0], edges[-1], MUTED if r else INK)
        for c, cell in enumerate(row):
            left, right = edges[c], edges[c + 1] - size
            bold = r < 0 or (r, c) in table.best
            if c in table.words:
                self._text(left, cell, size, INK, bold=bold)
            else:
                self._text(right, cell, size, INK, right=True, bold=bold)
        self._y -= size * _LINE

    def _rule(self, left: float, right: float, colour: str) -> None:
        y = (self._y + 1.5) / 72 / HIGH_IN
        self._figure.add_artist(
            Line2D([left / 72 / WIDE_IN, right / 72 / WIDE_IN], [y, y], color=colour, linewidth=0.5)
        )
