"""The notes in MLflow: on a sweep's parent run (what was asked, the front with links, which point and why, with what
care) and on each trial's.

Markdown, below the 8,000 characters at which MLflow cuts without a word. Pure: `record` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from dashboards.ink.wording import decimal, heading
from sweeper.front.intervals import Interval, wilson
from sweeper.record import pictures
from sweeper.report import confirmed
from sweeper.report.sweep_report import question
from sweeper.results import by_hand, summary
from sweeper.results.confirmation import Confirmation
from sweeper.results.results import Results
from sweeper.trial import State, Trial

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

    @property
    def sweep(self) -> str:
        """A link to the parent run."""
        return f"#/experiments/{self.experiment}/runs/{self.parent}?workflowType=machine_learning"

    def file(self, path: str) -> str:
        """A link to a file of the parent run."""
        return f"get-artifact?path={path}&run_uuid={self.parent}"


def write(results: Results, links: Links, confirmations: Sequence[Confirmation] = ()) -> str:
    """The note. A front too long for it is cut, and the note says so."""
    text = ""
    for rows in range(min(len(results.front), _MOST_ROWS), -1, -1):
        text = writers.to_markdown(_document(results, links, rows, confirmations))
        if len(text) <= LONGEST:
            return text
    return text[:LONGEST]


@dataclass(frozen=True)
class Standing:
    """How a trial stands beside the others: on the front or not, with which chance, and against which baseline.

    `chance` is that to be on the true front, `over` the noise that it allows for; None while the sweep goes on, or
    where nothing is known. `ahead` are the 95 % intervals of the objectives less those of trial `baseline`.
    """

    on_front: bool
    baseline: int | None = None
    ahead: Mapping[str, Interval | None] = field(default_factory=dict)
    chance: float | None = None
    over: str = ""


def of_trial(results: Results, trial: Trial, standing: Standing, links: Links) -> str:
    """The note on a trial's run: what it is, whether it is on the front and how sure that is, against the baseline."""
    called = ", ".join(name for name, number in results.named.items() if number == trial.number)
    what = "baseline, " if trial.baseline else f"{trial.asked}, " if trial.asked else ""
    if trial.state is not State.COMPLETE:
        where = f"{trial.state.value}: {trial.why or 'no reason was kept'}"
    elif standing.on_front:
        where = f"on the front{f' ({called})' if called else ''}"
    else:
        where = "not on the front" if trial.feasible else "not on the front: it breaks a constraint"
    if standing.chance is not None:
        where += f"; on the true front with a chance of {standing.chance:.0%}, with the noise of {standing.over}"
    home = Span(results.spec.name, url=links.sweep)
    blocks: list[Block] = [Text((Span(f"Trial {trial.number}", strong=True), " of ", home, f": {what}{where}."))]
    if trial.state is State.COMPLETE:
        blocks.append(_beside(results, trial, standing))
    return writers.to_markdown(Document(trial.label, "", (Section("", tuple(blocks)),)))[:LONGEST]


def _beside(results: Results, trial: Trial, standing: Standing) -> DataTable:
    """The objectives, and by how much they differ from the baseline's."""
    rows, other = [], None if standing.baseline is None else results.by_number[standing.baseline]
    for name, sense in results.spec.objectives.items():
        row = [heading(name, sense), decimal(trial.values[name], trial.spread.get(name, math.nan))]
        if other is not None:
            ends = standing.ahead.get(name)
            sure = f"95 %: {ends[0]:+.3f} … {ends[1]:+.3f}" if ends else "how sure is not known"
            row.append(f"{trial.values[name] - other.values[name]:+.3f} ({sure})")
        rows.append(tuple(row))
    head = ["", f"mean ± standard deviation over {trial.seeds} seeds"]
    head += [] if other is None else [f"less #{other.number} {other.label}, the baseline; paired by seed"]
    return DataTable(tuple(head), tuple(rows), "Validation numbers.", words=(0, 2))


def _document(results: Results, links: Links, most: int, confirmations: Sequence[Confirmation]) -> Document:
    spec, choice = results.spec, results.choice()
    head: list[Block] = []  # MLflow folds the note: its first lines are what is seen
    if results.front and len(spec.objectives) > 1:
        page = Span("Look around in the front", strong=True, url=links.page(pictures.FRONT))
        head.append(Text((page, ": every trial, its settings, and the point to take.")))
    chosen = () if choice is None else (Span(f"#{choice.number} {choice.label}", strong=True),)
    if choice is not None:
        head.append(Text((*chosen, f", by {choice.rule}.")))
    head += [_stands(results), Text(question(spec))]
    if results.front and len(spec.objectives) > 1:
        head.append(Image("Pareto front", links.file(pictures.SMALL)))
    sections = [Section("", tuple(head)), Section("The front", tuple(_front(results, links, most)))]
    if choice is not None:
        sections.append(Section("Which one", (Text((*chosen, f". {choice.why}")),)))
    told = [
        f"#{each.point} against #{each.baseline}: {confirmed.sentence(results, each, 'test')}"
        for each in confirmations
        if each.finished
    ]
    if told:
        sections.append(Section("Trained again, with new seeds", (Bullets(tuple(told)),)))
    if changes := by_hand.changes(results.warm, spec.space, results.narrowings, results.trials):
        sections.append(Section("Asked of it", (Bullets(tuple(changes)),)))
    return Document("", "", (*sections, Section("Read with care", (_cares(results),))))


def _stands(results: Results) -> Text:
    counts = ", ".join(f"{count} {state}" for state, count in results.counts.items() if count)
    text = f" {counts or 'nothing yet'}{summary.of_trials(results)}; {len(results.front)} on the front."
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
        baseline = f" (baseline {trial.baseline})" if trial.baseline else f" ({trial.asked})" if trial.asked else ""
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
