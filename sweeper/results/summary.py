"""Trials as tables and short texts: what the screen, the record, the files and `--json` show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sweeper.front import pareto
from sweeper.spec.model import SweepSpec
from sweeper.state.lease import Holder, Lease
from sweeper.state.opening import open_spec, study_url
from sweeper.state.study import NoSuchSweep, Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

CAVEAT = (
    "These are validation numbers, means over the seeds with their sample standard deviation; they say how these "
    "settings did on this data, not how they will do elsewhere, and every max-min gap is biased upward in small groups."
)
SMOKE = (
    "digits-on-scenes is a smoke benchmark of handwritten digits, not evidence about vision models; its test split "
    "was looked at while it was made."
)


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment. Times are seconds; `eta_s` is None until a fit has ended."""

    name: str
    state: str
    budget: int
    counts: Mapping[str, int]
    front: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    hypervolume: float = math.nan
    running_fits: int = 0
    elapsed_s: float = 0.0
    eta_s: float | None = None
    holder: str | None = None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs: nan is null."""
        return {key: plain(value) for key, value in vars(self).items()}


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """Trials by state, every state named."""
    found = Counter(trial.state for trial in trials)
    return {state.value: found[state] for state in State}


def signs(spec: SweepSpec) -> list[float]:
    """+1 for an objective to maximise, -1 for one to minimise."""
    return [1.0 if sense == "max" else -1.0 for sense in spec.objectives.values()]


def table(trials: Sequence[Trial], spec: SweepSpec, front: Sequence[int]) -> pd.DataFrame:
    """One row per trial: number, state, label, params, objectives with `_std`, feasible, baseline, on_front, reason."""
    chosen = set(front)
    rows = []
    for trial in trials:
        row: dict[str, Any] = {"number": trial.number, "state": trial.state.value, "label": trial.label}
        row |= dict(trial.params)
        for name in spec.objectives:
            row |= {name: trial.metrics.get(name, math.nan), f"{name}_std": trial.spread.get(name, math.nan)}
        row |= {"seeds": trial.seeds, "feasible": trial.feasible, "baseline": trial.baseline}
        rows.append(row | {"on_front": trial.number in chosen, "reason": trial.why})
    fixed = ["number", "state", "label", "method", "lambda", "rank", *spec.objectives]
    if not rows:
        return pd.DataFrame(columns=[*fixed, "on_front"]).astype({"on_front": bool})
    return pd.DataFrame(rows, columns=fixed if not rows else None).reindex(
        columns=list(dict.fromkeys([*fixed, *(rows[-1] if rows else []), *_all_keys(rows)]))
    )


def _all_keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def front_rows(trials: Sequence[Trial], spec: SweepSpec, front: Sequence[int]) -> list[dict[str, Any]]:
    """The front for people and programs, best first objective first."""
    first, sense = next(iter(spec.objectives.items()))
    by_number = {trial.number: trial for trial in trials}
    rows = [
        {
            "number": n,
            "label": by_number[n].label,
            "baseline": by_number[n].baseline,
            "params": dict(by_number[n].params),
        }
        | {"values": {k: by_number[n].values[k] for k in spec.objectives}}
        | {"spread": {k: by_number[n].spread.get(k, math.nan) for k in spec.objectives}, "seeds": by_number[n].seeds}
        for n in front
    ]
    return sorted(rows, key=lambda row: row["values"][first], reverse=sense == "max")


def hypervolume(trials: Sequence[Trial], spec: SweepSpec, front: Sequence[int]) -> float:
    """Of the front, against the sweep's reference point; nan while there is no front."""
    by_number = {trial.number: trial for trial in trials}
    if not front:
        return math.nan
    points_TM = np.array([[by_number[n].values[name] for name in spec.objectives] for n in front])
    reference_M = np.array([spec.reference[name] for name in spec.objectives])
    return float(pareto.hypervolume(points_TM * signs(spec), reference_M * signs(spec)))


def against_baseline(trials: Sequence[Trial], spec: SweepSpec, front: Sequence[int], name: str = "lora") -> str:
    """One sentence: what the front has that the named baseline has not."""
    base = next((t for t in trials if t.baseline == name and t.state is State.COMPLETE), None)
    if base is None:
        return f"No finished '{name}' baseline to compare with."
    own = np.array(list(base.values.values())) * signs(spec)
    better, beyond = [], []
    for trial in (t for t in trials if t.number in set(front) and t.number != base.number):
        point = np.array(list(trial.values.values())) * signs(spec)
        if pareto.dominates(point, own):
            better.append(trial)
        elif not pareto.dominates(own, point):
            beyond.append(trial)
    numbers = ", ".join(f"{k} {v:.3f}" for k, v in base.values.items())
    if better:
        return f"{len(better)} of {len(front)} front members dominate plain {name} ({numbers}), e.g. {better[0].label}."
    return f"No front member dominates plain {name} ({numbers}); {len(beyond)} extend the front beyond it."


def plain(value: Any) -> Any:
    """What JSON can hold: nan is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def number(mean: float, spread: float = math.nan) -> str:
    """`.873 ± .012`; without spread where that is unknown."""
    text = f"{mean:.3f}"
    return text if math.isnan(spread) else f"{text} ± {spread:.3f}"


def duration(seconds: float | None) -> str:
    """`1 h 02 min`, `3 min 20 s`, `14 s`; `?` when unknown."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def headline(snapshot: Snapshot) -> str:
    """One line: where the sweep stands."""
    told = sum(snapshot.counts.get(state, 0) for state in ("complete", "pruned", "failed"))
    parts = [f"{snapshot.name}: {snapshot.state}", f"{told}/{snapshot.budget} trials"]
    parts += [f"{snapshot.counts.get(s, 0)} {s}" for s in ("running", "pruned", "failed") if snapshot.counts.get(s)]
    if not math.isnan(snapshot.hypervolume):
        parts.append(f"hypervolume {snapshot.hypervolume:.4f}")
    if snapshot.state == "running" and snapshot.elapsed_s:
        parts.append(f"{duration(snapshot.elapsed_s)} gone, about {duration(snapshot.eta_s)} to go")
    if snapshot.holder:
        parts.append(f"driven by {snapshot.holder}")
    if snapshot.why:
        parts.append(f"because: {snapshot.why}")
    return ", ".join(parts)


def look(folder: SweepFolder) -> tuple[Snapshot, list[Trial], list[int], SweepSpec]:
    """A sweep as its study and lease tell it, without driving it."""
    spec = open_spec(folder)
    url = study_url(spec, folder)
    try:
        study = Study(spec, url)
    except NoSuchSweep:
        return Snapshot(spec.name, "not begun", spec.search.trials, counts([])), [], [], spec
    lease = Lease(url, spec.name)
    holder = lease.holder()
    lease.close()
    trials, front = study.look()
    living = holder if holder is not None and holder.alive else None
    finished = len(trials) >= study.budget and all(t.state.finished for t in trials)
    state = "running" if living else "finished" if finished else "paused"
    snapshot = Snapshot(
        name=spec.name,
        state=state,
        budget=study.budget,
        counts=counts(trials),
        front=front_rows(trials, spec, front),
        hypervolume=hypervolume(trials, spec, front),
        holder=str(living) if living else None,
        why=_why(folder, holder) if state == "paused" else None,
    )
    return snapshot, trials, front, spec


def _why(folder: SweepFolder, holder: Holder | None) -> str | None:
    """Why a sweep is paused: a lease that nobody gave back tells of a death, else whoever paused it has said."""
    return folder.why if holder is None else f"its driver died: {holder}"
