"""Two or more sweeps side by side: one picture, one reference point, and a refusal where they are not alike."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dashboards.document.document import DataTable, Document, Picture, Section, Text
from dashboards.figures import several
from dashboards.ink.chart import COLUMN, SCREEN
from dashboards.ink.wording import decimal, heading
from sweeper.errors import UserError
from sweeper.front import pareto
from sweeper.report import evidence, papers
from sweeper.results.results import Results
from sweeper.results.summary import CAVEAT
from sweeper.state import opening
from sweeper.state.sweep_folder import SweepFolder
from trainables.arrays import Floats
from trainables.undefined import to_null


@dataclass(frozen=True)
class Side:
    """One of the sweeps. `split_hash` names the data, and who of it is in which split."""

    name: str
    results: Results
    split_hash: str


@dataclass(frozen=True)
class Comparison:
    """The sweeps, what they differ in, and their hypervolumes above one reference point."""

    sides: tuple[Side, ...]
    differences: tuple[str, ...]
    reference: Mapping[str, float]
    volumes: Mapping[str, float]
    together: float
    shared_front: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        values: dict[str, Any] = {"differences": self.differences, "reference": self.reference}
        values |= {"hypervolume": self.volumes}
        values |= {"hypervolume_together": self.together, "members_of_the_joint_front": self.shared_front}
        return to_null(values)


def side(folder: SweepFolder) -> Side:
    """A sweep as its study and folder tell it."""
    split_hash = str(opening.open_study(folder).identity.get("split_hash", "unknown"))
    return Side(folder.name, Results.open(folder), split_hash)


def compare(sides: Sequence[Side], *, force: bool = False) -> Comparison:
    """One hypervolume for each, above one reference point.

    It is the one that all the specs have, or, where they have several, a tenth of the range below the
    worst of all points.

    Raises:
        UserError: other objectives; other data, unless `force`; or a sweep without a front.
    """
    _refuse(sides)
    differences = tuple(_differences(sides))
    if differences and not force:
        raise UserError(
            "these sweeps were not measured on the same data, so their numbers cannot be compared:\n  "
            + "\n  ".join(differences)
            + "\nCompare sweeps of one split, or say --force and mind what you read."
        )
    objectives = sides[0].results.spec.objectives
    signs_M = sides[0].results.signs_M
    points = {each.name: each.results.points_TM for each in sides}
    together_TM = np.vstack(list(points.values()))
    reference_M = _reference(sides, together_TM, signs_M)
    on_T = pareto.front(together_TM)
    owners = np.repeat(list(points), [len(rows) for rows in points.values()])
    return Comparison(
        sides=tuple(sides),
        differences=differences,
        reference=dict(zip(objectives, (reference_M * signs_M).tolist(), strict=True)),
        volumes={name: pareto.hypervolume(rows, reference_M) for name, rows in points.items()},
        together=pareto.hypervolume(together_TM, reference_M),
        shared_front={name: int((owners[on_T] == name).sum()) for name in points},
    )


def _refuse(sides: Sequence[Side]) -> None:
    if len({each.name for each in sides}) < max(2, len(sides)):
        raise UserError("compare takes two or more different sweeps: sweeper compare NAME NAME ...")
    objectives_of = {each.name: dict(each.results.spec.objectives) for each in sides}
    if len({tuple(sorted(objectives.items())) for objectives in objectives_of.values()}) > 1:
        listed = "; ".join(f"{name}: {', '.join(objectives)}" for name, objectives in objectives_of.items())
        raise UserError(f"these sweeps have other objectives ({listed}), so they have no picture in common.")
    empty = [each.name for each in sides if not each.results.able]
    if empty:
        raise UserError(f"no trial of {', '.join(empty)} is complete and keeps the constraints: nothing to compare.")


def _differences(sides: Sequence[Side]) -> list[str]:
    """In what the data differ, one line each."""
    if len({each.split_hash for each in sides}) == 1:
        return []
    return [f"{each.name}: {each.results.spec.data.name}, split {each.split_hash}" for each in sides]


def _reference(sides: Sequence[Side], points_TM: Floats, signs_M: Floats) -> Floats:
    objectives = sides[0].results.spec.objectives
    given = {tuple(each.results.spec.reference[name] for name in objectives) for each in sides}
    return np.array(given.pop()) * signs_M if len(given) == 1 else pareto.reference_point(points_TM)


# --- to be shown


def document(comparison: Comparison) -> Document:
    """The comparison as a report."""
    objectives = comparison.sides[0].results.spec.objectives
    names = " and ".join(each.name for each in comparison.sides)
    blocks: list[Text | DataTable | Picture] = []
    if comparison.differences:
        blocks.append(
            Text("Not the same data: " + "; ".join(comparison.differences) + ". Mind what you read.", answer=True)
        )
    blocks.append(volume_table(comparison))
    if len(objectives) > 1:
        tables = {each.name: each.results.trials_table for each in comparison.sides}
        large, small = (several.fronts_chart(tables, objectives, canvas=size) for size in (SCREEN, COLUMN))
        blocks.append(Picture("fronts", large, small))
    blocks.append(Picture("hypervolume", several.growths_chart(_growths(comparison))))
    sections = [
        Section("Front against front", tuple(blocks)),
        Section("Methods side by side", tuple(method_table(comparison.sides, "knee", "validation").tables)),
        Section("How to read it", (Text(CAVEAT, aside=True),)),
    ]
    return Document(f"Sweeps {names}", "Validation numbers; nothing here has seen a test split.", tuple(sections))


def volume_table(comparison: Comparison) -> DataTable:
    """One row for each sweep: hypervolume, its share of the best that all reach together, front, best values, hours."""
    objectives = comparison.sides[0].results.spec.objectives
    rows = []
    for each in comparison.sides:
        best = [
            (max if sense == "max" else min)(trial.values[name] for trial in each.results.able)
            for name, sense in objectives.items()
        ]
        hours = sum(fit.seconds for fit in each.results.fits) / 3600
        volume = comparison.volumes[each.name]
        share = f"{volume / comparison.together:.1%}" if comparison.together else "–"
        shared = f"{comparison.shared_front[each.name]} of {len(each.results.front)}"
        row = (each.name, decimal(volume, digits=4), share, shared, *map(decimal, best))
        rows.append((*row, str(len(each.results.trials)), f"{hours:.2f}"))
    bests = tuple(f"best {heading(name, sense)}" for name, sense in objectives.items())
    head = ("sweep", "hypervolume (↑)", "of all together", "members on the joint front", *bests)
    place = ", ".join(f"{name} {value:.4g}" for name, value in comparison.reference.items())
    top = max(comparison.volumes.values())
    best_rows = frozenset(
        (r, 1) for r, each in enumerate(comparison.sides) if math.isclose(comparison.volumes[each.name], top)
    )
    return DataTable((*head, "trials", "device hours"), tuple(rows), f"Hypervolume above {place}.", best=best_rows)


def _growths(comparison: Comparison) -> dict[str, tuple[list[float], list[float]]]:
    """Hypervolume above the one reference point, and hours, after each trial that ended."""
    growths = {}
    for each in comparison.sides:
        volumes, seconds = evidence.grown(each.results, comparison.reference)
        growths[each.name] = (volumes, [total / 3600 for total in itertools.accumulate(seconds)])
    return growths


SPLITS = ("validation", "test")


@dataclass(frozen=True)
class MethodTable:
    """Every sweep's methods on one split: `rows` as `papers.method_rows` makes them, `model` told apart; a caption."""

    split: str
    rows: pd.DataFrame
    caption: str

    @property
    def tables(self) -> list[DataTable]:
        """As the papers print them."""
        return papers.tables(self.rows, self.caption)


