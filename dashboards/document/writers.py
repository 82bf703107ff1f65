"""A Document as one HTML file, as Markdown, as LaTeX. Pictures are in the page; Markdown and LaTeX hold the tables.

Each of the three escapes in one place: `html.escape`, `_md` and `tex`. Whatever stands in a document comes out as
text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from dashboards.document.document import (
    Block,
    Bullets,
    CodeBlock,
    DataTable,
    Document,
    Image,
    Line,
    Picture,
    Span,
    Text,
    spans,
)
from dashboards.document.page import drawing, page


def _address(url: str) -> str:
    """The address without any character that could end it; empty where it is not of the web."""
    return quote(url, safe="/:?#=&%+,;~.-_") if urlsplit(url).scheme in ("", "http", "https") else ""


# --- HTML


def to_html(document: Document) -> str:
    """One file that opens offline: style, script, data and pictures are all in it."""
    parts = [f"<p class='caption'>{html.escape(document.subtitle)}</p>"] if document.subtitle else []
    for section in document.sections:
        title, blocks = html.escape(section.title), [_html(block) for block in section.blocks]
        if section.folded:
            parts += ["<details class='section'>", f"<summary>{title}</summary>", *blocks, "</details>"]
        else:
            parts += [f"<h2>{title}</h2>", *blocks] if title else blocks
    return page(document.title, "\n".join(parts))


def to_fragment(blocks: Iterable[Block]) -> str:
    """Blocks as HTML for somebody else's page, such as a notebook's."""
    return "\n".join(map(_html, blocks))


def _html(block: Block) -> str:
    match block:
        case Text(text, answer, aside):
            kind = " class='answer'" if answer else " class='caption'" if aside else ""
            return f"<p{kind}>{_html_line(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_html_line(item)}</li>" for item in items) + "</ul>"
        case CodeBlock(text):
            return f"<pre>{html.escape(text)}</pre>"
        case DataTable():
            return _html_table(block)
        case Picture(_, chart, _, explorer):
            caption = f"<p class='caption'>{html.escape(chart.caption)}</p>" if chart.caption else ""
            return drawing(explorer or chart) + caption
        case Image(text, url):
            return f'<p><img src="{html.escape(_address(url))}" alt="{html.escape(text)}"></p>'


def _html_table(table: DataTable) -> str:
    """`<table>` with its caption, folded away where the table asks for it."""
    head = "".join(f"<th{_classes(table, c)}>{html.escape(name)}</th>" for c, name in enumerate(table.head))
    body = "\n".join(_html_row(table, r) for r in range(len(table.rows)))
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    drawn = f"<div class='wide'><table>{caption}<thead><tr>{head}</tr></thead>\n{body}</table></div>"
    return f"<details><summary>{html.escape(table.folded)}</summary>{drawn}</details>" if table.folded else drawn


def _html_row(table: DataTable, row: int) -> str:
    cells = "".join(
        f"<td{_classes(table, c, best=(row, c) in table.best)}>{_html_line(cell)}</td>"
        for c, cell in enumerate(table.rows[row])
    )
    apart = ' class="apart"' if row in table.lines else ""
    return f"<tr{apart}>{cells}</tr>"


def _classes(table: DataTable, column: int, *, best: bool = False) -> str:
    classes = ["text"] * (column in table.words) + ["best"] * best
    return f' class="{" ".join(classes)}"' if classes else ""


def _html_line(line: Line) -> str:
    return "".join(map(_html_span, spans(line)))


def _html_span(span: Span) -> str:
    text = html.escape(span.text)
    text = f"<code>{text}</code>" if span.code else text
    text = f"<strong>{text}</strong>" if span.strong else text
    url = _address(span.url)
    return f'<a href="{html.escape(url)}">{text}</a>' if url else text


# --- Markdown


def to_markdown(document: Document) -> str:
    """GitHub's Markdown, which MLflow and model hubs read too; of a picture only its caption."""
    parts = [_md_heading(1, document.title) if document.title else "", _md_line(document.subtitle)]
    for section in document.sections:
        parts += [_md_heading(2, section.title)] if section.title else []
        parts += [_markdown(block) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Text(text, answer, _):
            return f"> {_md_line(text)}" if answer else _md_line(text)
        case Bullets(items):
            return "\n".join(f"- {_md_line(item)}" for item in items)
        case CodeBlock(text, language):
            fence = _fence(text, 3)
            return f"{fence}{language}\n{text}\n{fence}"
        case DataTable():
            return _markdown_table(block)
        case Picture(name, chart):
            return f"*{_md(name)}: {_md(chart.caption)}*" if chart.caption else ""
        case Image(text, url):
            return f"![{_md(text)}]({_address(url)})"


def _markdown_table(table: DataTable) -> str:
    rule = "|".join("---" if c in table.words else "---:" for c in range(len(table.head)))
    lines = [_md_row(map(_md, table.head)), f"|{rule}|"]
    for r, row in enumerate(table.rows):
        cells = ["".join(_md_span(span, cell=True) for span in spans(cell)).strip() for cell in row]
        lines.append(_md_row(f"**{cell}**" if (r, c) in table.best else cell for c, cell in enumerate(cells)))
    return "\n".join(lines) + (f"\n\n{_md_line(table.caption)}" if table.caption else "")


def _md_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_heading(level: int, title: str) -> str:
    """A heading; `#` at its end would be taken for its closing."""
    return f"{'#' * level} " + re.sub(r"(?<=\s)(?=#+$)", r"\\", _md_line(title))


def _md_line(line: Line) -> str:
    """A line of its own: what would make it a list, a heading or a rule is text."""
    text = "".join(map(_md_span, spans(line))).strip()
    return re.sub(r"^(?:(\d+)(?=[.)](?:\s|$))|(?=[-+=#]))", r"\1\\", text)


def _md_span(span: Span, *, cell: bool = False) -> str:
    """In a table's cell a bar is escaped inside code too."""
    text = _md(span.text)
    if span.code:
        code, fence = " ".join(span.text.split()), _fence(span.text, 1)
        padding = " " if code.startswith("`") or code.endswith("`") else ""
        text = f"{fence}{padding}{code}{padding}{fence}"
        text = text.replace("|", "\\|") if cell else text
    text = f"**{text.strip()}**" if span.strong else text
    url = _address(span.url)
    return f"[{text}]({url})" if url else text


def _fence(text: str, least: int) -> str:
    """More backticks in a row than the text has anywhere."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])


_MD_MARKS = re.compile(r"[\\`*_\[\]|~]|(?<=www)\.", re.IGNORECASE)
# Renderers differ in whether a backslash escapes these (MLflow's shows the one of `\:`); a reference is text to all.
_MD_REFERENCES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "$": "&#36;"})


def _md(text: str) -> str:
    """The text on one line, with nothing in it that Markdown, or what GitHub adds to it, takes for its own."""
    escaped = _MD_MARKS.sub(r"\\\g<0>", re.sub(r"\s+", " ", text)).translate(_MD_REFERENCES)
    return escaped.replace("://", "&#58;//")


# --- LaTeX

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}", "±": r"$\pm$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "λ": r"$\lambda$", "–": "--", "−": "$-$", "≥": r"$\geq$",
    "≤": r"$\leq$", "Δ": r"$\Delta$", "…": r"\ldots{}", "²": r"$^2$", "×": r"$\times$", "<": r"$<$", ">": r"$>$",
    "|": r"$|$",
    "[": "{[}", "*": "{*}",  # after the end of a row these two would be its options
}  # fmt: skip


def to_latex(document: Document) -> str:
    """The tables, each a `table` for `booktabs`, to be read in by a paper with `input`."""
    head = "% Tables of " + tex(document.title) + r". Needs \usepackage{booktabs}."
    return "\n\n".join([head, *(_latex(table) for table in document.tables)]) + "\n"


def _latex(table: DataTable) -> str:
    columns = "".join("l" if c in table.words else "r" for c in range(len(table.head)))
    lines = [r"\begin{table}[t]", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(tex, table.head)) + r" \\", r"\midrule"]
    for r, row in enumerate(table.rows):
        lines += [r"\midrule"] if r in table.lines else []
        cells = (
            rf"\textbf{{{_tex_line(cell)}}}" if (r, c) in table.best else _tex_line(cell) for c, cell in enumerate(row)
        )
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\caption{{{tex(table.caption)}}}"] if table.caption else []
    return "\n".join([*lines, r"\end{table}"])


def _tex_line(line: Line) -> str:
    commands = {(True, False): "texttt", (False, True): "textbf", (True, True): "textbf"}
    parts = ((commands.get((span.code, span.strong)), tex(span.text)) for span in spans(line))
    return "".join(rf"\{command}{{{text}}}" if command else text for command, text in parts)


def tex(text: str) -> str:
    """The text as LaTeX prints it: none of its characters commands anything."""
    return "".join(_TEX.get(letter, letter) for letter in re.sub(r"\s+", " ", text))
