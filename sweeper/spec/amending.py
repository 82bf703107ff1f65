"""What of a sweep may change while it lives, and what may not: a larger budget, other resources, other stop rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.spec.search import Search
from sweeper.spec.urls import sqlite_file, sqlite_url


def anchored(spec: SweepSpec) -> SweepSpec:
    """Its paths made absolute, because a resume may be typed in another folder."""
    changes: dict[str, str] = {}
    if spec.data.root is not None:
        changes["data.root"] = str(spec.data.root.expanduser().resolve())
    weights = Path(spec.backbone.weights).expanduser()
    if weights.is_file():
        changes["backbone.weights"] = str(weights.resolve())
    for key, url in (("study", spec.storage.study), ("mlflow", spec.storage.mlflow)):
        file = sqlite_file(url or "")
        if file is not None and not file.is_absolute():
            changes[f"storage.{key}"] = sqlite_url(file.resolve())
    return loading.changed(spec, changes) if changes else spec


def extended(spec: SweepSpec, trials: int) -> SweepSpec:
    """The same sweep with a budget of `trials`.

    Raises:
        UserError: that is less than it has.
    """
    if trials < spec.search.trials:
        raise UserError(f"--trials {trials} is less than the {spec.search.trials} the sweep has. Give more.")
    return loading.changed(spec, {"search.trials": trials})


def amended(spec: SweepSpec, wanted: SweepSpec) -> tuple[SweepSpec, list[str]]:
    """`spec` as `wanted` would have it, and what that changes, a line each.

    Name and places stay; so does the population that nsga2 was given by default, though the budget grows, and how
    images are turned and fits measured, where `wanted` does not say it.

    Raises:
        UserError: trials of before and after would not be comparable, or the budget would shrink.
    """
    kept: dict[str, Any] = {} if "metrics" in wanted.model_fields_set else {"metrics": spec.metrics.model_dump()}
    for part in loading.CHOSEN:
        kept |= {f"{part}.{name}": getattr(getattr(spec, part), name, None) for name in getattr(wanted, part).unsaid()}
    wanted = anchored(wanted)
    if wanted.storage.study not in (None, spec.storage.study):
        raise UserError(f"storage.study is {spec.storage.study}, and cannot change: the sweep's memory is there.")
    if wanted.storage.fits not in (None, spec.storage.fits or wanted.storage.fits):
        raise UserError(f"storage.fits is {spec.storage.fits}, and cannot change: the fits' checkpoints are there.")
    kept |= {"name": spec.name, "storage.root": spec.storage.root, "storage.study": spec.storage.study}
    kept |= {"storage.mlflow": wanted.storage.mlflow or spec.storage.mlflow}
    kept |= {"storage.fits": wanted.storage.fits or spec.storage.fits}
    said = wanted.search.model_dump()
    for option in Search.options(said) or ():  # a default that follows the budget was settled when the sweep began
        if callable(option.default) and said[option.name] == option.default_for(said):
            kept[f"search.{option.name}"] = spec.search.model_dump().get(option.name)
    if wanted.search.auto is not None:  # what was chosen when the sweep began stays
        kept |= {"search.sampler": spec.search.sampler, "search.auto": spec.search.auto}
    wanted = loading.changed(wanted, kept)
    refused = loading.difference(spec.identity(), wanted.identity())
    if refused:
        raise UserError(
            f"trials of '{spec.name}' before and after would not be comparable:\n  "
            + "\n  ".join(refused)
            + "\nResources, storage, the budget and stop rules may change. For another question begin another sweep."
        )
    extended(spec, wanted.search.trials)  # refuses a smaller budget
    return wanted, loading.difference(spec.model_dump(mode="json"), wanted.model_dump(mode="json"))
