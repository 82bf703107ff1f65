"""The papers' figures of one sweep, each method at the point that one rule takes for it.

FairLoRA, figures 1, 2b, 11, 12; On Fairness of LoRA, figures 2, 3, 6, 7. `docs/papers.md` says which is which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dashboards.document.document import Picture
from dashboards.figures import curves, reliability, subgroups
from dashboards.ink.chart import Chart
from sweeper.front.intervals import of_mean
from sweeper.report import papers
from sweeper.results.results import Results
from trainables.metrics import Answers

INTERVAL = (
    "Bars: 95 % intervals of the mean over {} seeds (Student's t); what other examples would change is not in them."
)
ONE_SEED = "One seed: of others nothing is known, so there are no bars."


def pictures(results: Results, numbers: Mapping[str, int]) -> list[Picture]:
    """All that can be drawn; `numbers` holds each method's point."""
    rows = subgroup_rows(results)
    if rows.empty:
        return []
    charts = {
        "variance of per-class loss": _losses(rows, numbers),
        "lora and fft, confidence": _confidence(results, numbers),
        "groups by size": _sizes(results, rows, numbers),
        "groups by rank": _ranks(results, rows),
        "the papers' metrics by rank": _metrics_by(results, "rank"),
        "the papers' metrics by lambda": _metrics_by(results, "lambda"),
    }
    return [Picture(name, chart) for name, chart in charts.items() if chart is not None]


def subgroup_rows(results: Results) -> pd.DataFrame:
    """`groups_table`, and for values of the attribute the equalized odds difference between them and all others."""
    table = results.groups_table
    eods = {
        (fit.number, fit.seed, "attribute", name): value
        for fit in results.fits
        if fit.answers is not None
        for name, value in odds_against_others(fit.answers).items()
    }
    keys = zip(table["number"], table["seed"], table["kind"], table["name"], strict=True)
    return table.assign(eod=[eods.get(key, math.nan) for key in keys])


def odds_against_others(answers: Answers) -> dict[str, float]:
    """By value of the attribute: the larger of the gaps in true- and in false-positive rate to all others together.

    nan where a rate has no examples. Two classes only, the second is the positive one; empty otherwise.
    Source: On Fairness of LoRA, section 2.2.
    """
    if answers.attributes_N is None or len(answers.classes) != 2:
        return {}
    yes_N, eods = answers.predicted_N == 1, {}
    for index, name in enumerate(answers.attributes):
        own_N, gaps = answers.attributes_N == index, []
        for label in (0, 1):
            within_N, others_N = own_N & (answers.labels_N == label), ~own_N & (answers.labels_N == label)
            both = within_N.any() and others_N.any()
            gaps.append(abs(float(yes_N[within_N].mean() - yes_N[others_N].mean())) if both else math.nan)
        eods[name] = float(np.max(gaps))
    return eods


def _half(values: Sequence[float]) -> float:
    ends = of_mean(values) if len(values) > 1 else None
    return math.nan if ends is None else (ends[1] - ends[0]) / 2


def _interval(results: Results) -> str:
    seeds = len(results.spec.search.seed_list)
    return INTERVAL.format(seeds) if seeds > 1 else ONE_SEED


def _named(numbers: Mapping[str, int]) -> dict[int, str]:
    return {number: method for method, number in numbers.items()}


def _losses(rows: pd.DataFrame, numbers: Mapping[str, int]) -> Chart | None:
    made = subgroups.loss_numbers(rows, _named(numbers))
    return subgroups.loss_chart(made) if len(numbers) > 1 and any(made.measures.values()) else None


def _confidence(results: Results, numbers: Mapping[str, int]) -> Chart | None:
    """LoRA (or the other way to train an adapter that was tried) against full fine-tuning."""
    adapter = next((method for method in ("lora", "fairlora") if method in numbers), None)
    full = next((method for method in ("fft", "fairfft") if method in numbers), None)
    bins = results.calibration_table
    if adapter is None or full is None or not bins["number"].isin([numbers[adapter], numbers[full]]).any():
        return None
    chosen = {numbers[adapter]: adapter, numbers[full]: full}
    return reliability.reliability_chart(reliability.reliability_numbers(bins, chosen))


def _sizes(results: Results, rows: pd.DataFrame, numbers: Mapping[str, int]) -> Chart | None:
    if not (rows["kind"] == "attribute").any():
        return None
    made = subgroups.size_numbers(rows, _named(numbers), "attribute", ("accuracy", "eod"), _half)
    return subgroups.size_chart(made, _interval(results))


def _ranks(results: Results, rows: pd.DataFrame) -> Chart | None:
    """Plain LoRA's ranks, and as rank 0 the head alone; of several trials of a rank the most accurate."""
    ranks: dict[int, int] = {}
    for trial in sorted(results.able, key=lambda trial: -trial.metrics.get("accuracy", -math.inf)):
        method = trial.params.get("method")
        rank = 0 if method == "probe" else trial.params.get("rank") if method == "lora" else None
        if rank is not None and rank not in ranks.values():
            ranks[trial.number] = int(rank)
    if len(ranks) < 2 or not (rows["kind"] == "attribute").any():
        return None
    made = subgroups.rank_numbers(rows, ranks, "attribute", ("accuracy", "eod"), _half)
    return subgroups.rank_chart(made, _interval(results))


def _metrics_by(results: Results, parameter: str) -> Chart | None:
    table = results.trials_table
    if parameter not in table or table.loc[table["state"] == "complete", parameter].nunique() < 2:
        return None
    metrics = papers.senses(tuple(name for name in ("accuracy", "min_f1", "delta_f1") if name in table))
    if not metrics:
        return None
    return curves.curve_chart(curves.curve_numbers(table, parameter, metrics, list(results.spec.space.plain())))