def method_table(sides: Sequence[Side], rule: str, split: str) -> MethodTable:
    """Every sweep's methods, each at the point that `rule` takes from its own trials, on one of `SPLITS`.

    `rule` is one of `recommend.METHOD_RULES`; what was not measured on the split is left out. No two sweeps are
    compared, so they may have other data and objectives.
    """
    points = [papers.points(each.results, rule) for each in sides]
    rows = [
        papers.method_rows(each.results, chosen.numbers, split).assign(model=model)
        for each, model, chosen in zip(sides, model_names(sides), points, strict=True)
    ]
    caption = (
        f"{split.capitalize()} split, in percent, mean ± standard deviation over the seeds; each method's point is "
        f"chosen on validation from its own trials: {' / '.join(dict.fromkeys(chosen.rule for chosen in points))}."
    )
    return MethodTable(split, pd.concat(rows, ignore_index=True), caption)


def model_names(sides: Sequence[Side]) -> list[str]:
    """What each sweep is called beside the others: its backbone, or its own name where two have the same."""
    models = [each.results.spec.backbone.name for each in sides]
    return [m if len(set(models)) == len(models) else each.name for m, each in zip(models, sides, strict=True)]


def methods_document(made: Sequence[MethodTable], sides: Sequence[Side]) -> Document:
    """The tables alone, to be written to a file."""
    sections = [Section(f"On the {each.split} split", tuple(each.tables)) for each in made if not each.rows.empty]
    return Document(f"Sweeps {' and '.join(side.name for side in sides)}", "", tuple(sections))


def methods_csv(made: Sequence[MethodTable]) -> pd.DataFrame:
    """The same numbers unrounded, as shares: split, model, method, and of each metric its mean, `_std` and `_best`."""
    parts = [papers.plain_rows(each.rows) for each in made]
    for each, part in zip(made, parts, strict=True):
        part.insert(0, "split", each.split)
    return pd.concat(parts, ignore_index=True)
