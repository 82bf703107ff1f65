"""Tables of trials for a terminal: as wide as it is, a configuration shortened by whole parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from dashboards.ink.wording import decimal

if TYPE_CHECKING:  # they load pandas, which takes a second
    from sweeper.results.held_out import HeldOut

LEAST = 14  # columns for a configuration, whatever else there is


def shortened(label: str, width: int) -> str:
    """`label` in `width` columns: parameters that do not fit are left out as a whole, and counted.

    >>> shortened("fairlora λ=0.31 r=16 lr=0.002", 22)
    'fairlora λ=0.31 +2'
    """
    words = label.split(" ")
    for kept in range(len(words), 0, -1):
        left_out = len(words) - kept
        text = " ".join(words[:kept]) + (f" +{left_out}" if left_out else "")
        if len(text) <= width:
            return text
    return words[0]


def front_table(
    rows: Sequence[Mapping[str, Any]],
    title: str,
    held_out: HeldOut | None = None,
    on_front: Mapping[int, float] | None = None,
    *,
    width: int,
) -> Table:
    """The front, a line each; held-out numbers in columns of their own, where they were measured.

    `on_front`: the chance of each trial to be on the true front. In `width` columns the spreads are left out first.
    """
    names = list(rows[0]["values"]) if rows else []
    heads = [f"{name} (val)" for name in names] + [f"{name} (test)" for name in names if held_out]
    heads += ["on the true front"] if on_front else []

    def numbers(row: Mapping[str, Any], spreads: bool) -> list[str]:
        cells = [decimal(row["values"][n], row["spread"][n] if spreads else math.nan) for n in names]
        if held_out is not None and held_out:
            test = held_out.get(row["number"], {})
            cells += [decimal(test[n][0], test[n][1] if spreads else math.nan) if n in test else "-" for n in names]
        if on_front:
            cells.append(f"{on_front[row['number']]:.0%}" if row["number"] in on_front else "-")
        return cells

    origins = [row["baseline"] or ("asked for" if row.get("asked") else "") for row in rows]
    labels = [row["label"] + (f" [{origin}]" if origin else "") for row, origin in zip(rows, origins, strict=True)]
    wanted = max(map(len, ["configuration", *labels]))
    cells = [numbers(row, spreads=True) for row in rows]
    if _left(heads, cells, width) < wanted:
        heads = [_broken(head, max((len(row[n]) for row in cells), default=0)) for n, head in enumerate(heads)]
    if _left(heads, cells, width) < min(wanted, LEAST):
        cells = [numbers(row, spreads=False) for row in rows]
        heads = [_broken(head.replace("\n", " "), 0) for head in heads]
    room = max(LEAST, min(wanted, _left(heads, cells, width)))
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("configuration" if room >= 13 else "config", no_wrap=True, min_width=room)
    for column, head in enumerate(heads):
        longest = max((len(row[column]) for row in cells), default=0)
        table.add_column(head, justify="right", min_width=longest, style="dim" if "(test)" in head else None)
    for row, label, values in zip(rows, labels, cells, strict=True):
        table.add_row(str(row["number"]), Text(shortened(label, room)), *values)
    return table


def _left(heads: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> int:
    """Columns that are left for the configuration, beside the other columns and the frame."""
    taken = len("trial")
    for column, head in enumerate(heads):
        taken += max(len(text) for text in [*head.split("\n"), *(row[column] for row in cells)])
    return width - taken - 3 * (len(heads) + 2) - 1


def _broken(head: str, width: int) -> str:
    """A head in lines, broken between words where it is wider than its column's cells."""
    lines = [""]
    for word in head.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > max(width, 8):
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
