"""Prose as plain data: sections of text, tables and pictures. `writers` writes it out, and escapes what is in it.

A report, a comparison, a model card and the note in MLflow are all a Document. Names from outside stand in
it as they are: no text is ever markup here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.ink.chart import Chart
from dashboards.ink.explorer import Explorer


@dataclass(frozen=True)
class Span:
    """A piece of a line that is `code`, or `strong`, or a link to `url`."""

    text: str
    code: bool = False
    strong: bool = False
    url: str = ""


Line = str | tuple[str | Span, ...]


def code(text: object) -> Span:
    """A word as it would be typed."""
    return Span(str(text), code=True)


def line(template: str, *parts: object) -> Line:
    """The template's `{}` filled with spans and texts: `line("trained on {}", code(name))`."""
    between = template.split("{}")
    texts = [part if isinstance(part, Span) else str(part) for part in (*parts, "")]
    return tuple(piece for pair in zip(between, texts, strict=True) for piece in pair)


def spans(text: Line) -> list[Span]:
    """The pieces of a line."""
    parts = (text,) if isinstance(text, str) else text
    return [Span(part) if isinstance(part, str) else part for part in parts]


def plain(text: Line) -> str:
    """The line without its markup."""
    return "".join(span.text for span in spans(text))


@dataclass(frozen=True)
class Text:
    """A paragraph. `answer` sets it apart as what the reader came for, `aside` as small print."""

    text: Line
    answer: bool = False
    aside: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[Line, ...]


@dataclass(frozen=True)
class CodeBlock:
    """Lines to be typed or kept as they are."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class DataTable:
    """Cells of text under a head. `words` are the columns that are read rather than compared.

    `best` holds (row, column) of cells in bold, `lines` the rows that a line is drawn above. `folded`
    keeps a long table out of the way on a page.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    caption: str = ""
    words: tuple[int, ...] = (0,)
    best: frozenset[tuple[int, int]] = frozenset()
    lines: tuple[int, ...] = ()
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A chart with its name, which is also the name of its file where one is written.

    `column` is the same picture for a paper's column, where the larger one would be too small to read. `explorer`
    stands in its place on a page.
    """

    name: str
    chart: Chart
    column: Chart | None = None
    explorer: Explorer | None = None


@dataclass(frozen=True)
class Image:
    """A picture that is a file of its own already, and what it shows in words."""

    text: str
    url: str


Block = Text | Bullets | CodeBlock | DataTable | Picture | Image


@dataclass(frozen=True)
class Section:
    """A heading (none where `title` is empty) and what stands under it; `folded`, a page shows the heading alone."""

    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


@dataclass(frozen=True)
class Document:
    """A title, a line under it (neither, where they are empty), and sections."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    @property
    def blocks(self) -> Sequence[Block]:
        """All blocks, in order."""
        return [block for section in self.sections for block in section.blocks]

    @property
    def pictures(self) -> Sequence[Picture]:
        """All pictures, in order."""
        return [block for block in self.blocks if isinstance(block, Picture)]

    @property
    def tables(self) -> Sequence[DataTable]:
        """All tables, in order."""
        return [block for block in self.blocks if isinstance(block, DataTable)]
