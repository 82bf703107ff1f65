"""Tables in the papers' shape, and as CSV.

The papers' have model x method, mean ± spread over the seeds in percent, an arrow for the better way: FairLoRA,
Tables 1, 2, 3 and 6.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dashboards.document.document import DataTable
from dashboards.ink.wording import decimal, heading, percent

if TYPE_CHECKING:
    import pandas as pd


def method_table(rows: pd.DataFrame, metrics: Mapping[str, str], caption: str = "") -> DataTable:
    """One row of `rows` for each model and method: model, method, the metrics and their `_std` (shares).

    In bold is what `NAME_best` says may be the best of its model; where there is no such column, or all are alike,
    nothing is. Metrics that are undefined everywhere are left out. `n` has a column where it differs between rows.
    """
    kept = {name: sense for name, sense in metrics.items() if name in rows and rows[name].notna().any()}
    counted = "n" in rows and rows["n"].nunique() > 1
    records = rows.to_dict("records")
    models = [str(record["model"]) for record in records]
    starts = [i for i, model in enumerate(models) if i and model != models[i - 1]]
    body = tuple(
        (
            model if i == 0 or i in starts else "",
            str(record["method"]),
            *([decimal(record["n"], digits=0)] if counted else []),
            *(percent(record[name], record.get(f"{name}_std", math.nan)) for name in kept),
        )
        for i, (model, record) in enumerate(zip(models, records, strict=True))
    )
    best = {
        (i, 2 + counted + column)
        for model in dict.fromkeys(models)
        for column, name in enumerate(kept)
        for i in _best([i for i in range(len(records)) if models[i] == model], records, f"{name}_best")
    }
    head = ("model", "method", *(["n"] if counted else []), *(heading(name, sense) for name, sense in kept.items()))
    return DataTable(head, body, caption, words=(0, 1), best=frozenset(best), lines=tuple(starts))


def _best(own: Sequence[int], records: Sequence[Mapping[Hashable, Any]], column: str) -> list[int]:
    """The rows of one model that may be the best; none where every one of them may."""
    best = [i for i in own if records[i].get(column) is True]
    return best if len(best) < len(own) else []


# --- CSV

_FORMULA = re.compile(r"[=+\-@\t\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV that people open in a spreadsheet: numbers are numbers, and no name becomes a formula.

    A text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, "CSV Injection").
    """
    import pandas as pd

    words = [str(name) for name in table if table[name].dtype == object or pd.api.types.is_string_dtype(table[name])]
    safe = {name: pd.Series(list(map(_cell, table[name])), table.index, dtype=object) for name in words}
    return table.assign(**safe).rename(columns=_cell).to_csv(index=False)


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace(
        "\r", "\n"
    )  # Python's csv leaves a lone CR unquoted: a new row to others
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
