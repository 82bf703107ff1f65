"""Writes what people take away: the whole file or none of it, in the format asked for or that the name says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dashboards.document import writers
from dashboards.document.document import Document, Picture
from dashboards.document.tables import to_csv
from sweeper.errors import UserError
from trainables.files import whole, write_text


def target(form: str | None, path: Path | None, forms: Sequence[str], stem: str) -> tuple[str, Path]:
    """The format and the file: each from the other where only one is given; the first of `forms` by default.

    Raises:
        UserError: the suffix is of no format, contradicts the one given, or the folder is not there.
    """
    if path is None:
        form = form or forms[0]
        return form, Path(f"{stem}.{form}")
    suffix = path.suffix.removeprefix(".").lower()
    if suffix == "pdf" and "html" in forms:
        html = path.with_suffix(".html")
        raise UserError(f"{path}: no PDF is written here. Write {html}, open it in a browser and print it to a PDF.")
    if form is None and suffix not in forms:
        raise UserError(f"{path}: '{path.suffix}' says no format. Use one of .{', .'.join(forms)}, or --format.")
    if form is not None and suffix in forms and suffix != form:
        raise UserError(f"{path} ends in .{suffix}, and --format is {form}. Use one or the other.")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is no folder. Make it first, or write elsewhere.")
    return form or suffix, path


def write_document(document: Document, form: str, path: Path) -> None:
    """A document as `html`, `md` or `tex`."""
    forms = {"html": writers.to_html, "md": writers.to_markdown, "tex": writers.to_latex}
    write_text(path, forms[form](document))


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """A table of numbers as CSV."""
    write_text(path, to_csv(rows))


def write_figures(document: Document, folder: Path) -> list[Path]:
    """Every picture as a file of its own, as wide as a paper's column where it can be read there, else as its page."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        path
        for picture in document.pictures
        for path in write_picture(picture, folder / re.sub(r"\W+", "-", picture.name))
    ]


def write_picture(picture: Picture, stem: Path) -> list[Path]:
    """As `stem` with .pdf and .png behind it."""
    from dashboards.ink import paper

    chart, width = (picture.column, paper.COLUMN_IN) if picture.column else (picture.chart, paper.PAGE_IN)
    written = []
    for suffix in (".pdf", ".png"):
        path = stem.with_name(stem.name + suffix)
        with whole(path) as temporary:
            paper.save(chart, temporary, width_in=width)
        written.append(path)
    return written
