"""Audits of a point of the front: run on this machine, written beside the sweep, never read by what chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dashboards.figures import exposure
from dashboards.ink import paper
from sweeper.errors import UserError
from sweeper.models import folder as hand
from sweeper.state.sweep_folder import SweepFolder
from trainables import files
from trainables.params import Params


def membership(
    folder: SweepFolder, which: str, *, shadows: int, heard: Callable[[int], None] = lambda done: None
) -> tuple[Path, dict[str, Any]]:
    """Try to tell whom one fit was trained on: the file that was written, beside its picture, and what it says.

    `heard` is told how many shadow models are trained.

    Raises:
        UserError: there is no such point, its weights were not kept, or the data is not what it was trained on.
    """
    from trainables.audits import AUDITS
    from trainables.finetuning import FineTuning  # loads torch

    if shadows < 2:
        raise UserError(f"--shadows is {shadows}. Use 2 or more; the paper's authors use 16.")
    point = hand.find(folder, which)
    point.fit.check_weights()
    tuning = FineTuning(point.spec.task())
    tuning.prepare()
    params = Params.from_flat(dict(point.trial.params))
    vouched = (point.fit.result() or {}).get("provenance", {}).get("split_hash")
    if vouched is not None and vouched != tuning.dataset.split_hash:
        raise UserError(f"the data is not what trial {point.trial.number} was trained on. Put it back as it was.")
    found = AUDITS["membership"].load()(tuning, params, point.seed, point.fit.weights, shadows=shadows, heard=heard)
    told = {"sweep": point.spec.name, "trial": point.trial.number, "label": point.trial.label, "seed": point.seed}
    place = folder.path / "audits" / f"membership-{point.trial.number}-{point.seed}.json"
    place.parent.mkdir(exist_ok=True)
    with files.whole(place.with_suffix(".png")) as temporary:
        paper.save(exposure.roc_chart(exposure.roc_numbers(found["attacks"])), temporary)
    files.write_text(place, json.dumps(told | found, indent=2) + "\n")
    return place, told | found


def sentences(found: Mapping[str, Any]) -> list[str]:
    """One line an attack: the area under its ROC, and what it can be sure of."""
    return [f"{name}: {_sentence(attack)}" for name, attack in found["attacks"].items()]


def _sentence(attack: Mapping[str, Any]) -> str:
    if attack["auc"] is None:
        return f"unknown: {attack['reasons']['auc']}"
    parts = [f"area {attack['auc']:.3f} (0.5 is chance), {attack['members']} members, {attack['others']} others"]
    for rate, share in attack["tpr_at_fpr"].items():
        at = f"at {float(rate):.1%} false alarms"
        parts.append(f"{at} unknown ({attack['reasons'][rate]})" if share is None else f"{at} {share:.1%} are found")
    return "; ".join(parts)
