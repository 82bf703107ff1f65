"""What a sweep may learn from others at its beginning: their trials where those are comparable, else their fronts.

It is decided once, from recorded facts, and kept with the new study: the others may grow or be deleted afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.asking import points
from sweeper.spec.dimensions import Fixed
from sweeper.spec.model import SweepSpec
from sweeper.state.asking.next_point import Warm
from sweeper.state.opening import open_study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

ALIKE = ("data", "backbone", "groups", "train", "metrics", "split_hash", "data_digest")
SHARE = 4  # one of so many trials is spent on points of other sweeps' fronts, at most


def gathered(spec: SweepSpec, identity: Mapping[str, Any]) -> Warm:
    """What `search.warm_start` gives to a sweep of this `identity`; of the data only what that says is compared.

    Raises:
        UserError: there is no such sweep, nothing was tried in it, or it shares nothing with this one's space.
    """
    found = Warm()
    for name in spec.search.warm_start:
        folder = SweepFolder(Path(spec.storage.root) / name)
        if not folder.exists:
            raise UserError(f"search.warm_start: there is no sweep '{name}' in {folder.path.parent}. See: sweeper list")
        results = Results.open(folder)
        if not results.front:
            raise UserError(f"search.warm_start: '{name}' has no front yet. Leave it out, or wait for it.")
        differing = _differing(results, identity, loading.completed(open_study(folder).identity))
        _take(found, spec, results, differing)
    return found


def _differing(results: Results, mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what its numbers could not be compared, a line each."""
    both = [key for key in ALIKE if key in mine and key in other]
    lines = loading.difference({key: other[key] for key in both}, {key: mine[key] for key in both})
    if set(mine["objectives"]) != set(other["objectives"]):
        lines.append(f"objectives: {', '.join(other['objectives'])} there, {', '.join(mine['objectives'])} here")
    return [line.replace(": was ", ": ").replace(", is now ", " there, here ") for line in lines]


def _take(found: Warm, spec: SweepSpec, results: Results, differing: list[str]) -> None:
    name, complete = results.spec.name, [trial for trial in results.trials if trial.state is State.COMPLETE]
    if not differing:
        inside = [trial for trial in complete if spec.space.contains(trial.params)]
        if inside:
            found.told.extend(_told(spec, name, trial) for trial in inside)
            beyond = len(complete) - len(inside)
            rest = f"; outside this space: {beyond}" if beyond else ""
            found.notes.append(
                f"warm start: {len(inside)} trials of '{name}' are told to the sampler (same data, backbone and "
                f"training){rest}."
            )
            return
        differing = ["no trial of it lies in this space"]
    room = max(1, spec.search.trials // SHARE) - len(found.points)
    room = min(room, spec.search.trials - len(spec.search.baseline_list) - len(spec.search.points) - len(found.points))
    shared = [wanted for trial in results.members if (wanted := _shared(spec, trial))]
    why = "; ".join(differing)
    if not shared:
        raise UserError(
            f"search.warm_start: the front of '{name}' has no value that this space searches, and its trials do not "
            f"count here ({why}). Leave it out."
        )
    for wanted in [wanted for place, wanted in enumerate(shared) if wanted not in shared[:place]][: max(0, room)]:
        found.points.append({"point": wanted, "why": f"on the front of '{name}'"})
    count = sum(each["why"] == f"on the front of '{name}'" for each in found.points)
    found.notes.append(
        f"warm start: {count} points of the front of '{name}' are tried first, and no more is taken from it: its "
        f"numbers are not comparable ({why})."
    )


def _told(spec: SweepSpec, name: str, trial: Trial) -> dict[str, Any]:
    feasible = all(bound.violation(trial.value(metric)) <= 0 for metric, bound in spec.constraints.items())
    values = [trial.values[objective] for objective in spec.objectives]
    return {"sweep": name, "number": trial.number, "params": dict(trial.params), "values": values, "feasible": feasible}


def _shared(spec: SweepSpec, trial: Trial) -> dict[str, Any]:
    """What of a trial's settings is searched here too, and inside; nothing where no method here has all of it."""
    space, method = spec.space, trial.params["method"]
    methods = [method] if method in space.methods else list(space.methods)
    wanted: dict[str, Any] = {}
    for name, item in trial.params.items():
        axes = [space.axes[label] for each in methods if (label := space.labels(each).get(name))]
        if any(not isinstance(axis, Fixed) and axis.contains(item) for axis in axes):
            wanted[name] = item
    return wanted if wanted and points.fits(space, wanted) else {}
