"""Tables in the papers' shape: model x method, mean ± spread over the seeds in percent, an arrow for the better way.

FairLoRA, Tables 1, 2, 3 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from dashboards.document.document import Table
from dashboards.ink.style import readable

ARROWS = {"max": "↑", "min": "↓"}


def method_table(rows: pd.DataFrame, metrics: Mapping[str, str], caption: str = "") -> Table:
    """One row of `rows` for each model and method: model, method, the metrics and their `_std` (shares).

    The best mean of each model is in bold, also where it is best by less than the spread. Metrics
    that are undefined everywhere are left out.
    """
    kept = {name: sense for name, sense in metrics.items() if name in rows and rows[name].notna().any()}
    records = rows.to_dict("records")
    models = [str(record["model"]) for record in records]
    starts = [i for i, model in enumerate(models) if i and model != models[i - 1]]
    body = tuple(
        (
            model if i == 0 or i in starts else "",
            str(record["method"]),
            *(percent(record[name], record.get(f"{name}_std", math.nan)) for name in kept),
        )
        for i, (model, record) in enumerate(zip(models, records, strict=True))
    )
    best = {
        (i, 2 + column)
        for model in dict.fromkeys(models)
        for column, (name, sense) in enumerate(kept.items())
        for i in _best({i: record[name] for i, record in enumerate(records) if models[i] == model}, sense)
    }
    head = ("model", "method", *(heading(name, sense) for name, sense in kept.items()))
    return Table(head, body, caption, words=(0, 1), best=frozenset(best), lines=tuple(starts))


def heading(name: str, sense: str) -> str:
    """`accuracy (↑)`."""
    return f"{readable(name)} ({ARROWS[sense]})"


def percent(value: float, spread: float = math.nan) -> str:
    """`97.35 ± 0.17` of a share; `–` where it is undefined."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.2f}" + ("" if math.isnan(spread) else f" ± {100 * spread:.2f}")


def decimal(value: float, spread: float = math.nan) -> str:
    """`0.873 ± 0.012`; `–` where it is undefined."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3f}" + ("" if math.isnan(spread) else f" ± {spread:.3f}")


def _best(values: Mapping[int, float], sense: str) -> list[int]:
    """The rows that hold the best value; none where there is nothing to compare."""
    known = {i: value for i, value in values.items() if not math.isnan(value)}
    if len(known) < 2:
        return []
    top = (max if sense == "max" else min)(known.values())
    return [i for i, value in known.items() if value == top]
