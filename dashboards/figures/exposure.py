"""How well one can tell members from others: ROC curves on log axes (On Fairness of LoRA, figures 4, 5, 9 and 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.ink.chart import Chart, Panel, Scale, Series
from dashboards.ink.style import PLAIN, looks


@dataclass(frozen=True)
class RocNumbers:
    """Each attack's false- and true-positive rates, and the least rate that the examples can tell."""

    curves: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]
    least: float


def roc_numbers(attacks: Mapping[str, Mapping[str, Any]]) -> RocNumbers:
    """From attack -> {others, roc: {fpr, tpr}}; one without a curve is left out, and so are rates of 0."""
    known = {name: attack for name, attack in attacks.items() if "roc" in attack}
    curves = []
    for name, attack in known.items():
        points = [(f, t) for f, t in zip(attack["roc"]["fpr"], attack["roc"]["tpr"], strict=True) if t > 0]
        curves.append((name, tuple(f for f, _ in points), tuple(t for _, t in points)))
    return RocNumbers(tuple(curves), min((1 / attack["others"] for attack in known.values()), default=1e-3))


def roc_chart(numbers: RocNumbers) -> Chart:
    """One line an attack; what lies on the diagonal is chance."""
    styles = looks([name for name, _, _ in numbers.curves])
    ends = (numbers.least, 1.0)
    chance = Series("chance", ends, ends, "line", PLAIN, thick=1.0, size=0.0)
    lines = tuple(Series(name, fpr, tpr, "line", styles[name]) for name, fpr, tpr in numbers.curves)
    across, up = (Scale(f"{which}-positive rate", *ends, log=True) for which in ("false", "true"))
    caption = "The further above the diagonal at the left end, the more surely a member is recognised."
    return Chart((Panel(across, up, (chance, *lines)),), caption)
