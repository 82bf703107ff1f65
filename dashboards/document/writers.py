"""A Document as one HTML file, as Markdown, as LaTeX. Pictures are in the page; Markdown and LaTeX hold the tables."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from dashboards.document.document import Block, Code, Document, Picture, Table, Text
from dashboards.document.page import page
from dashboards.ink import screen

# --- HTML


def to_html(document: Document) -> str:
    """One file that opens offline: style, script, data and pictures are all in it."""
    parts = [f"<p class='caption'>{html.escape(document.subtitle)}</p>"]
    for section in document.sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        parts += [_html(block) for block in section.blocks]
    return page(document.title, "\n".join(parts))


def _html(block: Block) -> str:
    match block:
        case Text(text, answer, aside):
            kind = " class='answer'" if answer else " class='caption'" if aside else ""
            return f"<p{kind}>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table():
            return html_table(block)
        case Picture(_, chart, _):
            return f"{screen.embedded(chart)}<p class='caption'>{html.escape(chart.caption)}</p>"


def html_table(table: Table) -> str:
    """`<table>` with its caption, folded away where the table asks for it."""
    head = "".join(f"<th{_words(table, c)}>{html.escape(name)}</th>" for c, name in enumerate(table.head))
    body = "\n".join(_row(table, r) for r in range(len(table.rows)))
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    drawn = f"<div class='wide'><table>{caption}<thead><tr>{head}</tr></thead>\n{body}</table></div>"
    return f"<details><summary>{html.escape(table.folded)}</summary>{drawn}</details>" if table.folded else drawn


def _row(table: Table, row: int) -> str:
    cells = "".join(
        f"<td{_words(table, c, best=(row, c) in table.best)}>{html.escape(cell)}</td>"
        for c, cell in enumerate(table.rows[row])
    )
    apart = ' class="apart"' if row in table.lines else ""
    return f"<tr{apart}>{cells}</tr>"


def _words(table: Table, column: int, *, best: bool = False) -> str:
    classes = ["text"] * (column in table.words) + ["best"] * best
    return f' class="{" ".join(classes)}"' if classes else ""


# --- Markdown


def to_markdown(document: Document) -> str:
    """GitHub's Markdown; of a picture only its caption."""
    parts = [f"# {_md(document.title)}", _md(document.subtitle)]
    for section in document.sections:
        parts += [f"## {_md(section.title)}", *(_markdown(block) for block in section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Text(text, answer, _):
            return f"> {_md(text)}" if answer else _md(text)
        case Code(text):
            fence = "```" + "`" * max((len(run) for run in re.findall("`+", text)), default=0)
            return f"{fence}\n{text}\n{fence}"
        case Table():
            return _markdown_table(block)
        case Picture(name, chart, _):
            return f"*{_md(name)}: {_md(chart.caption)}*"


def _markdown_table(table: Table) -> str:
    rule = "|".join("---" if c in table.words else "---:" for c in range(len(table.head)))
    lines = [_line(map(_md, table.head)), f"|{rule}|"]
    for r, row in enumerate(table.rows):
        lines.append(_line(f"**{_md(cell)}**" if (r, c) in table.best else _md(cell) for c, cell in enumerate(row)))
    return "\n".join(lines) + (f"\n\n{_md(table.caption)}" if table.caption else "")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """What Markdown would take for its own, made text; a table's cell is one line."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text).replace("\n", " ")


# --- LaTeX

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "λ": r"$\lambda$", "–": "--", "−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$", "Δ": r"$\Delta$", "…": r"\ldots{}",
    "²": r"$^2$", "×": r"$\times$", "<": r"$<$", ">": r"$>$", "|": r"$|$",
}  # fmt: skip


def to_latex(document: Document) -> str:
    """The tables, each a `table` for `booktabs`, to be read in by a paper with `input`."""
    head = "% Tables of " + tex(document.title) + r". Needs \usepackage{booktabs}."
    return "\n\n".join([head, *(_latex(table) for table in document.tables)]) + "\n"


def _latex(table: Table) -> str:
    columns = "".join("l" if c in table.words else "r" for c in range(len(table.head)))
    lines = [r"\begin{table}[t]", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(tex, table.head)) + r" \\", r"\midrule"]
    for r, row in enumerate(table.rows):
        lines += [r"\midrule"] if r in table.lines else []
        cells = (rf"\textbf{{{tex(cell)}}}" if (r, c) in table.best else tex(cell) for c, cell in enumerate(row))
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\caption{{{tex(table.caption)}}}"] if table.caption else []
    return "\n".join([*lines, r"\end{table}"])


def tex(text: str) -> str:
    """The text as LaTeX prints it: none of its characters commands anything."""
    return "".join(_TEX.get(letter, letter) for letter in text).replace("\n", " ")
