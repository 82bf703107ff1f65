"""A few images of every cell on one picture: does the data show what its labels say?

Shapes: images [S, S, 3] uint8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dashboards.ink.style import GRID, INK, MUTED

Pixels = npt.NDArray[np.uint8]

THUMBNAIL = 64
_GAP, _MARGIN, _LABEL, _TITLE = 4, 16, 250, 40
_ROWS = 40  # more cells than this stand in further columns


@dataclass(frozen=True)
class Cell:
    """One row of the sheet: what the images should show, how many there are, and some of them."""

    name: str
    caption: str
    images: Sequence[Pixels]


def contact_sheet(cells: Sequence[Cell], path: Path, *, title: str = "") -> Path:
    """Draws `cells` in their order, top to bottom, and writes a PNG, or a PDF where the suffix says so.

    Names are only ever text on it.

    Raises:
        ValueError: there are no cells.
    """
    if not cells:
        raise ValueError("a contact sheet needs at least one cell")
    rows = math.ceil(len(cells) / math.ceil(len(cells) / _ROWS))
    columns = math.ceil(len(cells) / rows)
    across = _LABEL + max(1, max(len(cell.images) for cell in cells)) * (THUMBNAIL + _GAP) + _MARGIN
    size = (2 * _MARGIN + columns * across, _MARGIN + _TITLE + rows * (THUMBNAIL + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), _fitted(title, size[0] - 2 * _MARGIN, _font(16)), fill=INK, font=_font(16))
    for i, cell in enumerate(cells):
        corner = (_MARGIN + i // rows * across, _MARGIN + _TITLE + i % rows * (THUMBNAIL + _GAP))
        _draw(sheet, draw, cell, corner)
    sheet.save(path, format="PDF" if path.suffix == ".pdf" else "PNG", resolution=150)
    return path


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int]) -> None:
    left, top = corner
    draw.text((left, top + 14), _fitted(cell.name, _LABEL - 12, _font(13)), fill=INK, font=_font(13))
    draw.text((left, top + 34), _fitted(cell.caption, _LABEL - 12, _font(11)), fill=MUTED, font=_font(11))
    left += _LABEL
    if not cell.images:
        draw.rectangle((left, top, left + THUMBNAIL - 1, top + THUMBNAIL - 1), outline=GRID)
        draw.text((left + THUMBNAIL / 2, top + THUMBNAIL / 2), "none", fill=MUTED, font=_font(11), anchor="mm")
    for i, pixels in enumerate(cell.images):
        image = Image.fromarray(np.ascontiguousarray(pixels)).resize((THUMBNAIL, THUMBNAIL))
        sheet.paste(image, (left + i * (THUMBNAIL + _GAP), top))


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """`text` on one line, cut with an ellipsis where it is longer than `width` pixels."""
    line = " ".join(text.split())
    if font.getlength(line) <= width:
        return line
    line = line[: width // 2]  # no letter is narrower than two pixels
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line.rstrip()}…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib's own: it is there wherever the figures are, and knows more scripts than Pillow's.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
