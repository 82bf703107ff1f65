"""The papers' figures of one sweep, each method at the point that one rule takes for it.

`sweeper.report.paper` says which figure is which item of which paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from dashboards.document.document import Picture
from dashboards.figures import curves, reliability, subgroups
from dashboards.ink.chart import Chart
from sweeper.front.intervals import of_mean
from sweeper.report import papers
from sweeper.results.results import Results
from trainables.metrics import Answers
from trainables.metrics.base import ratio
from trainables.metrics.parity import odds_S

Numbers = Mapping[str, int]  # each method's point
INTERVAL = (
    "Bars: 95 % intervals of the mean over {} seeds (Student's t); what other examples would change is not in them."
)
ONE_SEED = "One seed: of others nothing is known, so there are no bars."
SUBGROUP_METRICS = ("accuracy", "eod", "f1")
OVERLAID = ("fairlora", "lora", "fairfft", "fft")  # FairLoRA's figures; the other paper's have lora and fft


def pictures(results: Results, numbers: Numbers) -> list[Picture]:
    """All that can be drawn."""
    charts = {name: draw(results, numbers) for name, draw in FIGURES.items() if name != "methods"}
    return [Picture(name, chart) for name, chart in charts.items() if chart is not None]


def subgroup_rows(results: Results) -> pd.DataFrame:
    """`groups_table`, and for values of the attribute, with two classes, `eod` and the positive class's `f1`."""
    table = results.groups_table
    known = {
        (fit.number, fit.seed, "attribute", name): values
        for fit in results.fits
        if fit.answers is not None
        for name, values in by_attribute(fit.answers).items()
    }
    keys = list(zip(table["number"], table["seed"], table["kind"], table["name"], strict=True))
    eods, f1s = ([known.get(key, {}).get(name, math.nan) for key in keys] for name in ("eod", "f1"))
    return table.assign(eod=eods, f1=table["f1"].astype(float).where(table["kind"] != "attribute", f1s))


def by_attribute(answers: Answers) -> dict[str, dict[str, float]]:
    """By value of the attribute: `eod`, the equalized odds difference to all others together, and `f1`.

    Two classes only, the second is the positive one; empty otherwise. nan where there are no such examples.
    Source: On Fairness of LoRA, sections 2.2 and A.1.
    """
    if answers.attributes_N is None or len(answers.classes) != 2:
        return {}
    predictions = answers.take(np.arange(len(answers)))
    counts_SCC = predictions.counts_SCC  # value, true class, answer
    f1_S = ratio(2 * counts_SCC[:, 1, 1], counts_SCC[:, 1, :].sum(1) + counts_SCC[:, :, 1].sum(1))
    eod_S = odds_S(predictions)["equalized_odds"]
    each = zip(answers.attributes, eod_S.tolist(), f1_S.tolist(), strict=True)
    return {name: {"eod": eod, "f1": f1} for name, eod, f1 in each}


def _half(values: Sequence[float]) -> float:
    ends = of_mean(values) if len(values) > 1 else None
    return math.nan if ends is None else (ends[1] - ends[0]) / 2


def _interval(results: Results) -> str:
    return ONE_SEED if results.seeds_said == "1" else INTERVAL.format(results.seeds_said)


def _named(numbers: Numbers, methods: Sequence[str]) -> dict[int, str]:
    """The points of `methods`, in that order; of all where fewer than two of them are there."""
    own = [method for method in methods if method in numbers]
    return {numbers[method]: method for method in (own if len(own) > 1 else numbers)}


def _bars(results: Results, numbers: Numbers) -> Chart | None:
    rows = papers.method_rows(results, numbers)
    return papers.method_bars(rows) if len(rows) > 1 else None


def _losses(results: Results, numbers: Numbers) -> Chart | None:
    if len(numbers) < 2 or results.groups_table.empty:
        return None
    made = subgroups.loss_numbers(results.groups_table, _named(numbers, OVERLAID))
    return subgroups.loss_chart(made) if any(made.measures.values()) else None


