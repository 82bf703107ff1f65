"""The model card of a fit: what it is, how to load it, what was measured on whom, and what it is not for.

Markdown with the metadata block that model hubs read. Pure: `hand` gathers the facts and writes the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.front.intervals import wilson
from sweeper.results import summary
from sweeper.spec.model import SweepSpec
from sweeper.trial import Trial


@dataclass(frozen=True)
class Measured:
    """What one fit was measured to be on one split: metrics, and rows of groups with their counts."""

    split: str
    values: Mapping[str, float | None]
    groups: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Facts:
    """All that a card tells. `asked` is the point as it was asked for, `code` loads the folder."""

    spec: SweepSpec
    trial: Trial
    seed: int
    asked: str
    tried: int
    merged: bool
    code: str
    base: str
    weights: tuple[int, int]
    dataset: Mapping[str, Any]
    provenance: Mapping[str, Any]
    commit: str | None
    measured: Sequence[Measured]


def write(facts: Facts) -> str:
    """The card."""
    parts = [_metadata(facts), _what(facts), _use(facts), "## Results", _overall(facts)]
    parts += [_groups(measured) for measured in facts.measured]
    return "\n\n".join([*parts, _chosen(facts), _intended(facts), _limits(facts), _origin(facts)]) + "\n"


def _metadata(facts: Facts) -> str:
    """JSON strings are YAML strings: nothing that a name contains can break the block."""
    entries: dict[str, Any] = {
        "library_name": "timm" if facts.merged else "peft",
        "pipeline_tag": "image-classification",
        "base_model": facts.spec.backbone.name,
        "datasets": [facts.spec.data.name],
        "tags": ["fairness", str(facts.trial.params["method"])],
        "metrics": list(facts.spec.objectives),
        "license": "other",
        "license_name": f"data: {facts.dataset.get('licence', 'unknown')}; base model: see its own",
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
    return "\n".join(["---", *lines, "---"])


def _what(facts: Facts) -> str:
    trained, total = facts.weights
    told = ", ".join(f"{name} {_short(value)}" for name, value in facts.trial.params.items())
    classes = facts.dataset.get("classes", [])
    shown = ", ".join(f"`{name}`" for name in classes[:20]) + (f" and {len(classes) - 20} more" if classes[20:] else "")
    return (
        f"# {facts.spec.name}, trial {facts.trial.number}: {facts.trial.label}\n\n"
        f"An image classifier for {len(classes)} classes ({shown}), fine-tuned from `{facts.spec.backbone.name}` on "
        f"`{facts.spec.data.name}`. {trained:,} weights were trained of {total:,}. Base model: {facts.base}.\n\n"
        f"Settings: {told}. Seed {facts.seed}."
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _use(facts: Facts) -> str:
    held = "All weights are in `model.safetensors`" if facts.merged else "What was trained is here in peft's format"
    return (
        f"## Use\n\n{held}; labels in `labels.json`, preprocessing in `preprocessing.json`. Plain libraries load it:"
        f"\n\n```python\n{facts.code.rstrip()}\n```"
    )


def _overall(facts: Facts) -> str:
    """The objectives: of this very fit, on each split, beside the mean over the seeds that chose it."""
    names = list(facts.spec.objectives)
    head = ["", *(f"this fit, {measured.split}" for measured in facts.measured)]
    lines = [_row([*head, f"{facts.trial.seeds} seeds, validation"]), _row(["---"] * (len(head) + 1))]
    for name in names:
        cells = [_number(measured.values.get(name)) for measured in facts.measured]
        spread = facts.trial.spread.get(name, math.nan)
        mean = _number(facts.trial.metrics.get(name)) + ("" if math.isnan(spread) else f" ± {spread:.4f}")
        lines.append(_row([f"{name} ({facts.spec.objectives[name]})", *cells, mean]))
    note = "Validation numbers chose this fit and are therefore optimistic; "
    tested = any(measured.split == "test" for measured in facts.measured)
    note += "test numbers chose nothing." if tested else "it was not measured on the test split."
    return "\n".join([*lines, "", note])


def _groups(measured: Measured) -> str:
    """Each group with its count and Wilson's 95 % interval; F1, which is no share, without."""
    lines = [f"### By group, {measured.split}", "", _row(["", "group", "images", "right", "95 % interval", "F1"])]
    lines.append(_row(["---"] * 6))
    for row in measured.groups:
        n, share = int(row["n"]), row.get("accuracy")
        low, high = (math.nan, math.nan) if share is None else wilson(share * n, n)
        interval = "" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        f1 = _number(row["f1"]) if "f1" in row else ""
        name = str(row["name"]).replace("|", "\\|")
        lines.append(_row([row["kind"], name, f"{n:,}", _number(share), interval, f1]))
    return "\n".join(lines)


def _chosen(facts: Facts) -> str:
    text = f"As `{facts.asked}` of {facts.tried} configurations tried in the sweep `{facts.spec.name}`, on validation"
    if facts.trial.seeds == 1:
        text += " numbers of one seed: how much another seed would change them is not known."
    else:
        text += (
            f" numbers averaged over {facts.trial.seeds} seeds. Of the seeds it is the typical one, nearest to those "
            "means (on a tie, as between two, the worse), and not the best: the best seed's lead is mostly luck."
        )
    return f"## How it was chosen\n\n{text}"


def _intended(facts: Facts) -> str:
    return (
        "## Intended use\n\nTo study the trade between accuracy and the gap between groups, and as a starting point "
        f"for work on images like those of `{facts.spec.data.name}`. Not for decisions about people: nothing here was "
        "tested for that."
    )


def _limits(facts: Facts) -> str:
    limits = [
        "The numbers say how this fit did on this data, not how it will do elsewhere.",
        "Every gap between the best and the worst group is biased upward where groups are small: see the intervals.",
        "A small gap between these groups says nothing of groups that were not measured.",
    ]
    limits += [summary.SMOKE] if facts.spec.data.name == "digits-on-scenes" else []
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _origin(facts: Facts) -> str:
    splits = facts.dataset.get("splits", {})
    counts = ", ".join(f"{split} {told['n']:,}" for split, told in splits.items())
    versions = ", ".join(f"{name} {version}" for name, version in facts.provenance.get("versions", {}).items())
    split, licence = (facts.dataset.get(key, "unknown") for key in ("split_hash", "licence"))
    device, precision = (facts.provenance.get(key, "unknown") for key in ("device", "precision"))
    lines = [
        f"- data: `{facts.spec.data.name}`, split `{split}` ({counts or 'unknown'}); licence: {licence}",
        f"- code: commit `{facts.commit or 'unknown'}`; {versions or 'versions unknown'}",
        f"- device: {device}, precision {precision}",
        f"- settings of the sweep: `sweep.yaml`; this fit is trial {facts.trial.number}, seed {facts.seed}",
    ]
    return "## Origin\n\n" + "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.4f}"


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
