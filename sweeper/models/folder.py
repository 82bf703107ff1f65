"""A point of the front, in the hand: a folder that plain peft, timm and open_clip load, with a true model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.models import card
from sweeper.models.card import CardFacts, SplitMetrics
from sweeper.results import provenance
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.spec.sections import Storage
from sweeper.state.atomic import read_json
from sweeper.state.sweep_folder import FitFolder, SweepFolder
from sweeper.trial import Trial, typical
from trainables.backbones import shown
from trainables.files import whole_folder
from trainables.params import Params


@dataclass(frozen=True)
class Point:
    """One fit of a sweep: the typical seed of a chosen trial. `tried` is how many trials there were to choose from."""

    spec: SweepSpec
    trial: Trial
    seed: int
    fit: FitFolder
    tried: int


def find(results: Results, which: str) -> Point:
    """`knee`, `most-accurate`, `fairest` of the front as it is now, or a trial's number.

    Raises:
        UserError: there is no such point, or its weights were not kept.
    """
    return point(results, results.point(which))


def point(results: Results, trial: Trial) -> Point:
    """The fit that stands for a complete trial.

    Raises:
        UserError: its weights were not kept.
    """
    seed, fit = _fit(results.folder, results.spec, trial)
    return Point(results.spec, trial, seed, fit, len(results.trials))


def pull(folder: SweepFolder, which: str, out: Path, *, merge: bool = False) -> Path:
    """Write one fit of a sweep (`find` says which) to the new folder `out`, and give that folder.

    Raises:
        UserError: there is no such point, its weights were not kept, or `out` holds something.
    """
    results = Results.open(folder)
    chosen = find(results, which)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} holds something already. Give the name of a new folder.")
    with whole_folder(out) as draft:
        _write(draft, results, chosen, asked=which, merge=merge)
    return out


def _fit(folder: SweepFolder, spec: SweepSpec, trial: Trial) -> tuple[int, FitFolder]:
    """The fit whose validation numbers lie nearest to their means over the seeds."""
    fits = {seed: folder.fit(trial.number, seed) for seed in trial.seed_list}
    values = {seed: _result(fit)["values"] for seed, fit in fits.items()}
    seed = typical(values, spec.objectives)
    if not fits[seed].weights.is_dir():
        raise UserError(
            f"the weights of trial {trial.number} were not kept: it is not on the front. Pull a member of the front "
            f"('sweeper pareto {spec.name}'), or set storage.keep_weights: all in the next sweep."
        )
    return seed, fits[seed]


def _result(fit: FitFolder) -> dict[str, Any]:
    found = fit.result()
    if found is None:
        raise UserError(f"{fit.path} has no result, though its trial is complete. Put the sweep's folder back.")
    return found


def _draw_front(results: Results, file: Path) -> bool:
    """The front's picture; whether there is one to draw."""
    from dashboards.figures import front  # loads matplotlib
    from dashboards.ink import paper

    objectives = results.spec.objectives
    if len(objectives) < 2 or not results.front:
        return False
    paper.save(front.front_chart(front.front_numbers(results.summary_table, objectives)), file)
    return True


def _write(out: Path, results: Results, point: Point, *, asked: str, merge: bool) -> None:
    from trainables import serving  # loads torch

    spec, trial, seed, fit, folder = point.spec, point.trial, point.seed, point.fit, results.folder
    described = provenance.kept(spec, folder.path)
    dataset: Mapping[str, Any] = described["dataset"]
    packed = serving.pack(
        spec.backbone,
        Params.from_flat(dict(trial.params)),
        dataset["classes"],
        fit.weights,
        out,
        crop_bottom=dataset.get("crop_bottom", 0),
        upright=dataset.get("upright", False),
        merge=merge,
    )
    facts = CardFacts(
        spec=spec,
        trial=trial,
        seed=seed,
        asked=asked,
        tried=point.tried,
        merged=(out / serving.WHOLE).exists(),
        code=packed.code,
        library=packed.library,
        base=packed.base,
        repository=packed.repository,
        weights=(packed.trained, packed.total),
        dataset=dataset,
        provenance=_result(fit)["provenance"],
        commit=described.get("commit"),
        splits=_splits(folder, trial, seed, fit),
        pictured=_draw_front(results, out / card.FRONT),
    )
    (out / "README.md").write_text(card.write(facts), encoding="utf-8")
    (out / card.LICENCE).write_text(card.licence(facts), encoding="utf-8")
    (out / "sweep.yaml").write_text(loading.dump(_portable(spec)), encoding="utf-8")
    (out / "results.json").write_text(_results(facts), encoding="utf-8")


def _portable(spec: SweepSpec) -> SweepSpec:
    """The question without the places of this machine."""
    weights = spec.backbone.weights if spec.backbone.weights in ("pretrained", "none") else "pretrained"
    return spec.model_copy(
        update={
            "storage": Storage(),
            "data": spec.data.model_copy(update={"root": None}),
            "backbone": spec.backbone.model_copy(update={"weights": weights, "name": shown(spec.backbone.name)}),
        }
    )


def _splits(folder: SweepFolder, trial: Trial, seed: int, fit: FitFolder) -> list[SplitMetrics]:
    found = [SplitMetrics("validation", _result(fit)["values"], _result(fit)["groups"])]
    path = folder.held_out(trial.number, seed)
    if path.exists():
        tested = read_json(path)
        found.append(SplitMetrics("test", tested["values"], tested["groups"]))
    return found


def _results(facts: CardFacts) -> str:
    """The card's numbers for programs."""
    told = {measured.split: {"values": measured.values, "groups": measured.groups} for measured in facts.splits}
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"
