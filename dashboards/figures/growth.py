"""How the front grew: hypervolume by finished trial, and by the hours of computing that it took."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.ink.chart import SCREEN, WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import BLUE, CIRCLE, Look

_LINE = Look(BLUE, CIRCLE)
VOLUME = "hypervolume (higher is better)"


@dataclass(frozen=True)
class HypervolumeNumbers:
    """How much the front dominates after each finished trial, and the hours of device time until then."""

    finished: tuple[int, ...]
    hypervolume: tuple[float, ...]
    hours: tuple[float, ...] = ()


def hypervolume_numbers(hypervolume: Sequence[float], seconds: Sequence[float] = ()) -> HypervolumeNumbers:
    """From the hypervolume after the first finished trial, the second, and so on.

    `seconds`: what each of these trials took, all its fits together.

    Raises:
        ValueError: another number of seconds than of trials.
    """
    if len(seconds) not in (0, len(hypervolume)):
        raise ValueError(f"{len(hypervolume)} trials and the seconds of {len(seconds)}")
    hours = tuple(total / 3600 for total in itertools.accumulate(map(float, seconds)))
    return HypervolumeNumbers(tuple(range(1, len(hypervolume) + 1)), tuple(map(float, hypervolume)), hours)


def hypervolume_chart(numbers: HypervolumeNumbers) -> Chart:
    """One panel by trials; beside it, where the seconds are known, one by hours."""
    panels = [_panel("finished trials", numbers.finished, numbers.hypervolume, "after {:.0f} trials")]
    if numbers.hours:
        panels.append(
            _panel("device hours, all fits together", numbers.hours, numbers.hypervolume, "after {:.3g} hours")
        )
    return Chart(tuple(panels), canvas=WIDE if numbers.hours else SCREEN)


def _panel(title: str, x: Sequence[float], y: Sequence[float], text: str) -> Panel:
    hover = [f"{volume:.4f} {text.format(at)}" for at, volume in zip(x, y, strict=True)]
    return Panel(Scale(title), Scale(VOLUME), (Series("hypervolume", x, y, "steps", _LINE, hover=hover, size=0, thick=2,
                                                      key=False),))  # fmt: skip
