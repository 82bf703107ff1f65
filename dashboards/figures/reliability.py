"""Confidence against what came true: reliability diagram and confidence histogram (On Fairness of LoRA, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import PLAIN, Look, looks


@dataclass(frozen=True)
class ReliabilityCurve:
    """One point's bins that have examples: mean confidence, share of hits and share of all examples of each."""

    name: str
    confidence: tuple[float, ...]
    hits: tuple[float, ...]
    share: tuple[float, ...]
    n: tuple[int, ...]


@dataclass(frozen=True)
class ReliabilityNumbers:
    """A panel for each reader: its title, and a curve for each point. `bins` counts the empty ones too."""

    panels: tuple[tuple[str, tuple[ReliabilityCurve, ...]], ...]
    of: str
    bins: int


def reliability_numbers(bins: pd.DataFrame, chosen: Mapping[int, str]) -> ReliabilityNumbers:
    """Over all examples, and for the attribute value that is worst calibrated at the first of `chosen`.

    `bins` has one row per fit, reader and bin: number, of, kind, name, bins, bin, n, hits, confidence (a sum). The
    seeds of a trial are added up. Of two classes the positive one's probability is shown, else the answer's.
    """
    of = "positive" if (bins["of"] == "positive").any() else "answer"
    known = bins[(bins["of"] == of) & bins["number"].isin(list(chosen))]
    panels = []
    for title, own in _readers(known, next(iter(chosen))):
        curves = (_curve(name, own[own["number"] == number]) for number, name in chosen.items())
        panels.append((title, tuple(curve for curve in curves if curve.n)))
    return ReliabilityNumbers(tuple(panels), of, int(known["bins"].max()))


def _readers(known: pd.DataFrame, first: int) -> list[tuple[str, pd.DataFrame]]:
    readers = [("all examples", known[known["kind"] == "all"])]
    grouped = known[known["kind"] == "attribute"]
    own = grouped[grouped["number"] == first]
    if len(own):
        total = own.groupby(["name", "bin"])[["n", "hits", "confidence"]].sum()
        gap = (total["hits"] - total["confidence"]).abs().groupby("name").sum() / total["n"].groupby("name").sum()
        worst = str(gap.idxmax())
        readers.append((f"worst calibrated: {worst}", grouped[grouped["name"] == worst]))
    return readers


def _curve(name: str, own: pd.DataFrame) -> ReliabilityCurve:
    total = own.groupby("bin")[["n", "hits", "confidence"]].sum()
    counted = total["n"].sum()
    return ReliabilityCurve(
        name,
        confidence=tuple(total["confidence"] / total["n"]),
        hits=tuple(total["hits"] / total["n"]),
        share=tuple(total["n"] / counted) if counted else (),
        n=tuple(int(n) for n in total["n"]),
    )


def reliability_chart(numbers: ReliabilityNumbers) -> Chart:
    """A diagram for each reader, and how often each confidence occurs among all examples."""
    styles = looks(list(dict.fromkeys(curve.name for _, curves in numbers.panels for curve in curves)))
    what = Scale("P(positive)" if numbers.of == "positive" else "confidence", 0, 1)
    diagonal = Series("perfect calibration", (0.0, 1.0), (0.0, 1.0), "line", PLAIN, thick=1.0, size=0.0)
    panels = [
        Panel(
            what, Scale("share that came true", 0, 1.02), title=title,
            series=(diagonal, *(_line(curve, styles[curve.name]) for curve in curves)),
        )
        for title, curves in numbers.panels
    ]  # fmt: skip
    often = tuple(
        Series(curve.name, curve.confidence, curve.share, "line", styles[curve.name], key=False)
        for curve in numbers.panels[0][1]
    )
    panels.append(Panel(what, Scale("share of all examples", 0, 1.02), often, title="how often"))
    sign = "flatter than" if numbers.of == "positive" else "below"
    caption = f"Validation split, {numbers.bins} bins, the seeds together. Overconfident: {sign} the diagonal."
    caption += " Small bins vary."
    return Chart(tuple(panels), caption, WIDE)


def _line(curve: ReliabilityCurve, look: Look) -> Series:
    hover = [
        f"{curve.name}\n{promised:.3f} promised, {true:.3f} came true, n = {n:,}"
        for promised, true, n in zip(curve.confidence, curve.hits, curve.n, strict=True)
    ]
    return Series(curve.name, curve.confidence, curve.hits, "line", look, hover=hover)