def _losses_by_epoch(results: Results, numbers: Numbers) -> Chart | None:
    measure, epochs = "val_loss_variance_by_class", results.epochs_table
    if len(numbers) < 2 or measure not in epochs:
        return None
    lines = subgroups.epoch_numbers(epochs, _named(numbers, OVERLAID), measure)
    return subgroups.epoch_chart(lines, "variance of the classes' losses") if lines else None


def _confidence(results: Results, numbers: Numbers) -> Chart | None:
    """LoRA (or the other way to train an adapter that was tried) against full fine-tuning."""
    adapter = next((method for method in ("lora", "fairlora") if method in numbers), None)
    full = next((method for method in ("fft", "fairfft") if method in numbers), None)
    if adapter is None or full is None:
        return None
    chosen, bins = {numbers[adapter]: adapter, numbers[full]: full}, results.calibration_table
    if not set(chosen) <= set(bins["number"]):  # fits from before bins were kept
        return None
    return reliability.confidence_chart(reliability.confidence_numbers(bins, chosen))


def _sizes(results: Results, numbers: Numbers) -> Chart | None:
    rows = subgroup_rows(results)
    if not (rows["kind"] == "attribute").any():
        return None
    chosen = _named(numbers, ("lora", "fft"))
    made = subgroups.size_numbers(rows, chosen, "attribute", SUBGROUP_METRICS, _half)
    return subgroups.size_chart(made, _interval(results))


def _ranks(results: Results, numbers: Numbers) -> Chart | None:
    """Plain LoRA's ranks, and as rank 0 the head alone; of several trials of a rank the most accurate."""
    ranks: dict[int, int] = {}
    for trial in sorted(results.able, key=lambda trial: -trial.metrics.get("accuracy", -math.inf)):
        method = trial.params.get("method")
        rank = 0 if method == "probe" else trial.params.get("rank") if method == "lora" else None
        if rank is not None and rank not in ranks.values():
            ranks[trial.number] = int(rank)
    rows = subgroup_rows(results)
    if len(ranks) < 2 or not (rows["kind"] == "attribute").any():
        return None
    made = subgroups.rank_numbers(rows, ranks, "attribute", SUBGROUP_METRICS[:2], _half)
    return subgroups.rank_chart(made, _interval(results))


def _metrics_by(parameter: str) -> Callable[[Results, Numbers], Chart | None]:
    def draw(results: Results, numbers: Numbers) -> Chart | None:
        return metrics_by(parameter, {"": results}, ("accuracy", "min_f1", "delta_f1"))

    return draw


def metrics_by(
    parameter: str, sweeps: Mapping[str, Results], metrics: Sequence[str], methods: Sequence[str] = ()
) -> Chart | None:
    """The metrics against a parameter, one line for each sweep and method (all, if none is named).

    A method without the parameter, such as full fine-tuning, is a line straight across.
    """
    tables: list[pd.DataFrame] = []
    parameters: dict[str, None] = {}
    known: dict[str, str] = {}
    for name, results in sweeps.items():
        table = results.trials_table
        table = table[table["state"] == "complete"]
        table = table[table["method"].isin(list(methods or dict.fromkeys(table["method"])))]
        called = (f"{name}: " if len(sweeps) > 1 else "") + table["method"].astype(str)
        known |= dict(zip(called, table["method"], strict=True))
        tables.append(table.assign(method=called))
        parameters |= dict.fromkeys(results.spec.space.plain())
    joined = pd.concat(tables, ignore_index=True)
    senses = papers.senses(tuple(name for name in metrics if name in joined and joined[name].notna().any()))
    if not senses or parameter not in joined or joined[parameter].nunique() < 2:
        return None
    return curves.curve_chart(curves.curve_numbers(joined, parameter, senses, list(parameters)), known)


FIGURES: Mapping[str, Callable[[Results, Numbers], Chart | None]] = {
    "methods": _bars,
    "variance of per-class loss": _losses,
    "variance of per-class loss by epoch": _losses_by_epoch,
    "lora and fft, confidence": _confidence,
    "groups by size": _sizes,
    "groups by rank": _ranks,
    "the papers' metrics by rank": _metrics_by("rank"),
    "the papers' metrics by lambda": _metrics_by("lambda"),
}
