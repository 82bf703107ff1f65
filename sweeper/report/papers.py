"""The papers' tables: each method at the point that one rule takes from its own trials, on validation and on test.

FairLoRA, Tables 1, 2 and 6 (all examples) and 3 (by the sensitive attribute).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dashboards.document.document import DataTable
from dashboards.document.tables import method_table
from dashboards.figures import bars
from dashboards.ink.chart import Chart
from dashboards.ink.wording import decimal
from sweeper.front import noise, paired, recommend
from sweeper.front.noise import TrialFits
from sweeper.front.recommend import Rule
from sweeper.results import held_out
from sweeper.results.results import UNCONVERGED, Results
from sweeper.trial import mean_and_spread
from trainables.metrics import METRICS, Answers, under_both_names
from trainables.undefined import to_nan

OVERALL_METRICS = ("accuracy", "min_f1", "min_recall", "delta_f1")
ATTRIBUTE_METRICS = (
    "eod_max_macro",
    "sensitive_accuracy",
    "worst_accuracy_by_attribute",
    "accuracy_spread_by_attribute",
)
CELL_METRICS = ("worst_accuracy_by_cell",)  # "worst group" in the literature of Waterbirds
RESAMPLES = 100

Fits = Mapping[int, Mapping[int, Mapping[str, Any]]]  # trial number -> seed -> values and answers


@dataclass(frozen=True)
class MethodPoints:
    """Each method's point, and how it was chosen: on validation, always."""

    numbers: Mapping[str, int]
    rule: str


def points(results: Results, by: Rule | str) -> MethodPoints:
    """By a rule, or by the name of one of `recommend.METHOD_RULES`."""
    objectives = results.spec.objectives
    senses, rule = recommend.method_rule(by, objectives) if isinstance(by, str) else (objectives, by)
    return MethodPoints(recommend.per_method(results.trials, senses, rule), rule.text)


def method_rows(results: Results, numbers: Mapping[str, int], split: str = "validation") -> pd.DataFrame:
    """One row per method: number, model, method, name, n, converged, every metric, its `_std` and (a bool) its `_best`.

    `n` are the examples that it is measured on; `converged` is False where a refit of the last layer ended too early.

    On `test` only methods whose point was measured there with every seed.
    """
    fits = {"validation": _validation, "test": _test}[split](results, set(numbers.values()))
    rows = []
    for method, number in numbers.items():
        seeds = results.by_number[number].seed_list
        if set(fits.get(number, ())) >= set(seeds):
            means, spread = mean_and_spread([fits[number][seed]["values"] for seed in seeds])
            row: dict[str, Any] = {"number": number, "model": results.spec.backbone.name, "method": method}
            answers = fits[number][seeds[0]]["answers"]
            row |= {"n": math.nan if answers is None else len(answers), "converged": number not in results.unconverged}
            row |= {"name": results.by_number[number].label} | means
            rows.append(row | {f"{name}_std": value for name, value in spread.items()})
    return pd.DataFrame(rows).assign(**_best({row["number"]: fits[row["number"]] for row in rows}))


def _validation(results: Results, numbers: set[int]) -> Fits:
    fits: dict[int, dict[int, dict[str, Any]]] = {}
    for fit in results.fits:
        if fit.number in numbers and fit.error is None:
            fits.setdefault(fit.number, {})[fit.seed] = {"values": fit.values, "answers": fit.answers}
    return fits


def _test(results: Results, numbers: set[int]) -> Fits:
    fits: dict[int, dict[int, dict[str, Any]]] = {}
    for (number, seed), body in held_out.bodies(results).items():
        if number in numbers:
            answers = body.get("answers")
            fits.setdefault(number, {})[seed] = {
                "values": under_both_names(to_nan(body["values"])),
                "answers": None if answers is None else Answers.from_json(answers),
            }
    return fits


def _best(fits: Fits) -> dict[str, list[bool]]:
    """For each metric of the tables, which trials may be the best, paired by seed and example; empty where unknown.

    Only seeds that all of them have count.
    """
    names = [name for name in (*OVERALL_METRICS, *ATTRIBUTE_METRICS, *CELL_METRICS) if name in METRICS]
    if len(fits) < 2:
        return {}
    seeds = sorted(set[int].intersection(*(set(by_seed) for by_seed in fits.values())))
    trials = [
        TrialFits(
            number,
            np.array([[by_seed[seed]["values"].get(name, math.nan) for name in names] for seed in seeds]),
            tuple(by_seed[seed]["answers"] for seed in seeds),
        )
        for number, by_seed in fits.items()
    ]
    answered = all(answers is not None for trial in trials for answers in trial.answers)
    resampled_BKSM = noise.resampled(trials, names, resamples=RESAMPLES) if answered else None
    best: dict[str, list[bool]] = {}
    for m, name in enumerate(names):
        sign = 1 if METRICS[name].direction == "max" else -1
        values_KS = sign * np.array([trial.values_SM[:, m] for trial in trials])
        if np.isfinite(values_KS).all(axis=1).sum() > 1:
            resampled_BKS = None if resampled_BKSM is None else sign * resampled_BKSM[..., m]
            may = paired.may_be_best(values_KS, resampled_BKS)
            best |= {} if may is None else {f"{name}_best": may.tolist()}
    return best


