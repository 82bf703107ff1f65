"""Confidence against what came true: reliability diagram and confidence histogram (On Fairness of LoRA, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import FAINT, PLAIN, SQUARE, Look, looks

_GAP = Look(FAINT, SQUARE)
_DIAGONAL = Series("perfect calibration", (0.0, 1.0), (0.0, 1.0), "line", PLAIN, thick=1.0, size=0.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """One point's bins that have examples, counted from 0: mean confidence, share of hits, share of all examples."""

    name: str
    bin: tuple[int, ...]
    confidence: tuple[float, ...]
    hits: tuple[float, ...]
    share: tuple[float, ...]
    n: tuple[int, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error: the bins' mean distance of promise and share of hits, weighed by examples."""
        gaps = (abs(promised - true) for promised, true in zip(self.confidence, self.hits, strict=True))
        return sum(share * gap for share, gap in zip(self.share, gaps, strict=True))


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
    readers = [("all examples", known[known["kind"] == "all"])]
    if worst := _worst(known, next(iter(chosen))):
        readers.append((f"worst calibrated: {worst}", _group(known, worst)))
    for title, own in readers:
        curves = (_curve(name, own[own["number"] == number]) for number, name in chosen.items())
        panels.append((title, tuple(curve for curve in curves if curve.n)))
    return ReliabilityNumbers(tuple(panels), of, int(known["bins"].max()))


def confidence_numbers(bins: pd.DataFrame, chosen: Mapping[int, str]) -> ReliabilityNumbers:
    """As `reliability_numbers`, one curve a panel: each point's of all examples, then of its worst attribute value."""
    of = "positive" if (bins["of"] == "positive").any() else "answer"
    known = bins[(bins["of"] == of) & bins["number"].isin(list(chosen))]
    everyone = known[known["kind"] == "all"]
    panels = [
        (f"{name}, all", (_curve(name, everyone[everyone["number"] == number]),)) for number, name in chosen.items()
    ]
    for number, name in chosen.items():
        if worst := _worst(known, number):
            own = _group(known, worst)
            panels.append(
                (
                    f"{name}, {worst if len(worst) < 14 else f'{worst[:12]}…'}",
                    (_curve(name, own[own["number"] == number]),),
                )
            )
    return ReliabilityNumbers(tuple(panels), of, int(known["bins"].max()))


def _worst(known: pd.DataFrame, number: int) -> str:
    """The attribute value that is worst calibrated at this point; empty where there is none."""
    own = known[(known["kind"] == "attribute") & (known["number"] == number)]
    if own.empty:
        return ""
    total = own.groupby(["name", "bin"])[["n", "hits", "confidence"]].sum()
    gap = (total["hits"] - total["confidence"]).abs().groupby("name").sum() / total["n"].groupby("name").sum()
    return str(gap.idxmax())


def _group(known: pd.DataFrame, name: str) -> pd.DataFrame:
    return known[(known["kind"] == "attribute") & (known["name"] == name)]


def _curve(name: str, own: pd.DataFrame) -> ReliabilityCurve:
    total = own.groupby("bin")[["n", "hits", "confidence"]].sum()
    counted = total["n"].sum()
    return ReliabilityCurve(
        name,
        bin=tuple(map(int, total.index)),
        confidence=tuple(total["confidence"] / total["n"]),
        hits=tuple(total["hits"] / total["n"]),
        share=tuple(total["n"] / counted) if counted else (),
        n=tuple(int(n) for n in total["n"]),
    )


def reliability_chart(numbers: ReliabilityNumbers, methods: Mapping[str, str] | None = None) -> Chart:
    """A diagram for each reader, and how often each confidence occurs among all examples.

    Each point, by its name in `methods`, has its method's look.
    """
    styles = looks([curve.name for _, curves in numbers.panels for curve in curves], methods)
    what = Scale("P(positive)" if numbers.of == "positive" else "confidence", 0, 1)
    panels = [
        Panel(
            what, Scale("share that came true", 0, 1.02), title=title,
            series=(_DIAGONAL, *(_line(curve, styles[curve.name]) for curve in curves)),
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


def confidence_chart(numbers: ReliabilityNumbers) -> Chart:
    """As the paper draws it: histograms of confidence above reliability diagrams, as bars over the bins.

    `numbers` has one curve a panel (`confidence_numbers`).
    """
    what = "P(positive)" if numbers.of == "positive" else "confidence"
    styles = looks([curve.name for _, (curve, *_) in numbers.panels])
    across = Scale(low=0, high=1, ticks=(0.0, 0.5, 1.0))
    above: list[Panel] = []
    below: list[Panel] = []
    for title, (curve, *_) in numbers.panels:
        often, diagram = _bars(curve, styles[curve.name], 1 / numbers.bins)
        up = [Scale(name if not above else "", 0, 1.02) for name in ("share of all", "came true")]
        above.append(Panel(across, up[0], (often,), title=f"{title}: ECE {curve.ece:.3f}"))
        below.append(Panel(replace(across, title=what), up[1], diagram))
    caption = (
        f"Validation split, {numbers.bins} bins, the seeds together. Above: how often each {what} occurs. Below: the "
        "share that came true in each bin, and its gap to the mean of what was promised. First all examples, then each "
        "method's worst calibrated group. Small bins vary."
    )
    return Chart((*above, *below), caption, (WIDE[0], 300.0), rows=2)


def _bars(curve: ReliabilityCurve, look: Look, width: float) -> tuple[Series, tuple[Series, ...]]:
    """The histogram; and the diagram: perfect calibration, the shares that came true, their gaps."""
    x = [(b + 0.5) * width for b in curve.bin]
    gaps = [promised - true for promised, true in zip(curve.confidence, curve.hits, strict=True)]
    own = Series(curve.name, x, curve.share, "bins", look, hover=_hover(curve), width=width)
    true = replace(own, y=curve.hits)
    gap = Series("gap to what was promised", x, gaps, "bins", _GAP, base=curve.hits, opacity=0.5, width=width)
    return own, (_DIAGONAL, true, gap)


def _line(curve: ReliabilityCurve, look: Look) -> Series:
    return Series(curve.name, curve.confidence, curve.hits, "line", look, hover=_hover(curve))


def _hover(curve: ReliabilityCurve) -> list[str]:
    return [
        f"{curve.name}\n{promised:.3f} promised, {true:.3f} came true, n = {n:,}"
        for promised, true, n in zip(curve.confidence, curve.hits, curve.n, strict=True)
    ]
