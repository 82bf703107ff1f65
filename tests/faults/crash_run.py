"""Kill a tiny sweep at each of its durable acts, resume it, and hold every store against the ledger.

    python -m tests.faults.crash_run FOLDER [some]

writes one JSON line per case to FOLDER/verdicts-*.jsonl; with `some` for the first, the last and a few between of
each kind. A program of its own, since it forks: a child for each life of a sweep, from a process that has no
threads and has paid all imports.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import alembic.script.base

from sweeper.record import store
from sweeper.state import lease as leases
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny
from tests.faults.audit import audit, trained, watch
from tests.faults.crashes import EXIT, Points, install
from tests.faults.lives import HANGS, LIVES, TRIALS, hanging, run, steps_again
from tests.faults.portraits import asked, differences, portrait

SEED = 7
SAMPLES = 12  # of cases with a second death
LEASE_S = 2.0  # of a driver that is frozen


@dataclass(frozen=True)
class Case:
    """One death (or two) in one life of a sweep. `when` is 'before' (the process dies) or 'after' (the power goes)."""

    life: str
    name: str
    number: int
    when: str
    again: int | None = None


@dataclass
class Verdict:
    """What came of a case."""

    case: Case
    exits: list[int]
    faults: list[str]
    counts: dict[str, float] = field(default_factory=dict)


ENDS = ("result.json", "commit of study.db", "removal of checkpoint")  # between a trial's last epoch and its tell
ASKED = ("trying", "narrowing", "tried", "tried again")
NEAR = 5  # acts on either side of the one that ends a request: its trial is proposed
OF_REQUEST = [("request", "after"), ("removal of request", "before")]
OWN = {"failing": ENDS, "stopping": ENDS, "long": ("checkpoint", "removal of checkpoint")}  # the rest is as in a run


def main(folder: Path, *, some: bool) -> None:
    """All cases, or some of each kind, on as many processes as there are cores."""
    store.opened(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    tiny.make_tiny()
    _remember_scripts()
    _born(folder, "warm", run)  # in this very process: its children need not warm up again
    gc.collect()
    gc.freeze()
    whole = {name: _unbroken(folder, name) for name in LIVES}
    cases = [case for name in LIVES for case in _cases(name, (folder / name / "trail").read_text().splitlines())]
    cases = [*(_some(cases) if some else cases), *_second_deaths(cases)[: 4 if some else SAMPLES]]
    with (folder / "verdicts-hangs.jsonl").open("w") as file:
        for name, hang in HANGS.items():
            file.write(json.dumps(asdict(_hang(folder, name, hang))) + "\n")
        file.write(json.dumps(asdict(_freeze(folder, whole["run"]))) + "\n")
    workers = min(os.cpu_count() or 1, 4)
    for number in range(workers):
        if os.fork() == 0:
            with (folder / f"verdicts-{number}.jsonl").open("w") as file:
                for index in range(number, len(cases), workers):
                    verdict = _try(folder, f"{index:04d}", cases[index], whole[cases[index].life])
                    file.write(json.dumps(asdict(verdict)) + "\n")
                    file.flush()
            os._exit(0)
    for _ in range(workers):
        os.wait()


# --- the cases


def _cases(life: str, names: list[str]) -> list[Case]:
    """A death before each durable act, and a power cut after each that is a file's."""
    cases = []
    for number, name in enumerate(names):
        cases.append(Case(life, name, number, "before"))
        if "commit" not in name:  # after a commit is before the next act: a database keeps what it has committed
            cases.append(Case(life, name, number, "after"))
    if life == "run":
        return cases
    if life in ASKED:
        own = [case for case in cases if case.number >= names.index("request")]
        return [case for case in own if case.when == "before" or case.name.endswith("request")]  # the rest: as in a run
    if life in OWN:
        return [case for case in cases if case.name in OWN[life]]
    own = {"paused": "stop", "extended": "spec.yaml"}[life]  # the rest is as in a run
    return [case for case in cases if case.name == own] + random.Random(SEED).sample(cases, 3)


def _some(cases: list[Case]) -> list[Case]:
    """Of deaths that have a kind of act, a moment and a life in common: the first, the last, of runs each eighth.

    Where something is asked of the sweep: once that is written, and each second act of its being taken up.
    """
    alike: dict[tuple[str, str, str], list[Case]] = {}
    ends = {case.life: case.number for case in cases if case.name == "removal of request"}
    for case in cases:
        if case.life not in ASKED or _of_request(case, ends[case.life]):
            alike.setdefault((case.life, case.name, case.when), []).append(case)
    steps = {"run": 8} | dict.fromkeys(ASKED, 2) | {"narrowing": 3, "tried again": 4}
    chosen = [[*own[:: steps.get(life, len(own))], own[-1]] for (life, *_), own in alike.items()]
    return [case for own in chosen for case in dict.fromkeys(own)]


def _of_request(case: Case, end: int) -> bool:
    """`end` is the act that ends the request."""
    if case.name == "commit of study.db":
        return abs(case.number - end) <= NEAR
    return case.life != "tried again" and (case.name, case.when) in OF_REQUEST


def _second_deaths(cases: list[Case]) -> list[Case]:
    chance = random.Random(SEED)
    first = chance.sample([case for case in cases if case.life == "run"], SAMPLES)
    return [replace(case, again=chance.randrange(40)) for case in first]


# --- one case


