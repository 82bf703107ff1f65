"""What is written out: a name in a document is text in every format, in a picture, and in a spreadsheet."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re

import pandas as pd
import pytest
from matplotlib.text import Text as Drawn

from dashboards.document import writers
from dashboards.document.document import (
    Bullets,
    CodeBlock,
    DataTable,
    Document,
    Image,
    Line,
    Picture,
    Section,
    Span,
    Text,
)
from dashboards.document.page import drawing
from dashboards.document.tables import to_csv
from dashboards.ink import paper, screen
from dashboards.ink.chart import Chart, Label, Panel, ReferenceLine, Scale, Series
from dashboards.ink.wording import decimal, percent
from tests import hostile


def document(name: str) -> Document:
    """The name wherever a name can be, 17 times."""
    lines: tuple[Line, ...] = (
        name,
        (Span(name, strong=True), " and ", Span(name, url="#/runs/7")),
        ("in code: ", Span(name, code=True)),
    )
    blocks = (
        *(Text(line) for line in lines),
        Text(name, answer=True),
        Bullets(lines),
        DataTable((name, "n"), ((name, "1"), *((line, "2") for line in lines)), name, best=frozenset({(0, 0)})),
        Image(name, "get-artifact?path=x.png"),
        CodeBlock("plain\n```\nlines"),
    )
    return Document(name, name, (Section(name, blocks),))


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_name_is_text_in_markdown(name: str) -> None:
    harmless, page = (hostile.rendered(writers.to_markdown(document(text))) for text in ("name", name))
    assert page.tags == harmless.tags
    assert page.addresses == harmless.addresses
    words = [" ".join(text.split()) for text in (name, harmless.text, page.text)]
    assert words[2] == words[1].replace("name", words[0])


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_name_is_text_on_a_page(name: str) -> None:
    harmless, page = (hostile.Page(writers.to_html(document(text))) for text in ("name", name))
    assert page.tags == harmless.tags
    assert page.addresses == harmless.addresses
    assert page.says(name)


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_name_is_text_in_latex(name: str) -> None:
    """Without the commands that print one character each, nothing is left that commands; and they print the name."""
    latex = writers.tex(name)
    spelled = {command: letter for letter, command in writers._TEX.items() if letter not in "–"}
    parts = re.findall("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))) + "|.", latex)
    assert not [part for part in parts if part not in spelled and part in "\\{}$&#_%~^[*"]
    assert "".join(spelled.get(part, part) for part in parts) == re.sub(r"\s+", " ", name)
    harmless, made = (writers.to_latex(document(text)) for text in ("name", name))
    assert made == harmless.replace("name", latex)


def test_a_link_leads_to_the_web_or_is_none() -> None:
    text = Text(
        (Span("x", url="javascript:alert(1)"), Span("y", url="a b)<c>\"'"), Span("z", url="https://h.example/?a=1&b=2"))
    )
    made = Document("t", "", (Section("", (text,)),))
    addresses = ["a%20b%29%3Cc%3E%22%27", "https://h.example/?a=1&b=2"]
    assert hostile.Page(writers.to_html(made)).addresses == addresses
    assert hostile.rendered(writers.to_markdown(made)).addresses == addresses


# --- pictures


def chart(name: str) -> Chart:
    """The name wherever a picture has one."""
    series = (Series(name, (0, 1), (0.1, 0.9), "bars", hover=(name, "b")), Series(f"_{name}", (0, 1), (0.2, 0.3)))
    panel = Panel(
        Scale(name, names=(name, "b")), Scale(name, 0, 1), series, title=name,
        reference_lines=(ReferenceLine("y", 0.5, name),), labels=(Label(name, 0, 0.5, 10, 10),),
    )  # fmt: skip
    return Chart((panel, panel), name)


def strings(value: object) -> list[str]:
    """Every text in a figure that plotly draws."""
    if isinstance(value, dict):
        drawn = {key: part for key, part in value.items() if key not in ("legendgroup", "type", "hovertemplate")}
        return [text for part in drawn.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_name_is_text_in_a_picture_on_the_screen(name: str) -> None:
    """plotly knows tags, TeX between dollars, and of the named references `&lt;`, `&gt;` and `&amp;` alone."""
    figure = json.loads(screen.plotly(chart(name)).to_json())
    figure["layout"].pop("template")
    drawn = [text.replace("<br>", "\n") for text in strings(figure)]
    assert not [text for text in drawn if "<" in text or "$" in text]
    assert not [text for text in drawn for reference in re.findall("&(?!lt;|gt;|amp;|#36;)", text) if reference]
    assert [html.unescape(text) for text in drawn].count(name) >= 9


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_name_is_text_in_a_picture_of_a_page(name: str) -> None:
    """The page's script gives every text of the JSON to the browser as text."""
    embedded = drawing(chart(name))
    page = hostile.Page(embedded)
    assert page.tags == ["script", "div"]
    told = json.loads(embedded[embedded.index("{") : embedded.rindex("}") + 1])
    assert strings(told).count(name) >= 9


