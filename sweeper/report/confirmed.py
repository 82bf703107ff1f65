"""A confirmation for people: what was trained again, and by how much the point and the baseline then differ."""

from __future__ import annotations

import math

from dashboards.document.document import DataTable, Text
from dashboards.ink.wording import decimal, heading, readable
from sweeper.results.confirmation import SPLITS, Confirmation, Difference
from sweeper.results.results import Results
from trainables.metrics import METRICS

_CHOSE = {
    "validation": "its examples helped to choose the point, so it may still look better than it is; the seeds are new",
    "test": "neither its examples nor the seeds have chosen anything",
}
_VERDICTS = {"better": "better", "worse": "worse", "unsure": "cannot be told", "unknown": "unknown"}


def blocks(results: Results, confirmation: Confirmation) -> list[Text | DataTable]:
    """What was trained again, a sentence for each split, and a table for each."""
    said = [Text(what(results, confirmation))]
    if not confirmation.finished:
        name, asked = results.spec.name, confirmation.asked
        again = f"the same command goes on: sweeper confirm {name}@{asked} --seeds {len(confirmation.seeds)}"
        failed = f"It cannot be compared: {confirmation.failed}." if confirmation.failed else ""
        return [*said, Text(failed or f"It has not ended; {again}")]
    tables = [_table(results, confirmation, split) for split in SPLITS]
    return [*said, *(Text(sentence(results, confirmation, split)) for split in reversed(SPLITS)), *tables]


def what(results: Results, confirmation: Confirmation) -> str:
    """The two trials, the rule that took them, and the seeds."""
    point, baseline = (results.by_number[n] for n in (confirmation.point, confirmation.baseline))
    called = "" if confirmation.asked == str(point.number) else f" ({confirmation.asked})"
    method, seeds = str(baseline.params["method"]), confirmation.seeds
    listed = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return (
        f"#{point.number} {point.label}{called} against #{baseline.number} {baseline.label}, what {confirmation.rule} "
        f"takes from the trials of {method}: each was trained again with {listed}, which the sweep never used."
    )


def sentence(results: Results, confirmation: Confirmation, split: str) -> str:
    """What the objectives say on one split."""
    found = {each.metric: each for each in confirmation.of(split)}
    parts = [_part(found[name]) for name in results.spec.objectives if name in found]
    seeds = len(confirmation.seeds)
    over = f"over {seeds} new seeds" if seeds > 1 else "with one new seed"
    return f"On {split} {over} ({_CHOSE[split]}): {'; '.join(parts)}."


def _part(each: Difference) -> str:
    size = f"{each.value:+.3f}" + ("" if each.low is None or each.high is None else f", 95 %: {_ends(each)}")
    told = {
        "better": "is better",
        "worse": "is worse",
        "unsure": "cannot be told apart",
        "unknown": "is of unknown worth",
    }
    return f"{readable(each.metric)} {told[each.verdict]} ({size})"


def _ends(each: Difference) -> str:
    return "–" if each.low is None or each.high is None else f"{each.low:+.3f} … {each.high:+.3f}"


def _table(results: Results, confirmation: Confirmation, split: str) -> DataTable:
    """All metrics; on validation beside what the sweep itself had measured."""
    point, baseline = (results.by_number[n] for n in (confirmation.point, confirmation.baseline))
    before = split == "validation"
    rows: list[tuple[str, ...]] = []
    for each in confirmation.of(split):
        row = [heading(each.metric, METRICS[each.metric].direction), decimal(each.point), decimal(each.baseline)]
        row += [f"{each.value:+.3f}", _ends(each) + ("" if each.examples or each.low is None else " (seeds alone)")]
        row += [_VERDICTS[each.verdict]]
        if before:
            was = point.metrics.get(each.metric, math.nan) - baseline.metrics.get(each.metric, math.nan)
            row += ["–" if math.isnan(was) else f"{was:+.3f}"]
        rows.append(tuple(row))
    head = ["metric", f"#{point.number}", f"#{baseline.number}", "difference", "95 %", f"#{point.number} is"]
    head += ["in the sweep"] if before else []
    return DataTable(tuple(head), tuple(rows), _caption(confirmation, split), words=(0, 5))


def _caption(confirmation: Confirmation, split: str) -> str:
    alone = len(confirmation.seeds) == 1
    over = "of the examples alone: of another seed nothing is known" if alone else "paired by seed and example"
    was = " In the sweep: the difference with the seeds that chose." if split == "validation" else ""
    return (
        f"{split.capitalize()} split, new seeds; {_CHOSE[split]}. Means over the seeds; 95 % intervals by Student's t, "
        f"{over}, each by itself: of twenty metrics in which nothing differs, one looks better or worse.{was}"
    )
