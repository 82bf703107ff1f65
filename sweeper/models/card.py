"""The model card of a fit: what it is, how to load it, what was measured on whom, and what it is not for.

Markdown with the metadata block that model hubs read. Pure: `folder` gathers the facts and writes the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.document import writers
from dashboards.document.document import (
    Block,
    Bullets,
    CodeBlock,
    DataTable,
    Document,
    Image,
    Section,
    Text,
    code,
    line,
)
from dashboards.ink.wording import decimal, interval, setting
from sweeper.errors import few
from sweeper.front.intervals import wilson
from sweeper.results import summary
from sweeper.spec.model import SweepSpec
from sweeper.trial import Trial
from trainables.backbones import find, shown

LICENCE, FRONT = "LICENSE.md", "front.png"  # files beside the card
HUB_METRICS = ("accuracy",)  # of ours, those that hubs know by this name
_FRONT = "the Pareto front of the sweep, of which this is a point"
MOST_CLASSES = 20  # more are counted only


@dataclass(frozen=True)
class SplitMetrics:
    """What one fit measured on one split (validation, test): metrics, and rows of groups with their counts."""

    split: str
    values: Mapping[str, float | None]
    groups: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells. `asked` is the point as it was asked for, `code` loads the folder with `library`.

    `repository` is the hub's name of the base, or ''; `pictured` says that the front's picture is beside the card."""

    spec: SweepSpec
    trial: Trial
    seed: int
    asked: str
    tried: int
    merged: bool
    code: str
    library: str
    base: str
    repository: str
    weights: tuple[int, int]
    dataset: Mapping[str, Any]
    provenance: Mapping[str, Any]
    commit: str | None
    splits: Sequence[SplitMetrics]
    pictured: bool = False

    @property
    def noun(self) -> str:
        """What the model looks at."""
        return "text" if find(self.spec.backbone.name).texts else "image"


def write(facts: CardFacts) -> str:
    """The card."""
    return f"---\n{_metadata(facts)}\n---\n\n{writers.to_markdown(document(facts))}"


def _metadata(facts: CardFacts) -> str:
    """For model hubs, as YAML. The metrics of each split stand in its `model-index`; undefined ones have no number."""
    from huggingface_hub import EvalResult, ModelCardData  # takes half a second

    spec, task = facts.spec, f"{facts.noun}-classification"
    results = [
        EvalResult(task, spec.data.name, spec.data.name, name, value, dataset_split=measured.split)
        for measured in facts.splits
        for name, value in measured.values.items()
        if value is not None and math.isfinite(value)
    ]
    data = ModelCardData(
        library_name=facts.library,
        pipeline_tag=task,
        # These are the hub's names. Data is not of the hub: it is named with the results.
        base_model=facts.repository or None,
        base_model_relation=("adapter" if facts.library == "peft" else "finetune") if facts.repository else None,
        tags=["fairness", str(facts.trial.params["method"])],
        metrics=[name for name in spec.objectives if name in HUB_METRICS] or None,
        license="other",
        license_name="data-and-base-model",
        license_link=LICENCE,
        model_name=f"{spec.name}, trial {facts.trial.number}",
        eval_results=results or None,
    )
    return str(data.to_yaml())


def licence(facts: CardFacts) -> str:
    """Under whose terms the model stands: hubs ask for a file of its own."""
    base = facts.repository or facts.base
    texts = (
        Text(line("Whose terms count: those of the data that it was trained on, and those of its base model.")),
        Bullets(
            (
                line("data: {}; licence: {}", code(facts.spec.data.name), str(facts.dataset.get("licence", "unknown"))),
                line("base model: {}; its licence stands on its own card", code(base)),
            )
        ),
    )
    return writers.to_markdown(Document("Licence", "", (Section("", texts),)))


def document(facts: CardFacts) -> Document:
    """The card as data."""
    spec, trial = facts.spec, facts.trial
    return Document(
        f"{spec.name}, trial {trial.number}: {trial.label}",
        "",
        (
            Section("", tuple(_what(facts))),
            Section("Use", tuple(_use(facts))),
            Section("Results", tuple(_overall(facts))),
            *(Section(f"By group, {measured.split}", (_groups(measured, facts.noun),)) for measured in facts.splits),
            Section("How it was chosen", (_chosen(facts), *[Image(_FRONT, FRONT)] * facts.pictured)),
            Section("Intended use", (_intended(facts),)),
            Section("Limits", (_limits(facts),)),
            Section("Origin", (_origin(facts),)),
        ),
    )


