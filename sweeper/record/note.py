"""The note on a sweep's parent run: what was asked, the front with links, which point and why, with what care.

Markdown, below the 8,000 characters at which MLflow cuts without a word. Pure: `record` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dashboards.document import writers
from dashboards.document.document import (
    Block,
    Bullets,
    DataTable,
    Document,
    Image,
    Line,
    Section,
    Span,
    Text,
    code,
    line,
)
from dashboards.ink.wording import decimal
from sweeper.front.intervals import wilson
from sweeper.record import pictures
from sweeper.report.sweep_report import question
from sweeper.results import summary
from sweeper.results.results import Results

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

    def page(self, path: str) -> str:
        """A link to where MLflow shows a file of the parent run."""
        return f"#/experiments/{self.experiment}/runs/{self.parent}/artifacts/{path}?workflowType=machine_learning"

    def file(self, path: str) -> str:
        """A link to a file of the parent run."""
        return f"get-artifact?path={path}&run_uuid={self.parent}"


def write(results: Results, links: Links) -> str:
    """The note. A front too long for it is cut, and the note says so."""
    text = ""
    for rows in range(min(len(results.front), _MOST_ROWS), -1, -1):
        text = writers.to_markdown(_document(results, links, rows))
        if len(text) <= LONGEST:
            return text
    return text[:LONGEST]


def _document(results: Results, links: Links, most: int) -> Document:
    spec, choice = results.spec, results.choice()
    head: list[Block] = []  # MLflow folds the note: its first lines are what is seen
    if results.front and len(spec.objectives) > 1:
        page = Span("Look around in the front", strong=True, url=links.page(pictures.FRONT))
        head.append(Text((page, ": every trial, its settings, and the point to take.")))
    head += [_stands(results), Text(question(spec))]
    if results.front and len(spec.objectives) > 1:
        head.append(Image("Pareto front", links.file(pictures.SMALL)))
    sections = [Section("", tuple(head)), Section("The front", tuple(_front(results, links, most)))]
    if choice is not None:
        chosen = Span(f"#{choice.number} {choice.label}", strong=True)
        sections.append(Section("Which one", (Text((chosen, f", by {choice.rule}. {choice.why}")),)))
    return Document("", "", (*sections, Section("Read with care", (_cares(results),))))


def _stands(results: Results) -> Text:
    counts = ", ".join(f"{count} {state}" for state, count in results.counts.items() if count)
    text = f" {counts or 'nothing yet'} of {results.spec.budget}; {len(results.front)} on the front."
    if not math.isnan(results.hypervolume):
        text += f" Hypervolume {decimal(results.hypervolume, digits=4)}."
    return Text((Span("So far:", strong=True), text))


def _front(results: Results, links: Links, most: int) -> list[Block]:
    objectives, members = results.spec.objectives, results.members
    if not members:
        return [Text("No trial is on it yet.")]
    rows: list[tuple[Line, ...]] = []
    for trial in members[:most]:
        called = ", ".join(name for name, number in results.named.items() if number == trial.number)
        baseline = f" (baseline {trial.baseline})" if trial.baseline else ""
        numbers = (decimal(trial.values[name], trial.spread.get(name, math.nan)) for name in objectives)
        rows.append(((Span(str(trial.number), url=links.run(trial.number)),), trial.label + baseline, *numbers, called))
    head = ("trial", "configuration", *objectives, "")
    blocks: list[Block] = [DataTable(head, tuple(rows), words=(0, 1, len(head) - 1))]
    if len(members) > most:
        blocks.append(Text(line("{} more in {}.", len(members) - most, code("front.csv"))))
    return [*blocks, Text("Validation numbers: mean ± standard deviation over the seeds.")]


def _cares(results: Results) -> Bullets:
    spec, cares = results.spec, list[Line]([summary.CAVEAT])
    counts = (results.dataset.get("splits") or {}).get("val", {})
    groups = counts.get(spec.groups) or counts.get("class") or {}
    if groups:
        name, n = min(groups.items(), key=lambda item: item[1])
        low, high = wilson(0.8 * n, n)
        cares.append(
            line(
                "The smallest group of the validation split is {}, {} images: a share of .80 measured there is, at 95 "
                "%, anything from {} to {}.",
                code(name), n, f"{low:.2f}", f"{high:.2f}",
            )
        )  # fmt: skip
    if spec.data.name == "digits-on-scenes":
        cares.append(summary.SMOKE)
    return Bullets(tuple(cares))
