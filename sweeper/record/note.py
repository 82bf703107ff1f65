"""The note on a sweep's parent run: what was asked, the front with links, which point and why, with what care.

Markdown, below the 8,000 characters at which MLflow cuts without a word. Pure: `record` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeper.front.intervals import wilson
from sweeper.record import pictures
from sweeper.results import summary
from sweeper.results.results import Results
from sweeper.spec.model import SweepSpec

LONGEST = 7_900
_MOST_ROWS = 25


@dataclass(frozen=True)
class Links:
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


def write(results: Results, links: Links) -> str:
    """The note. A front too long for it is cut, and the note says so."""
    spec, choice = results.spec, results.choice()
    head = [f"# {spec.name}", _asked(spec), _stands(results)]
    if results.front and len(spec.objectives) > 1:
        head.append(f"![Pareto front]({links.file(pictures.SMALL)})")
    tail = []
    if choice is not None:
        tail += ["## Which one", f"**#{choice.number} {choice.label}**, by {choice.rule}. {choice.why}"]
    tail += ["## Read with care", *_cares(results)]
    for rows in range(min(len(results.front), _MOST_ROWS), -1, -1):
        text = "\n\n".join([*head, _front(results, links, rows), *tail])
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


def _stands(results: Results) -> str:
    told = ", ".join(f"{count} {state}" for state, count in results.counts.items() if count)
    grown = "" if math.isnan(results.hypervolume) else f" Hypervolume {results.hypervolume:.4f}."
    return f"**So far:** {told or 'nothing yet'} of {results.spec.budget}; {len(results.front)} on the front.{grown}"


def _front(results: Results, links: Links, most: int) -> str:
    objectives, members = results.spec.objectives, results.members
    lines = ["## The front", "", f"| trial | configuration | {' | '.join(objectives)} | |"]
    lines.append("|---|---|" + "---|" * (len(objectives) + 1))
    for trial in members[:most]:
        numbers = " | ".join(_number(trial.values[name], trial.spread.get(name, math.nan)) for name in objectives)
        called = ", ".join(label for label, number in results.named.items() if number == trial.number)
        baseline = f" (baseline {trial.baseline})" if trial.baseline else ""
        link = f"[{trial.number}]({links.run(trial.number)})"
        lines.append(f"| {link} | {trial.label}{baseline} | {numbers} | {called} |")
    if len(members) > most:
        lines.append(f"\n{len(members) - most} more in `front.csv`.")
    lines.append("\nValidation numbers: mean ± standard deviation over the seeds.")
    return "\n".join(lines) if members else "## The front\n\nNo trial is on it yet."


def _number(value: float, spread: float) -> str:
    return f"{value:.4f}" + ("" if math.isnan(spread) else f" ± {spread:.4f}")


def _cares(results: Results) -> list[str]:
    spec, cares = results.spec, [f"- {summary.CAVEAT}"]
    counts = (results.dataset.get("splits") or {}).get("val", {})
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
