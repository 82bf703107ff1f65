"""Repetitions of arms on surfaces at several budgets, kept line by line, and the tables made of them.

To try settings of the product's own search, from any script:

    from benchmarks.search.harness import score
    print(score({"sampler": "tpe", "seeds": 1}, "convex", budget_fits=96, repetitions=20, slots=8))

gives a table with a row for each share of the budget. Each share is a sweep of its own, whose budget is that share.
`shares=(1,)` runs the whole budget alone. The same worlds (0, 1, ...) give the same noise to every arm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.search import arms, ours, shown
from benchmarks.search.surfaces import EPOCHS, Surface, surfaces

SHARES = (1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0)
WHOLE = 96  # fits
MEASURES = ("volume", "false", "false_sure", "front", "sure", "tried")
surface_named = cache(lambda name: surfaces()[name]())


def score(
    search: Mapping[str, Any],
    surface: Surface | str,
    budget_fits: int = WHOLE,
    repetitions: int = 20,
    slots: int = 4,
    shares: Sequence[float] = SHARES,
) -> pd.DataFrame:
    """The product's search on a surface: medians and quartiles by the share of the budget, `fits` as a column."""
    surface = surface_named(surface) if isinstance(surface, str) else surface
    rows = [
        row("ours", surface, share, world, slots, ours.show(surface, search, round(budget_fits * share), world, slots))
        for world in range(repetitions)
        for share in shares
    ]
    return table(rows)


def row(arm: str, surface: Surface, share: float, world: int, slots: int, what: shown.Shown) -> dict[str, Any]:
    """One line of what is kept."""
    about = {"arm": arm, "surface": surface.name, "share": round(share, 4), "world": world, "slots": slots}
    return about | {"epochs": what.epochs} | asdict(shown.score(surface, what))


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """By surface, slots, arm and share: median, and quartiles of the volume; means of the shares that are false.

    The false share of what is sure is over all that is shown as sure in any repetition, each member counting once.
    """
    frame = pd.DataFrame([dict(row) for row in rows])
    found = []
    for key, part in frame.groupby(["surface", "slots", "share", "arm"], sort=False):
        low, mid, high = part["volume"].quantile([0.25, 0.5, 0.75])
        told = part[part["sure"] > 0]
        wrong = float((told["false_sure"] * told["sure"]).sum() / told["sure"].sum()) if len(told) else np.nan
        shown_ = part[part["front"] > 0]
        false = float((shown_["false"] * shown_["front"]).sum() / shown_["front"].sum()) if len(shown_) else np.nan
        about = dict(zip(("surface", "slots", "share", "arm"), key, strict=True))
        numbers = {"volume": mid, "low": low, "high": high, "false": false, "false_sure": wrong}
        counts = {"front": part["front"].mean(), "sure": part["sure"].mean(), "tried": part["tried"].mean()}
        found.append(about | numbers | counts | {"repetitions": len(part)})
    return pd.DataFrame(found)


class Kept:
    """Rows in a file of JSON lines: what is there is not run again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self._known = {self._key(row) for row in self.rows}

    @staticmethod
    def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("arm", "surface", "share", "world", "slots"))

    def lacks(self, arm: str, surface: str, share: float, world: int, slots: int) -> bool:
        """Whether there is no such row."""
        return (arm, surface, round(share, 4), world, slots) not in self._known

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Keep rows."""
        for new in rows:
            if self._key(new) not in self._known:
                self._known.add(self._key(new))
                self.rows.append(new)
                with self.path.open("a") as file:
                    file.write(json.dumps(new) + "\n")


def run(arm: str, surface: Surface, world: int, slots: int, whole: int = WHOLE) -> Iterator[dict[str, Any]]:
    """The rows of one repetition of an Optuna arm, `tpe-3` (three seeds for each configuration)."""
    sampler, _, seeds = arm.rpartition("-")
    tried = arms.search(surface, sampler, int(seeds), whole, world, slots)
    for share in SHARES:
        yield row(arm, surface, share, world, slots, arms.after(tried, round(whole * share) * EPOCHS))


def run_ours(
    arm: str, search: Mapping[str, Any], surface: Surface, world: int, slots: int, whole: int = WHOLE
) -> Iterator[dict[str, Any]]:
    """The rows of one repetition of the product's search; a sweep for each share."""
    for share in SHARES:
        yield row(arm, surface, share, world, slots, ours.show(surface, search, round(whole * share), world, slots))
