"""What MLflow says of a trial, as plain data; `record` writes it.

Everything here is a pure function of what the study and the fits' folders hold, with their stored
times, so that saying it twice makes no second row.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sweeper.results.fit import Fit
from sweeper.results.results import flat
from sweeper.trial import Trial

FILTERABLE = ("lambda", "rank")  # MLflow's params are text: only metrics can be compared in a filter
_LONGEST_NAME, _LONGEST_TAG = 100, 1000


class Scalar(NamedTuple):
    """One number at one moment (milliseconds since 1970) and step."""

    key: str
    value: float
    time_ms: int
    step: int


def digest(body: Any) -> str:
    """16 hex digits that change when `body` (JSON-able; nan allowed) does."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fingerprint(trial: Trial) -> str:
    """Changes when anything that the record tells of the trial does."""
    return digest(vars(trial))


def params(trial: Trial) -> dict[str, str]:
    """The trial's params as MLflow keeps them: text, written once."""
    return {name: str(value) for name, value in trial.params.items()}


def tags(trial: Trial, *, on_front: bool) -> dict[str, str]:
    """Flat tags to filter and colour by; every trial has every one."""
    return {
        "mlflow.runName": trial.label,
        "method": str(trial.params.get("method", "")),
        "baseline": trial.baseline or "none",
        "state": trial.state.value,
        "feasible": truth(trial.feasible),
        "reason": _cut(trial.why or ""),
        "pareto": truth(on_front),
    }


def truth(value: bool) -> str:
    """As MLflow's filters spell it."""
    return "true" if value else "false"


def provenance(body: Mapping[str, Any]) -> dict[str, str]:
    """Nested provenance as tags: `provenance.versions.torch`."""
    return {safe(name): _cut(str(value)) for name, value in flat(body, "provenance").items()}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TAG else text[: _LONGEST_TAG - 1] + "…"


def safe(name: str) -> str:
    """`name` in the letters that MLflow allows in keys; what it forbids becomes `:` and its code.

    >>> safe("F/A-18 [new]")
    'F:2fA-18 :5bnew:5d'
    """
    spelled = re.sub(r"[^\w.\- ]", lambda match: f":{ord(match[0]):x}", name)[:_LONGEST_NAME]
    return spelled if spelled.strip(".") else f":{spelled}"


def _key(name: str) -> str:
    return "/".join(safe(part) for part in name.split("/"))


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row. An undefined one is left out: MLflow would draw nan as a value."""
    items = ((name, value) for name, value in row.items() if isinstance(value, (int, float)))
    return {name: float(value) for name, value in items if math.isfinite(value)}


def searched(trial: Trial) -> list[Scalar]:
    """The numeric params that people filter by, as metrics."""
    asked = {name: value for name, value in trial.params.items() if name in FILTERABLE}
    return [Scalar(name, value, trial.started_ms, 0) for name, value in _numbers(asked).items()]


def epochs(fit: Fit, since: int = 0) -> list[Scalar]:
    """Every number of every epoch from row `since` on, as `seed-0/val_accuracy`."""
    return [
        Scalar(f"seed-{fit.seed}/{_key(name)}", value, int(row["time_ms"]), int(row["epoch"]))
        for row in fit.history[since:]
        for name, value in _numbers(row).items()
        if name not in ("epoch", "time_ms")
    ]


def means(trial: Trial) -> list[Scalar]:
    """Means over the seeds under the metrics' own names."""
    return _at_the_end(trial, {_key(name): value for name, value in trial.metrics.items()})


def final(trial: Trial, fits: Sequence[Fit]) -> list[Scalar]:
    """The means, spreads as `<name>_std`, groups, seconds."""
    found = {f"{_key(name)}_std": value for name, value in trial.spread.items()} | _groups(fits)
    found["seconds"] = sum(fit.seconds for fit in fits) if fits else math.nan
    return means(trial) + _at_the_end(trial, found)


def _at_the_end(trial: Trial, found: Mapping[str, float]) -> list[Scalar]:
    return [Scalar(name, value, trial.ended_ms or 0, 0) for name, value in _numbers(found).items()]


def _groups(fits: Sequence[Fit]) -> dict[str, float]:
    """`group/cell/waterbird on land/recall`: the mean over the seeds, where it is defined for every seed."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for fit in fits:
        for row in fit.groups:
            place = f"group/{safe(str(row['kind']))}/{safe(str(row['name']))}"
            for name, value in _numbers({k: v for k, v in row.items() if k not in ("kind", "name")}).items():
                found[f"{place}/{_key(name)}"].append(value)
    return {key: math.fsum(values) / len(values) for key, values in found.items() if len(values) == len(fits)}