def _what(facts: CardFacts) -> list[Text]:
    spec, (trained, total), classes = facts.spec, facts.weights, facts.dataset.get("classes", [])
    names = few(map(code, classes), MOST_CLASSES)
    named = line(", ".join(["{}"] * len(names)), *names)
    settings = ", ".join(f"{name} {setting(value)}" for name, value in facts.trial.params.items())
    return [
        Text(
            (
                *(
                    f"{'A text' if facts.noun == 'text' else 'An image'} classifier for {len(classes)} classes (",
                    *named,
                ),
                *line("), fine-tuned from {} on {}. ", code(shown(spec.backbone.name)), code(spec.data.name)),
                f"{trained:,} weights were trained of {total:,}. Base model: {facts.base}.",
            )
        ),
        Text(f"Settings: {settings}. Seed {facts.seed}."),
    ]


def _use(facts: CardFacts) -> list[Block]:
    whole = line("All weights are in {}", code("model.safetensors"))
    weights = whole if facts.merged else ("What was trained is here in peft's format",)
    files = line("; labels in {}, preprocessing in {}. ", code("labels.json"), code("preprocessing.json"))
    return [Text((*weights, *files, "Plain libraries load it:")), CodeBlock(facts.code.rstrip(), "python")]


def _overall(facts: CardFacts) -> list[Block]:
    """The objectives: of this very fit, on each split, beside the mean over the seeds that chose it."""
    trial = facts.trial
    head = ("", *(f"this fit, {measured.split}" for measured in facts.splits), f"{trial.seeds} seeds, validation")
    rows = tuple(
        (
            f"{name} ({sense})",
            *(decimal(measured.values.get(name)) for measured in facts.splits),
            decimal(trial.value(name) if name in trial.metrics else None, trial.spread.get(name, math.nan)),
        )
        for name, sense in facts.spec.objectives.items()
    )
    tested = any(measured.split == "test" for measured in facts.splits)
    return [
        DataTable(head, rows),
        Text(
            "Validation numbers chose this fit and are therefore optimistic; "
            + ("test numbers chose nothing." if tested else "it was not measured on the test split.")
        ),
    ]


def _groups(measured: SplitMetrics, noun: str) -> DataTable:
    """Each group with its count and Wilson's 95 % interval; F1, which is no share, without."""
    rows = []
    for row in measured.groups:
        n, share = int(row["n"]), row.get("accuracy")
        ends = "–" if share is None or math.isnan(share) else interval(*wilson(share * n, n))
        f1 = decimal(row["f1"]) if "f1" in row else ""
        rows.append((str(row["kind"]), str(row["name"]), f"{n:,}", decimal(share), ends, f1))
    caption = f"–: undefined, where a group has no {noun}s." if any(row[3] == "–" for row in rows) else ""
    return DataTable(("", "group", f"{noun}s", "right", "95 % interval", "F1"), tuple(rows), caption, words=(0, 1))


def _chosen(facts: CardFacts) -> Text:
    of_one = " numbers of one seed: how much another seed would change them is not known."
    of_several = (
        f" numbers averaged over {facts.trial.seeds} seeds. Of the seeds it is the typical one, nearest to those means "
        "(on a tie, as between two, the worse), and not the best: the best seed's lead is mostly luck."
    )
    chosen = "As {} of {} configurations tried in the sweep {}, on validation{}"
    seeds = of_one if facts.trial.seeds == 1 else of_several
    return Text(line(chosen, code(facts.asked), facts.tried, code(facts.spec.name), seeds))


def _intended(facts: CardFacts) -> Text:
    return Text(
        line(
            "To study the trade between accuracy and the gap between groups, and as a starting point for work on "
            "{}s like those of {}. Not for decisions about people: nothing here was tested for that.",
            facts.noun,
            code(facts.spec.data.name),
        )
    )


def _limits(facts: CardFacts) -> Bullets:
    limits = (
        "The numbers say how this fit did on this data, not how it will do elsewhere.",
        "Every gap between the best and the worst group is biased upward where groups are small: see the intervals.",
        "A small gap between these groups says nothing of groups that were not measured.",
    )
    return Bullets(limits + (summary.SMOKE,) * (facts.spec.data.name == "digits-on-scenes"))


def _origin(facts: CardFacts) -> Bullets:
    counts = ", ".join(f"{split} {part['n']:,}" for split, part in facts.dataset.get("splits", {}).items()) or "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in facts.provenance.get("versions", {}).items())
    split, licence = (str(facts.dataset.get(key, "unknown")) for key in ("split_hash", "licence"))
    device, precision = (facts.provenance.get(key, "unknown") for key in ("device", "precision"))
    return Bullets(
        (
            line("data: {}, split {} ({}); licence: {}", code(facts.spec.data.name), code(split), counts, licence),
            line("code: commit {}; {}", code(facts.commit or "unknown"), versions or "versions unknown"),
            f"device: {device}, precision {precision}",
            line(
                "settings of the sweep: {}; this fit is trial {}, seed {}",
                code("sweep.yaml"), facts.trial.number, facts.seed,
            ),
        )
    )  # fmt: skip
