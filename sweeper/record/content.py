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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dashboards.ink.style import mark
from sweeper.results.fit import FitResult, flat
from sweeper.trial import Trial
from trainables.params import PARAMS

FORMAT = 2  # of what is written of a trial; where it changes, runs of before are written again
LOG_LAMBDA = "log10_lambda"
MAIN = ("accuracy", "delta_f1", "ece")  # beside the objectives, for whoever looks at one run
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
    # By what was measured: in a race the objectives that are shown move with every seed of any other trial.
    own = {name: value for name, value in vars(trial).items() if name not in ("seed_list", "by_seed", "further")}
    own["values"] = {name: trial.metrics.get(name, value) for name, value in trial.values.items()}
    return digest([FORMAT, own])


def params(trial: Trial) -> dict[str, str]:
    """The trial's params as text, as MLflow keeps them."""
    return {name: str(value) for name, value in trial.params.items()}


def standing(trial: Trial, *, on_front: bool) -> dict[str, str]:
    """What changes with the front. `shown`, of its members and the baselines, is what the view of the front filters."""
    return {"pareto": truth(on_front), "shown": truth(on_front or trial.baseline is not None)}


def tags(trial: Trial, *, on_front: bool) -> dict[str, str]:
    """Flat tags to filter and colour by. Every trial has all of them. Methods have the colours of the pictures."""
    method = str(trial.params.get("method", ""))
    return {
        "mlflow.runName": trial.label,
        "mlflow.runColor": mark(method)[0],
        "method": method,
        "baseline": trial.baseline or "none",
        "state": trial.state.value,
        "feasible": truth(trial.feasible),
        "reason": _cut(trial.why or ""),
    } | standing(trial, on_front=on_front)


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
    """The params that are searched by default, as metrics: MLflow's params are text, which a filter cannot compare.

    A lambda above 0 also as `log10_lambda`: MLflow's charts of trials have no log axes.
    """
    row = _numbers({name: value for name, value in trial.params.items() if name in PARAMS and PARAMS[name].searched})
    if row.get("lambda", 0.0) > 0:
        row[LOG_LAMBDA] = math.log10(row["lambda"])
    return [Scalar(name, value, trial.started_ms, 0) for name, value in row.items()]


def epochs(fit: FitResult, since: int = 0) -> list[Scalar]:
    """Every number of every epoch from row `since` on, as `seed-0/val_accuracy`."""
    return [
        Scalar(f"seed-{fit.seed}/{_key(name)}", value, int(row["time_ms"]), int(row["epoch"]))
        for row in fit.history[since:]
        for name, value in _numbers(row).items()
        if name not in ("epoch", "time_ms")
    ]


def main(trial: Trial, objectives: Iterable[str], step: int | None = None) -> list[Scalar]:
    """Means over the seeds of the objectives and of MAIN, under the metrics' own names."""
    return _at_the_end(trial, {_key(name): trial.value(name) for name in (*objectives, *MAIN)}, step=step)


def final(trial: Trial, fits: Sequence[FitResult], objectives: Iterable[str]) -> list[Scalar]:
    """The main means with their spreads as `<name>_std`; all others under `val/`; groups, seconds."""
    top = dict.fromkeys((*objectives, *MAIN))
    rest = {f"{_key(name)}_std": trial.spread.get(name) for name in top} | _groups(fits)
    rest |= _both("val", {n: (mean, trial.spread.get(n)) for n, mean in trial.metrics.items() if n not in top})
    rest["seconds"] = sum(fit.seconds for fit in fits) if fits else math.nan
    return main(trial, objectives) + _at_the_end(trial, rest)


def tested(trial: Trial, measured: Mapping[str, tuple[float, float]]) -> list[Scalar]:
    """Mean and spread of every test metric as `test/<name>` and `test/<name>_std`."""
    return _at_the_end(trial, _both("test", measured))


def _both(prefix: str, rows: Mapping[str, tuple[float, float | None]]) -> dict[str, float | None]:
    means = {f"{prefix}/{_key(name)}": mean for name, (mean, _) in rows.items()}
    return means | {f"{prefix}/{_key(name)}_std": spread for name, (_, spread) in rows.items()}


def _at_the_end(trial: Trial, row: Mapping[str, float | None], step: int | None = None) -> list[Scalar]:
    """The step tells what is newer, where a trial got more seeds after its end."""
    at = trial.further if step is None else step
    return [Scalar(name, value, trial.ended_ms or 0, at) for name, value in _numbers(row).items()]


def _groups(fits: Sequence[FitResult]) -> dict[str, float | None]:
    """`group/cell/waterbird on land/recall`: the mean over the seeds, where it is defined for every seed."""
    by_key: defaultdict[str, list[float]] = defaultdict(list)
    for fit in fits:
        for row in fit.groups:
            prefix = f"group/{safe(str(row['kind']))}/{safe(str(row['name']))}"
            for name, value in _numbers({k: v for k, v in row.items() if k not in ("kind", "name")}).items():
                by_key[f"{prefix}/{_key(name)}"].append(value)
    return {key: math.fsum(values) / len(values) for key, values in by_key.items() if len(values) == len(fits)}
