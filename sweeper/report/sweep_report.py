"""A sweep's report: the question, the answer, what it rests on, what failed, and how to do it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards.document.document import (
    Bullets,
    CodeBlock,
    DataTable,
    Document,
    Line,
    Picture,
    Section,
    Text,
    code,
    line,
)
from dashboards.ink.wording import decimal, heading, interval, readable, setting
from sweeper.errors import UserError
from sweeper.front.recommend import Recommendation, Rule, rule
from sweeper.report import confirmed, evidence, front_page, papers
from sweeper.results import by_hand, confirmation, held_out, summary
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.trial import Trial


@dataclass(frozen=True)
class ReportFacts:
    """What a report is made of."""

    results: Results
    advice: Recommendation | None
    test: held_out.HeldOut
    bounds: Mapping[str, float]
    method_rule: Rule | str = "knee"

    @property
    def baselines(self) -> dict[int, str]:
        """Each baseline's point, by number."""
        return {number: name for name, number in self.results.baseline_points(self.bounds).items()}

    @property
    def named(self) -> dict[int, str]:
        """The points that have a name, by number: `recommended, knee`."""
        return front_page.called(self.results, self.advice)


def gather(results: Results, bounds: Mapping[str, float] | None = None, method_rule: str | None = None) -> ReportFacts:
    """Everything that the report needs, read once. The choice is made before the test numbers are looked at.

    `method_rule`, one of `recommend.METHOD_RULES`, takes each method's point; by default that of the recommendation.
    """
    advice = results.recommendation(bounds)
    test = held_out.read(results)
    by: Rule | str = method_rule or (rule(results.spec.objectives, bounds) if bounds else "knee")
    return ReportFacts(results, advice, test, dict(bounds or {}), by)


def document(facts: ReportFacts) -> Document:
    """The report as data; `dashboards.document.writers` writes it.

    Raises:
        UserError: no trial is complete yet: there is nothing to report.
    """
    results = facts.results
    if not results.front:
        raise UserError(
            f"no trial of '{results.spec.name}' is complete and keeps the constraints: there is nothing to report yet. "
            f"See where it stands: sweeper status {results.spec.name}"
        )
    changes = by_hand.changes(results.warm, results.spec.space, results.narrowings, results.trials)
    sections = [
        Section("", tuple(_head(facts))),  # what a reader came for, on the first screen
        Section("The question", (Text(question(results.spec)),)),
        Section("How sure that is", tuple(_sure(facts))),
        Section("On the test split", tuple(_test(facts))),
        *([Section("Trained again with new seeds", tuple(again))] if (again := _confirmed(facts)) else []),
        *evidence.sections(results, facts.method_rule, facts.named, facts.baselines),
        *([Section("Asked of it", (Bullets(tuple(changes)),))] if changes else []),
        Section("What was tried", tuple(_tried(facts))),
        Section("Where it comes from", tuple(_provenance(facts))),
        Section("How to do it again", tuple(_again(facts))),
    ]
    return Document(f"Sweep {results.spec.name}", front_page.stands(results), tuple(sections))


def question(spec: SweepSpec) -> Line:
    """What the sweep asks, in two sentences."""
    searched = [code(name) for name, value in spec.space.plain().items() if isinstance(value, (dict, list))]
    wanted = " and ".join(f"{'most' if s == 'max' else 'least'} {name}" for name, s in spec.objectives.items())
    bounds = [f"{name} {sign} {end:g}" for name, bound in spec.constraints.items()
            for sign, end in (("≥", bound.min), ("≤", bound.max)) if end is not None]  # fmt: skip
    settings = line(", ".join(["{}"] * len(searched)), *searched) if searched else ("settings",)
    trials = f"{spec.budget} trials" if spec.search.counted else "Trials within a budget"
    return (
        *("Which ", *settings),
        *line(" of a fine-tuning of {} on {} give ", code(spec.backbone.name), code(spec.data.name)),
        f"{wanted}{' with ' if bounds else ''}{' and '.join(bounds)}? Groups: {spec.groups}. {trials}, ",
        *line("proposed by {}, each trained with ", code(spec.search.sampler)),
        f"{spec.search.seeds_said} seeds; baselines: {', '.join(_listed(spec.search.baseline_list)) or 'none'}.",
    )