BOLD = (
    "Bold: the best, and what a paired test over seeds and examples cannot tell from it; none is where no method is "
    "surely behind."
)


def tables(rows: pd.DataFrame, caption: str) -> list[DataTable]:
    """The rows in the papers' shape: all examples, and by the sensitive attribute where the data has one."""
    if rows.empty:
        return []
    made = [method_table(rows, senses(OVERALL_METRICS), f"{caption}{_note(rows)} {BOLD}")]
    if rows[[name for name in ATTRIBUTE_METRICS if name in rows]].notna().any(axis=None):
        caption = (
            "The same points by the sensitive attribute (of several: by their joint values), and by cell of it and "
            "class, in percent."
        )
        made.append(method_table(rows, senses((*ATTRIBUTE_METRICS, *CELL_METRICS)), caption))
    return made


def method_bars(rows: pd.DataFrame) -> Chart:
    """Each method's metrics on one scale where higher is better: FairLoRA, figures 1, 3, 4, 6 to 8, 11 and 12."""
    return bars.bar_chart(bars.bar_numbers(rows, senses((*OVERALL_METRICS, *ATTRIBUTE_METRICS[:3]))))


def plain_rows(
    rows: pd.DataFrame, metrics: Sequence[str] = (*OVERALL_METRICS, *ATTRIBUTE_METRICS, *CELL_METRICS)
) -> pd.DataFrame:
    """What the tables are made of, as numbers: the columns that say which point it is, and those of the metrics."""
    wanted = ["model", "method", "name", "number", "n", "converged"]
    for name in metrics:
        wanted += [name, f"{name}_std", f"{name}_best"]
    return rows[[name for name in wanted if name in rows and rows[name].notna().any()]].copy()


def _note(rows: pd.DataFrame) -> str:
    """What to know of methods that are not measured on all examples, or whose refit did not converge."""
    most, records = rows["n"].max(), rows.to_dict("records")
    fewer = [f"{row['method']} on {row['n']:,.0f}" for row in records if row["n"] < most]
    why = "the others have refitted its last layer, and its numbers vary more"
    sentences = [f"n is the examples measured: {', '.join(fewer)} of {most:,.0f}; {why}."] if fewer else []
    sentences += [f"{row['method']}: {UNCONVERGED}." for row in records if not row["converged"]]
    return "".join(f" {sentence}" for sentence in sentences)


def size_rows(results: Results) -> pd.DataFrame:
    """Parameters by method and rank: method, rank, trainable, total, share; empty where they were not kept."""
    frame = results.fits_table
    wanted = {"provenance.trainable_parameters": "trainable", "provenance.total_parameters": "total"}
    if not set(wanted) <= set(frame):
        return pd.DataFrame(columns=["method", "rank", *wanted.values(), "share"])
    known = frame.dropna(subset=list(wanted)).rename(columns=wanted)
    if "rank" not in known:
        known = known.assign(rank=math.nan)
    rows = known[["method", "rank", *wanted.values()]].drop_duplicates(["method", "rank"], keep="last")
    rows = rows.sort_values(["method", "rank"], na_position="first", ignore_index=True)
    return rows.assign(share=rows["trainable"] / rows["total"])


def size_table(rows: pd.DataFrame, caption: str, folded: str = "") -> DataTable:
    """In the shape of FairLoRA, Table 5; with a column `model` where the rows have one."""
    columns = [name for name in ("model", "method") if name in rows]
    body = tuple(
        (
            *(str(row[name]) for name in columns),
            decimal(row["rank"], digits=0),
            *(f"{row[name]:,.0f}" for name in ("trainable", "total")),
            f"{row['share']:.2%}",
        )
        for row in rows.to_dict("records")
    )
    head = (*columns, "rank", "trainable", "total", "share")
    return DataTable(head, body, caption, words=tuple(range(len(columns))), folded=folded)


def senses(names: tuple[str, ...]) -> dict[str, str]:
    """Which way each metric is better."""
    return {name: METRICS[name].direction for name in names}
