"""The note on a sweep's parent run: what was asked, the front with links, which point and why, with what care.

Markdown, below the 8,000 characters at which MLflow cuts without a word. Pure: `tracking` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.front.intervals import wilson
from sweeper.record import pictures
from sweeper.results import summary
from sweeper.spec.model import SweepSpec
from sweeper.trial import Trial

LONGEST = 7_900
_MOST_ROWS = 25


@dataclass(frozen=True)
class Place:
    """Where in MLflow a sweep's runs are; `runs` gives the run of a trial."""

    experiment: str
    parent: str
    runs: Mapping[int, str] = field(default_factory=dict)

    def run(self, number: int) -> str:
        """A link to a trial's run, relative to the page."""
        return f"#/experiments/{self.experiment}/runs/{self.runs[number]}?workflowType=machine_learning"

    def file(self, path: str) -> str:
        """A link to a file of the parent run."""
        return f"get-artifact?path={path}&run_uuid={self.parent}"


def write(
    spec: SweepSpec,
    trials: Sequence[Trial],
    front: Sequence[int],
    place: Place,
    *,
    named: Mapping[str, int],
    recommended: str,
    dataset: Mapping[str, Any],
) -> str:
    """The note. `named` are the points that have a name (`knee`, ...), `recommended` says which to take and why.

    A front too long for the note is cut, and says so.
    """
    head = [f"# {spec.name}", _asked(spec), _stands(spec, trials, front)]
    if front and len(spec.objectives) > 1:
        head.append(f"![Pareto front]({place.file(pictures.SMALL)})")
    tail = ["## Which one", recommended] if recommended else []
    tail += ["## Read with care", *_cares(spec, dataset)]
    for rows in range(min(len(front), _MOST_ROWS), -1, -1):
        text = "\n\n".join([*head, _front(spec, trials, front, place, named, rows), *tail])
        if len(text) <= LONGEST:
            return text
    return text[:LONGEST]


def _asked(spec: SweepSpec) -> str:
    wanted = " and ".join(f"{'most' if sense == 'max' else 'least'} {name}" for name, sense in spec.objectives.items())
    searched = ", ".join(f"`{name}`" for name, value in spec.space.plain().items() if isinstance(value, (dict, list)))
    return (
        f"**Asked:** which {searched or 'settings'} give {wanted}{_kept(spec)} on `{spec.data.name}` with "
        f"`{spec.backbone.name}`, groups by {spec.groups}? {spec.budget} trials, {len(spec.search.seed_list)} seeds "
        f"each, proposed by `{spec.search.sampler}`; baselines: {', '.join(spec.search.baselines) or 'none'}."
    )


def _kept(spec: SweepSpec) -> str:
    told = ""
    for name, bound in spec.constraints.items():
        told += "" if bound.min is None else f", {name} at least {bound.min:g}"
        told += "" if bound.max is None else f", {name} at most {bound.max:g}"
    return told


def _stands(spec: SweepSpec, trials: Sequence[Trial], front: Sequence[int]) -> str:
    counts = summary.counts(trials)
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    volume = summary.hypervolume(trials, spec, front)
    grown = "" if math.isnan(volume) else f" Hypervolume {volume:.4f}."
    return f"**So far:** {told or 'nothing yet'} of {spec.budget}; {len(front)} on the front.{grown}"


def _front(
    spec: SweepSpec, trials: Sequence[Trial], front: Sequence[int], place: Place, named: Mapping[str, int], most: int
) -> str:
    rows = summary.front_rows(trials, spec, front)
    lines = ["## The front", "", f"| trial | configuration | {' | '.join(spec.objectives)} | |"]
    lines.append("|---|---|" + "---|" * (len(spec.objectives) + 1))
    for row in rows[:most]:
        numbers = " | ".join(_number(row["values"][name], row["spread"][name]) for name in spec.objectives)
        called = ", ".join(label for label, number in named.items() if number == row["number"])
        link = f"[{row['number']}]({place.run(row['number'])})"
        lines.append(f"| {link} | {row['label']}{_baseline(row)} | {numbers} | {called} |")
    if len(rows) > most:
        lines.append(f"\n{len(rows) - most} more in `front.csv`.")
    lines.append("\nValidation numbers: mean ± standard deviation over the seeds.")
    return "\n".join(lines) if rows else "## The front\n\nNo trial is on it yet."


def _number(value: float, spread: float) -> str:
    return f"{value:.4f}" + ("" if math.isnan(spread) else f" ± {spread:.4f}")


def _baseline(row: Mapping[str, Any]) -> str:
    return f" (baseline {row['baseline']})" if row["baseline"] else ""


def _cares(spec: SweepSpec, dataset: Mapping[str, Any]) -> list[str]:
    cares = [f"- {summary.CAVEAT}"]
    counts = (dataset.get("splits") or {}).get("val", {})
    groups = counts.get(spec.groups) or counts.get("class") or {}
    if groups:
        name, n = min(groups.items(), key=lambda item: item[1])
        low, high = wilson(0.8 * n, n)
        cares.append(
            f"- The smallest group of the validation split is `{name}`, {n} images: a share of .80 measured there "
            f"is, at 95 %, anything from {low:.2f} to {high:.2f}."
        )
    if spec.data.name == "digits-on-scenes":
        cares.append(f"- {summary.SMOKE}")
    return ["\n".join(cares)]