def _listed(baselines: Sequence[str]) -> list[str]:
    """`lora`, or `lora (5 trials)` of one that is tuned."""
    counts = {name: baselines.count(name) for name in baselines}
    return [name if count == 1 else f"{name} ({count} trials)" for name, count in counts.items()]


def _head(facts: ReportFacts) -> list[Text | Picture]:
    assert facts.advice is not None  # there is a front
    results = facts.results
    blocks: list[Text | Picture] = [
        Text(front_page.answer(results, facts.advice), answer=True),
        Text(results.against_baseline(facts.bounds)),
    ]
    if len(results.spec.objectives) > 1:
        blocks.append(front_page.picture(results, facts.advice, facts.named, facts.bounds))
    return blocks


def _sure(facts: ReportFacts) -> list[Text | DataTable]:
    assert facts.advice is not None
    _, why = str(facts.advice).split("\n", 1)
    cares = [summary.CAVEAT] + [summary.SMOKE] * (facts.results.spec.data.name == "digits-on-scenes")
    return [
        Text(f"{why} It was chosen among {facts.results.counts.get('complete', 0)} configurations."),
        _front_table(facts),
        Text(" ".join(cares), aside=True),
    ]


def _front_table(facts: ReportFacts) -> DataTable:
    """Members of the front and baselines, with what resampling says of them."""
    spec, sure = facts.results.spec, facts.advice.stability if facts.advice else None
    rows = []
    for trial in _shown(facts):
        row = [str(trial.number), trial.label + _origin(trial), facts.named.get(trial.number, "")]
        row += [decimal(trial.value(name), trial.spread[name]) for name in spec.objectives]
        if sure is not None and sure.draws:
            ends = sure.intervals.get(trial.number, {})
            row += [interval(*ends[name]) if name in ends else "–" for name in spec.objectives]
            row += [_share(sure.on_front, trial.number), _share(sure.chosen, trial.number)]
        rows.append(tuple(row))
    head = ["trial", "configuration", "called", *(heading(n, s) for n, s in spec.objectives.items())]
    caption = "Validation split; mean ± standard deviation over the seeds."
    if sure is not None and sure.draws:
        head += [f"{readable(name)}, 95 %" for name in spec.objectives] + ["on the true front", "chosen"]
        alone = "; of another seed nothing is known" if sure.seeds == 1 else ""
        caption += (
            f" 95 %: Student's t over {sure.over}{alone}. The last columns: the chance to be on the true front, and to "
            "be what the rule would take there; in made-up sweeps of several seeds, of what was given 1 % up to 13 % "
            "were on it, and of what was given 95 % no more than 71 % to 90 %."
        )
    return DataTable(tuple(head), tuple(rows), caption, words=(0, 1, 2))


def _share(shares: Mapping[int, float], number: int) -> str:
    return f"{shares[number]:.0%}" if number in shares else "–"


def _shown(facts: ReportFacts) -> list[Trial]:
    """The front, best first objective first, then the baselines' points that are not on it."""
    results = facts.results
    rest = [number for number in facts.baselines if number not in results.front]
    return [*results.members, *(results.by_number[number] for number in rest)]


def _origin(trial: Trial) -> str:
    return " (baseline)" if trial.baseline else f" ({trial.asked})" if trial.asked else ""


def _test(facts: ReportFacts) -> list[Text | DataTable]:
    """The only place with test numbers: each point's, and how far it is from validation."""
    spec = facts.results.spec
    rows = []
    for trial in _shown(facts):
        measured = facts.test.get(trial.number)
        if measured is not None:
            row = [str(trial.number), trial.label + _origin(trial)]
            for name in spec.objectives:
                row += [decimal(*measured[name]), f"{measured[name][0] - trial.values[name]:+.3f}"]
            rows.append(tuple(row))
    if not rows:
        return [Text("No point has been measured on the test split yet.")]
    assert facts.advice is not None
    head = ["trial", "configuration"]
    head += [text for name, sense in spec.objectives.items() for text in (heading(name, sense), "change")]
    caption = "Test split, measured once, after the search had ended; change: test less validation."
    drop = held_out.drop(facts.advice.values, facts.test.get(facts.advice.number), spec.objectives)
    return [
        Text(
            "These numbers chose nothing. Some drop is to be expected: a point is on the front because it looked good."
        ),
        Text(drop),
        DataTable(tuple(head), tuple(rows), caption, words=(0, 1)),
        *_methods_on_test(facts),
    ]