@pytest.mark.parametrize("name", ["$x^2$", "_$a$", "a\\$b$", "<b>"])
def test_a_name_is_text_in_a_picture_on_paper(name: str) -> None:
    figure = paper.draw(chart(name))
    figure.canvas.draw()
    texts = [text._preprocess_math(text.get_text()) for text in figure.findobj(Drawn) if text.get_text()]
    assert not [text for text, mathematics in texts if mathematics]
    assert [text for text, _ in texts].count(name) >= 9


# --- tables for spreadsheets


def test_a_cell_in_csv_is_never_a_formula_and_a_number_stays_one() -> None:
    evil = ["=1+1", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "a\r=1", "a=b", None]
    table = pd.DataFrame({"=head": evil, "x": [-0.5, 1e-9, -1e30, math.nan, *range(6)], "n": range(-5, 5)})
    table["mixed"] = pd.Series([-3, "-0.25", "+1e-3", "2*rank", "-2*rank", True, None, -1.5, "=a", ""], dtype=object)
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert rows[0] == ["'=head", "x", "n", "mixed"]
    firsts = [row[0] for row in rows[1:]]
    assert firsts == ["'=1+1", "'+1+cmd", "'-2+3", "'@SUM(A1)", "'\t=1", "'\n=1", "'-", "a\n=1", "a=b", ""]
    assert [row[3] for row in rows[1:]] == ["-3", "-0.25", "+1e-3", "2*rank", "'-2*rank", "True", "", "-1.5", "'=a", ""]
    again = pd.read_csv(io.StringIO(to_csv(table)))
    pd.testing.assert_frame_equal(again[["x", "n"]], table[["x", "n"]])


def test_a_table_without_such_cells_is_the_csv_that_pandas_writes() -> None:
    table = pd.DataFrame(
        {"a": ["x", None], "b": [1, None], "c": [True, False], "d": pd.Series([8, "2*r"], dtype=object)}
    )
    assert to_csv(table) == table.to_csv(index=False)


# --- numbers


def test_a_number_is_written_with_its_spread_and_an_undefined_one_as_a_dash() -> None:
    assert decimal(0.8732, 0.0121) == "0.873 ± 0.012"
    assert decimal(0.5) == "0.500"
    assert decimal(None) == decimal(math.nan, 0.1) == percent(None) == "–"
    assert percent(0.9735, 0.0017) == "97.35 ± 0.17"  # FairLoRA, Table 1, CLIP with LoRA


def test_a_picture_is_its_caption_in_markdown_and_nothing_without_one() -> None:
    made = Document("t", "", (Section("", (Picture("front", chart("x")), Picture("growth", chart("")))),))
    assert writers.to_markdown(made) == "# t\n\n*front: x*\n"
