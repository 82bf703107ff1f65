"""How well one can tell members from others: ROC curves on log axes (On Fairness of LoRA, figures 4, 5, 9 and 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.ink.chart import Chart, Panel, ReferenceLine, Scale, Series
from dashboards.ink.style import PLAIN, looks

MOST = 6  # panels side by side
UNSURE = 5  # non-members; a rate that fewer of them decide says little


@dataclass(frozen=True)
class RocCurve:
    """One model's rates at which others and members are called members; `placebo`: where none was learned, if known."""

    name: str
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    placebo: tuple[float, ...] = ()


@dataclass(frozen=True)
class RocPanel:
    """The curves of everybody or of one group, and how many members and others it has."""

    title: str
    members: int
    others: int
    curves: tuple[RocCurve, ...]


@dataclass(frozen=True)
class RocNumbers:
    """Everybody first, then the groups; `left_out` counts those that are too many to draw, and those without both."""

    attack: str
    panels: tuple[RocPanel, ...]
    left_out: int = 0


def roc_numbers(attack: str, attacks: Mapping[str, Mapping[str, Any]], kind: str) -> RocNumbers:
    """From model -> the attack of that name on it, with its `groups` of `kind`; the largest groups are drawn."""
    first = next(iter(attacks.values()))
    groups = range(len(first["groups"][kind]))
    known = [g for g in groups if "roc" in first["groups"][kind][g]]
    largest = sorted(known, key=lambda g: -min(first["groups"][kind][g][side] for side in ("members", "others")))
    drawn = sorted(largest[: MOST - 1])
    panels = [_panel("all", attacks)] if "roc" in first else []
    for g in drawn:
        own = {name: attack["groups"][kind][g] for name, attack in attacks.items()}
        panels.append(_panel(first["groups"][kind][g]["name"], own))
    return RocNumbers(attack, tuple(panels), len(groups) - len(drawn))


def _panel(title: str, attacks: Mapping[str, Mapping[str, Any]]) -> RocPanel:
    first = next(iter(attacks.values()))
    curves = (
        RocCurve(
            name, tuple(found["roc"]["fpr"]), tuple(found["roc"]["tpr"]),
            tuple(found["placebo"]["roc"]["tpr"]) if "placebo" in found else (),
        )
        for name, found in attacks.items()
    )  # fmt: skip
    return RocPanel(title, first["members"], first["others"], tuple(curves))


def roc_chart(numbers: RocNumbers, methods: Mapping[str, str] | None = None) -> Chart:
    """A panel for everybody and for each group, a line for each model and a faint one for its placebo.

    A model, by its name in `methods`, has its method's look.

    A curve begins at the least rate that its panel's others can tell, 1 of them; a rate of 0 has no place on the axis.
    """
    styles = looks([curve.name for panel in numbers.panels for curve in panel.curves], methods)
    across, up = (min(1 / max(getattr(panel, side) for panel in numbers.panels), 0.1) for side in ("others", "members"))
    panels = []
    for panel in numbers.panels:
        lines = [Series("guessing", (across, 1.0), (across, 1.0), "line", PLAIN, thick=1.0, size=0.0)]
        for curve in panel.curves:
            look = styles[curve.name]
            if curve.placebo:
                x, y = _drawn(curve.fpr, curve.placebo, up)
                lines.append(Series(f"{curve.name}, placebo", x, y, "line", look, thick=1.0, size=0.0, opacity=0.45))
            x, y = _drawn(curve.fpr, curve.tpr, up)
            lines.append(Series(curve.name, x, y, "line", look, thick=2.0, size=0.0))
        few = UNSURE / panel.others
        unsure = (ReferenceLine("x", few, f"{UNSURE} of {panel.others}"),) if few < 1 else ()
        panels.append(
            Panel(
                Scale("false-positive rate", across, 1.0, log=True), Scale("true-positive rate", up, 1.0, log=True),
                tuple(lines), reference_lines=unsure, title=f"{panel.title}: {panel.members} and {panel.others}",
            )
        )  # fmt: skip
    caption = (
        f"Attack: {numbers.attack}. Over each panel: how many members and non-members are asked about. Faint: the same "
        "attack on models that were not trained on these members; training gave away what lies above it, not what lies "
        f"above the diagonal. Left of the dashed line fewer than {UNSURE} non-members decide."
    )
    if numbers.left_out:
        caption += f" Groups that are not drawn: {numbers.left_out}."
    return Chart(tuple(panels), caption, (max(330.0, 210.0 * len(panels)), 240.0))


def _drawn(fpr: tuple[float, ...], tpr: tuple[float, ...], low: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The points that lie on the axes."""
    shown = [(f, t) for f, t in zip(fpr, tpr, strict=True) if t >= low]
    return tuple(f for f, _ in shown), tuple(t for _, t in shown)