def _confirmed(facts: ReportFacts) -> list[Text | DataTable]:
    """Every confirmation of the sweep, one after the other."""
    kept = confirmation.read(facts.results.folder)
    return [block for each in kept for block in confirmed.blocks(facts.results, each)]


def _methods_on_test(facts: ReportFacts) -> list[Text | DataTable]:
    """The papers' tables on the test split: the points of "Methods side by side"."""
    chosen = papers.points(facts.results, facts.method_rule)
    rows = papers.method_rows(facts.results, chosen.numbers, "test")
    caption = (
        'Test split, in percent, mean ± standard deviation over the seeds: the points of "Methods side by side", '
        f"chosen on validation by one rule ({chosen.rule})."
    )
    missing = [method for method in chosen.numbers if rows.empty or method not in set(rows["method"])]
    said = [Text(f"Not measured on the test split: the points of {', '.join(missing)}.")] if missing else []
    return [*papers.tables(rows, caption), *said]


def _tried(facts: ReportFacts) -> list[Text | DataTable]:
    trials, spec = facts.results.trials, facts.results.spec
    methods = [str(t.params.get("method")) for t in trials]
    counted = ", ".join(f"{methods.count(m)} {m}" for m in dict.fromkeys(methods))
    blocks: list[Text | DataTable] = [
        Text(f"{len(trials)} configurations: {counted}."),
        _every(trials, spec.objectives),
    ]
    if early := sum(t.stopped is not None for t in trials):
        blocks.append(Text(f"{early} of them were stopped early, where others were ahead; they have no numbers."))
    failed = [t for t in trials if t.reason]
    if failed:
        rows = tuple((str(t.number), t.label, str(t.state), str(t.reason)) for t in failed)
        blocks.append(
            DataTable(("trial", "configuration", "state", "reason"), rows, "What failed, and why.", words=(0, 1, 2, 3))
        )
    else:
        blocks.append(Text("Nothing failed."))
    return blocks


def _every(trials: Sequence[Trial], objectives: Mapping[str, str]) -> DataTable:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    varied = [name for name in names if len({str(t.params[name]) for t in trials if name in t.params}) > 1]
    rows = tuple(
        (
            str(t.number),
            str(t.state),
            *(setting(t.params.get(name)) for name in varied),
            *(decimal(t.value(n), t.spread[n]) if n in t.metrics else "–" for n in objectives),
        )
        for t in trials
    )
    head = ("trial", "state", *varied, *(heading(name, sense) for name, sense in objectives.items()))
    return DataTable(
        head, rows, "Every trial, in the order in which they were proposed.", words=(0, 1), folded="All trials"
    )


def _provenance(facts: ReportFacts) -> list[Text | DataTable]:
    results, noted = facts.results, facts.results.provenance
    made = next((fit.provenance for fit in results.fits if fit.provenance), {})
    versions = noted.get("versions") or made.get("versions") or {}
    rows = [
        ("commit", str(noted.get("commit") or "unknown")),
        ("code", str(noted.get("code", {}).get("digest") or "unknown")),
        *(("code, since it began", change) for change in noted.get("code_changes", ())),
        ("data", f"{results.spec.data.name}, split {made.get('split_hash', 'unknown')}"),
        (
            "backbone",
            f"{made.get('backbone', results.spec.backbone.name)} ({made.get('backbone_source', 'unknown source')})",
        ),
        ("device", str(made.get("device") or "unknown")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown"),
        ("time of all fits", f"{sum(fit.seconds for fit in results.fits) / 3600:.2f} device hours"),
    ]
    return [DataTable(("what", "which"), tuple(rows), words=(0, 1)), *evidence.sizes(results)]


def _again(facts: ReportFacts) -> list[Text | CodeBlock]:
    name = facts.results.spec.name
    return [
        Text("Save this as sweep.yaml; the same seed proposes the same points, given the same results before them."),
        CodeBlock(loading.dump(facts.results.spec).rstrip(), "yaml"),
        CodeBlock(f"sweeper run sweep.yaml --name {name}-again\nsweeper compare {name} {name}-again"),
    ]