def _born(folder: Path, name: str, life: Callable[[Path], int], points: Points | None = None) -> int:
    root = folder / name
    root.mkdir(exist_ok=True)
    if not (root / "mlflow.db").exists():
        shutil.copy(folder / "mlflow.db", root / "mlflow.db")
    if points is not None:
        install(points)
    watch(root / "ledger.jsonl")
    return life(root)


def _live(folder: Path, name: str, life: Callable[[Path], int], points: Points | None = None) -> int:
    """A life in a child of this process."""
    gc.disable()
    return tiny.forked(lambda: _born(folder, name, life, points), folder / f"{name}.log")


def _unbroken(folder: Path, name: str) -> dict[str, Any]:
    life = LIVES[name]
    if life.before is not None:
        _live(folder, name, life.before)
    points = Points(folder / name / tiny.NAME, trail=folder / name / "trail")
    code = _live(folder, name, life.live, points)
    if name == "paused":
        assert code == 130, (folder / f"{name}.log").read_text()
        code = _live(folder, name, _resume)
    assert code == life.code, (folder / f"{name}.log").read_text()
    return _seen(folder / name)


def _seen(root: Path) -> dict[str, Any]:
    return portrait(root, tiny.NAME) | asked(root / tiny.NAME) | {"trained": trained(root / "ledger.jsonl")}


def _resume(root: Path) -> int:
    """What a person does: resume, or run again where nothing was begun. A larger budget is typed again."""
    return tiny.go_on(root).exit_code if SweepFolder(root / tiny.NAME).exists else run(root)


def _try(folder: Path, name: str, case: Case, whole: Mapping[str, Any]) -> Verdict:
    life, root = LIVES[case.life], folder / name
    if life.before is not None:
        _live(folder, name, life.before)
    deaths = {f"die_{case.when}": case.number}
    exits = [_live(folder, name, life.live, Points(root / tiny.NAME, **deaths))]
    if case.again is not None:
        exits.append(_live(folder, name, _resume, Points(root / tiny.NAME, die_before=case.again)))
    exits.append(_live(folder, name, life.after or _resume))
    found = audit(
        root / tiny.NAME, root / "ledger.jsonl", budget=life.trials, seeds=tiny.SEEDS, interruptions=len(exits)
    )
    faults = found.faults + differences(whole, _seen(root))
    if (steps := steps_again(root)) > len(exits) - 1:
        faults.append(f"{steps} steps were trained again after {len(exits) - 1} deaths")
    if exits[0] != EXIT:
        faults.append(f"it did not die where it should have: exit {exits[0]}")
    if exits[-1] != life.code:
        faults.append(f"resume ended with exit code {exits[-1]}: " + (folder / f"{name}.log").read_text()[-3000:])
    if not faults:
        shutil.rmtree(root)
    return Verdict(case, exits, faults, found.counts())


def _hang(folder: Path, name: str, hang: Callable[[], None]) -> Verdict:
    """The process ends by itself, and the next one tells the trial as timed out and goes on with the others."""
    exits = [_live(folder, name, hanging(hang)), _live(folder, name, _resume)]
    root = folder / name
    found = audit(root / tiny.NAME, root / "ledger.jsonl", budget=TRIALS, seeds=tiny.SEEDS, interruptions=1)
    reason = (root / tiny.NAME / "trials.csv").read_text().splitlines()[1]
    faults = found.faults + ([] if "seed 0: timed-out: epoch 2 took longer than" in reason else [reason])
    return Verdict(Case("hang", name, 0, "before"), exits, faults, found.counts())


def frozen(root: Path) -> int:
    """A sweep whose driver is stopped in its third epoch, for longer than its lease."""
    leases.TTL_S, leases.RENEW_S = LEASE_S, LEASE_S / 5
    epochs = iter(range(100))
    train = tiny.Tiny.train_epoch

    def stopped(self: Any) -> dict[str, float]:
        if next(epochs) == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        return train(self)

    tiny.Tiny.train_epoch = stopped  # type: ignore[method-assign]
    return run(root)


def _freeze(folder: Path, whole: Mapping[str, Any]) -> Verdict:
    """The lease of a frozen driver runs out, another one ends the sweep, and what thaws is refused everywhere."""
    name, root = "frozen", folder / "frozen"
    child = tiny.begun(lambda: _born(folder, name, frozen), folder / f"{name}.log")
    os.waitpid(child, os.WUNTRACED)
    refused = _live(folder, name, _resume)
    time.sleep(LEASE_S)
    ended = _live(folder, name, _resume)
    os.kill(child, signal.SIGCONT)
    thawed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = audit(root / tiny.NAME, root / "ledger.jsonl", budget=TRIALS, seeds=tiny.SEEDS, interruptions=1)
    faults = found.faults + differences(whole, _seen(root) | {"trained": whole["trained"]})
    return Verdict(Case("frozen", name, 0, "before"), [refused, ended, thawed], faults, found.counts())


def _remember_scripts() -> None:
    """Alembic reads every migration script anew each time somebody opens a database; once is enough here."""
    directory = alembic.script.base.ScriptDirectory
    read = functools.cache(lambda place: directory(place))
    directory.from_config = classmethod(lambda cls, config: read(config.get_main_option("script_location")))  # type: ignore


if __name__ == "__main__":
    main(Path(sys.argv[1]), some="some" in sys.argv[2:])
