"""Trials and fits to take away: as tables (CSV, Parquet) or as one JSON document. Nothing is left out.

A table file `x.csv` holds the trials; beside it `x.fits.csv`, `x.groups.csv` and `x.epochs.csv`. Test
numbers of the points that were measured are in columns, and rows, that say so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from dashboards.document.tables import to_csv
from sweeper.results import confirmation, held_out
from sweeper.results.results import Results
from trainables.files import whole, write_text
from trainables.undefined import to_null


def write(results: Results, form: str, path: Path) -> list[Path]:
    """Write it as `csv`, `json` or `parquet`; gives the files."""
    if form == "json":
        write_text(path, json.dumps(document(results), indent=1, ensure_ascii=False, allow_nan=False))
        return [path]
    written = []
    for name, table in tables(results).items():
        place = path if name == "trials" else path.with_suffix(f".{name}{path.suffix}")
        if form == "csv":
            write_text(place, to_csv(table))
        else:
            with whole(place) as temporary:
                _plain_columns(table).to_parquet(temporary, index=False)
        written.append(place)
    return written


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """`trials`, `fits`, `groups` and `epochs`."""
    test = held_out.bodies(results)
    return {
        "trials": results.trials_table,
        "fits": _fits(results, test),
        "groups": _groups(results, test),
        "epochs": results.epochs_table,
    }


def _fits(results: Results, test: held_out.Bodies) -> pd.DataFrame:
    """With the reasons of what is undefined, and the test split's metrics as `test_<metric>`."""
    reasons = {(fit.number, fit.seed): json.dumps(dict(fit.reasons), ensure_ascii=False) for fit in results.fits}
    table = results.fits_table
    keys = list(zip(table["number"], table["seed"], strict=True))
    extra = [
        {"undefined": reasons[key]} | {f"test_{name}": value for name, value in test.get(key, _NONE)["values"].items()}
        for key in keys
    ]
    return table.join(pd.DataFrame(extra, index=table.index))


_NONE: dict[str, Any] = {"values": {}, "groups": []}


def _groups(results: Results, test: held_out.Bodies) -> pd.DataFrame:
    """Groups of the validation split, and of the test split where it was measured."""
    rows = [{"number": n, "seed": seed, **row} for (n, seed), body in test.items() for row in body["groups"]]
    parts = [results.groups_table.assign(split="val")]
    if rows:
        parts.append(pd.DataFrame(rows).reindex(columns=results.groups_table.columns).assign(split="test"))
    return pd.concat(parts, ignore_index=True)


def _plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Parquet wants one type in a column: one that holds numbers and words (alpha: 16, 2*rank) becomes words."""
    mixed = [
        name
        for name in table.columns
        if len({type(value) for value in table[name].dropna()}) > 1 and table[name].dtype == object
    ]
    return table.astype(dict.fromkeys(mixed, "string"))


def document(results: Results) -> dict[str, Any]:
    """One document: the spec, every trial, and in it every fit as its folder holds it. nan is null."""
    test = held_out.bodies(results)
    spec, front = results.spec, set(results.front)
    return to_null(
        {
            "sweep": spec.name,
            "spec": spec.model_dump(mode="json"),
            "front": list(results.front),
            "named": results.named,
            "confirmations": [each.to_json() for each in confirmation.read(results.folder)],
            "trials": [
                {**vars(trial), "state": str(trial.state), "label": trial.label, "on_front": trial.number in front}
                | {"fits": [_fit(results, trial.number, seed, test) for seed in trial.seed_list]}
                for trial in results.trials
            ],
        }
    )


def _fit(results: Results, number: int, seed: int, test: held_out.Bodies) -> dict[str, Any]:
    body = results.folder.fit(number, seed).result()
    measured = test.get((number, seed))
    return {"seed": seed, "result": body, "test": measured}
