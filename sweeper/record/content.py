"""What MLflow says of a trial, as plain data; `trial_runs` writes it.

Pure functions of what the study and the fits' folders hold. The times are the stored ones: MLflow then takes a number
that is written twice as one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sweeper.results.fit import FitResult
from sweeper.results.results import flat
from sweeper.trial import Trial
from trainables.params import PARAMS

_LONGEST_NAME, _LONGEST_TAG = 100, 1000


class Scalar(NamedTuple):
    """One number, with its time (milliseconds since 1970) and step."""

    key: str
    value: float
    time_ms: int
    step: int


def digest(body: Any) -> str:
    """16 hex digits that change when `body` (JSON-able; nan allowed) does."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fingerprint(trial: Trial) -> str:
    """Changes when anything that the record says of the trial changes."""
    return digest(vars(trial))


def params(trial: Trial) -> dict[str, str]:
    """The trial's params as text, as MLflow keeps them."""
    return {name: str(value) for name, value in trial.params.items()}


def tags(trial: Trial, *, on_front: bool) -> dict[str, str]:
    """Flat tags to filter and colour by. Every trial has all of them."""
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
    """`name` in the letters that MLflow allows in keys. Any other letter becomes `:` and its hexadecimal code.

    >>> safe("F/A-18 [new]")
    'F:2fA-18 :5bnew:5d'
    """
    key = re.sub(r"[^\w.\- ]", lambda match: f":{ord(match[0]):x}", name)[:_LONGEST_NAME]
    return key if key.strip(".") else f":{key}"


def _key(name: str) -> str:
    return "/".join(safe(part) for part in name.split("/"))


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row. Undefined ones are left out: MLflow would draw nan as a value."""
    items = ((name, value) for name, value in row.items() if isinstance(value, (int, float)))
    return {name: float(value) for name, value in items if math.isfinite(value)}


def searched(trial: Trial) -> list[Scalar]:
    """The params that are searched by default, as metrics: MLflow's params are text, which a filter cannot compare."""
    filterable = {name: value for name, value in trial.params.items() if name in PARAMS and PARAMS[name].searched}
    return [Scalar(name, value, trial.started_ms, 0) for name, value in _numbers(filterable).items()]


def epochs(fit: FitResult, since: int = 0) -> list[Scalar]:
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


def final(trial: Trial, fits: Sequence[FitResult]) -> list[Scalar]:
    """The means, spreads as `<name>_std`, groups, seconds."""
    rest = {f"{_key(name)}_std": value for name, value in trial.spread.items()} | _groups(fits)
    rest["seconds"] = sum(fit.seconds for fit in fits) if fits else math.nan
    return means(trial) + _at_the_end(trial, rest)


def _at_the_end(trial: Trial, row: Mapping[str, float]) -> list[Scalar]:
    return [Scalar(name, value, trial.ended_ms or 0, 0) for name, value in _numbers(row).items()]


def _groups(fits: Sequence[FitResult]) -> dict[str, float]:
    """`group/cell/waterbird on land/recall`: the mean over the seeds, where it is defined for every seed."""
    by_key: defaultdict[str, list[float]] = defaultdict(list)
    for fit in fits:
        for row in fit.groups:
            prefix = f"group/{safe(str(row['kind']))}/{safe(str(row['name']))}"
            for name, value in _numbers({k: v for k, v in row.items() if k not in ("kind", "name")}).items():
                by_key[f"{prefix}/{_key(name)}"].append(value)
    return {key: math.fsum(values) / len(values) for key, values in by_key.items() if len(values) == len(fits)}
