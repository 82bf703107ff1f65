"""The ledger of a storm: how fits are made to write it without knowing, and what it says of a sweep.

The lines come from `inject/sitecustomize.py`; `tests.faults.audit` holds sweeper's stores against them. Here
is what both arms of a storm share, and the audit of the stock one.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.faults import audit as audits

HERE = Path(__file__).parent
Event = Mapping[str, Any]


def environment(ledger: Path, bytecode: Path) -> dict[str, str]:
    """For a process whose fits, in it or in Ray's workers below it, shall write `ledger`.

    A storm pays for the same imports hundreds of times: bytecode goes to `bytecode` where Python is told to keep none.
    """
    kept = dict(os.environ)
    if kept.pop("PYTHONDONTWRITEBYTECODE", ""):
        kept.setdefault("PYTHONPYCACHEPREFIX", str(bytecode))
    path = os.pathsep.join([str(HERE / "inject"), str(HERE.parents[1]), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return kept | {"PYTHONPATH": path, "FITS_LEDGER": str(ledger)}


def setbacks(events: Sequence[Event]) -> list[int]:
    """How many epochs were begun a second time, at each place where a fit went back."""
    found, last = [], dict[tuple[Any, int], int]()
    for event in events:
        if event["ev"] == "epoch":
            fit = (event["trial"], event["seed"])
            if event["epoch"] <= last.get(fit, 0):
                found.append(last[fit] - event["epoch"] + 1)
            last[fit] = event["epoch"]
    return found


def setbacks_s(events: Sequence[Event]) -> list[tuple[float, float]]:
    """Seconds of work that were done a second time, at each place where a fit went back; for ledgers with steps.

    Beside each the longest time between two notes of that fit's: so much more may be lost than the last note tells.
    """
    found, notes = [], dict[tuple[Any, int], list[tuple[tuple[int, int], float]]]()
    for event in events:
        if event["ev"] == "done":
            continue
        fit, place = (event["trial"], event["seed"]), (event["epoch"], event["step"])
        noted = notes.setdefault(fit, [])
        if event["ev"] == "epoch" and noted and place <= noted[-1][0]:
            reached_s = next(moment for where, moment in noted if where >= place)
            gaps = [later - sooner for (_, sooner), (_, later) in itertools.pairwise(noted)]
            found.append((noted[-1][1] - reached_s, max(gaps, default=0.0)))
            noted.clear()
        noted.append((place, event["t"]))
    return found


def again(events: Sequence[Event]) -> int:
    """Fits that were begun once more after their result was durable."""
    done: set[tuple[Any, int]] = set()
    found: set[tuple[Any, int]] = set()
    for event in events:
        fit = (event["trial"], event["seed"])
        if event["ev"] == "done":
            done.add(fit)
        elif fit in done:
            found.add(fit)
    return len(found)


@dataclass
class Tally:
    """What a sweep, or all sweeps of a storm together, came to. `setbacks` has one entry per place."""

    asked: int = 0
    ended: int = 0
    lost: int = 0
    again: int = 0
    zombies: int = 0
    beyond: int = 0
    duplicates: int = 0
    orphans: int = 0
    disagreements: int = 0
    epochs: int = 0
    epochs_needed: int = 0
    setbacks: list[int] = field(default_factory=list)
    setbacks_s: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        mine, others = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + others[name] for name in mine})

    @property
    def good(self) -> bool:
        """Every promise was kept."""
        return not self.said and self.ended == self.asked and max(self.setbacks, default=0) <= 1


def of_sweeper(
    folder: Path,
    ledger: Path,
    *,
    study: str | None,
    record: str | None,
    asked: int,
    seeds: int,
    faults: int,
    every_s: float | None = None,
) -> Tally:
    """The audit of a sweep of ours. `study` and `record` are the databases' URLs, None those beside the sweep.

    `every_s`: of long epochs, whose steps are noted, no more than this and a step or two may be done again.
    """
    events = audits.read(ledger)
    url = study or f"sqlite:///{folder / 'study.db'}"
    record = record or f"sqlite:///{folder.parent / 'mlflow.db'}"
    found = audits.audit(
        folder, ledger, budget=asked, seeds=range(seeds), interruptions=faults, study=url, record=record
    )
    states = [trial["state"] for trial in audits._trials(url, folder.name).values()]
    failed = [f"lost: {states.count('FAIL')} trials failed though nothing was wrong with them"] * ("FAIL" in states)
    back_s = setbacks_s(events) if every_s else []
    late = [f"setbacks: {lost:.1f} s were done again" for lost, gap in back_s if lost > (every_s or 0.0) + 2 * gap]
    return Tally(
        asked=asked,
        ended=sum(state in audits.ENDED for state in states),
        lost=len(found.lost) + states.count("FAIL") + max(0, asked - len(states)),
        again=len(found.again),
        zombies=len(found.zombies),
        beyond=max(0, len(states) - asked),
        duplicates=len(found.duplicates),
        orphans=len(found.orphans),
        disagreements=len(found.disagreements),
        epochs=sum(event["ev"] == "epoch" for event in events),
        setbacks=setbacks(events),
        setbacks_s=[lost for lost, _ in back_s],
        said=found.faults + failed + late,
    )


def of_stock(folder: Path, ledger: Path, *, asked: int) -> Tally:
    """The audit of a stock sweep, by the same words: Optuna's database, MLflow's, and the ledger."""
    events = audits.read(ledger)
    states = [row.state for row in _rows(folder / "study.db", "select state from trials")]
    runs = list(_rows(folder / "mlflow.db", "select name, status from runs where lifecycle_stage = 'active'"))
    names = Counter(run.name for run in runs)
    ended = sum(state in audits.ENDED for state in states)
    complete = states.count("COMPLETE")
    return Tally(
        asked=asked,
        ended=ended,
        lost=max(0, asked - complete),
        again=again(events),
        zombies=len(states) - ended,
        beyond=max(0, len(states) - asked),
        duplicates=sum(names.values()) - len(names),
        orphans=sum(run.status == "RUNNING" for run in runs),
        epochs=sum(event["ev"] == "epoch" for event in events),
        setbacks=setbacks(events),
        said=[f"{complete} of {asked} trials complete, {len(states)} in the study, {len(runs)} runs"],
    )


def _rows(database: Path, query: str) -> list[Any]:
    """What the query gives; nothing where the sweep was lost before it made its tables."""
    engine = sa.create_engine(f"sqlite:///{database}")
    try:
        with engine.connect() as connection:
            return list(connection.execute(sa.text(query)))
    except sa.exc.OperationalError:
        return []
    finally:
        engine.dispose()
