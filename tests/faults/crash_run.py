"""Kill a tiny sweep at each of its durable acts, resume it, and hold every store against the ledger.

    python -m tests.faults.crash_run FOLDER [some]

writes one JSON line per case to FOLDER/verdicts-*.jsonl; with `some` for the first, the last and a few between of
each kind. A program of its own, since it forks: a child for each life of a sweep, from a process that has no
threads and has paid all imports.
"""

from __future__ import annotations

import ctypes
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
import torch

from sweeper.record import store
from sweeper.state import lease as leases
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny
from tests.faults.audit import audit, trained, watch
from tests.faults.crashes import EXIT, Points, install
from tests.faults.portraits import differences, portrait
from trainables.errors import FitError

TRIALS, MORE, SEED = 3, 4, 7
SAMPLES = 12  # of cases with a second death
LIMIT_S = 0.5  # of an epoch, where one hangs
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


def run(root: Path) -> int:
    """A sweep from its beginning."""
    return tiny.begin(root, trials=TRIALS).exit_code


def paused(root: Path) -> int:
    """A sweep that is interrupted in its third epoch."""
    epochs = iter(range(100))
    train = tiny.Tiny.train_epoch

    def interrupted(self: Any) -> dict[str, float]:
        if next(epochs) == 2:
            signal.raise_signal(signal.SIGINT)
        return train(self)

    tiny.Tiny.train_epoch = interrupted  # type: ignore[method-assign]
    return tiny.begin(root, trials=TRIALS).exit_code


def failing(root: Path) -> int:
    """A sweep, begun or gone on with, whose trial of rank 4 diverges in its second epoch."""

    def diverges(fit: Any) -> None:
        if fit.epoch == 1:
            raise FitError("diverged", "the loss is not finite")

    return _with_one(4, diverges, root)


def stopping(root: Path) -> int:
    """A sweep, begun or gone on with, that stops its trial of rank 16 early: it is worse than the others."""

    def falls_behind(fit: Any) -> None:
        fit._weight_2 = fit._weight_2 + torch.tensor([5.0, 0.0])

    return _with_one(16, falls_behind, root, search=", stopping: {first: 1, factor: 2}")


def _with_one(rank: int, does: Callable[[Any], None], root: Path, **options: Any) -> int:
    train = tiny.Tiny.train_epoch

    def epoch(self: Any) -> dict[str, float]:
        if self._params.method != "lora" and self._params.to_flat()["rank"] == rank:
            does(self)
        return train(self)

    tiny.Tiny.train_epoch = epoch  # type: ignore[method-assign]
    begun = SweepFolder(root / tiny.NAME).exists
    return (tiny.go_on(root) if begun else tiny.begin(root, trials=TRIALS, **options)).exit_code


def long(root: Path) -> int:
    """A sweep, begun or gone on with, whose epochs are long: each step between two is kept, and noted as it begins."""

    def stepped(params: Any, *place: int) -> None:
        with (root / "steps").open("a") as file:
            file.write(f"{params.to_flat()} {place}\n")

    tiny.make_tiny(tuning=tiny.Long)
    tiny.Long.stepped = staticmethod(stepped)
    begun = SweepFolder(root / tiny.NAME).exists
    return (tiny.go_on(root) if begun else tiny.begin(root, trials=TRIALS, more=tiny.EACH_STEP)).exit_code


def steps_again(root: Path) -> int:
    """How many steps were begun more than once."""
    begun = (root / "steps").read_text().splitlines() if (root / "steps").exists() else []
    return len(begun) - len(set(begun))


def extended(root: Path) -> int:
    """A finished sweep that is given a larger budget."""
    return tiny.go_on(root, trials=MORE).exit_code


@dataclass(frozen=True)
class Life:
    """What is lived, what came before it, what comes after a death, and what there is at its end."""

    live: Callable[[Path], int]
    trials: int = TRIALS
    before: Callable[[Path], int] | None = None
    after: Callable[[Path], int] | None = None  # None: resumed
    code: int = 0


def sleeps() -> None:
    """A hang that other threads survive."""
    time.sleep(600)


def holds_the_lock() -> None:
    """A hang that no thread of Python survives: C code that never gives the interpreter's lock back."""
    ctypes.PyDLL(None).sleep(600)


def hanging(hang: Callable[[], None]) -> Callable[[Path], int]:
    """A sweep whose baseline hangs in its second epoch."""

    def live(root: Path) -> int:
        train = tiny.Tiny.train_epoch

        def epoch(self: Any) -> dict[str, float]:
            if self._params.method == "lora" and self.epoch == 1:
                hang()
            return train(self)

        tiny.Tiny.train_epoch = epoch  # type: ignore[method-assign]
        return tiny.begin(root, trials=TRIALS, more=f"resources: {{epoch_timeout_s: {LIMIT_S}}}\n").exit_code

    return live


HANGS = {"sleeps": sleeps, "holds the lock": holds_the_lock}
LIVES = {
    "run": Life(run),
    "paused": Life(paused),
    "extended": Life(extended, MORE, before=run, after=extended),
    "failing": Life(failing, after=failing, code=1),
    "stopping": Life(stopping, after=stopping),
    "long": Life(long, after=long),
}
ENDS = ("result.json", "commit of study.db", "removal of checkpoint")  # between a trial's last epoch and its tell
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
    if life in OWN:
        return [case for case in cases if case.name in OWN[life]]
    own = {"paused": "stop", "extended": "spec.yaml"}[life]  # the rest is as in a run
    return [case for case in cases if case.name == own] + random.Random(SEED).sample(cases, 3)


def _some(cases: list[Case]) -> list[Case]:
    """Of deaths that have a kind of act, a moment and a life in common: the first, the last, of runs each eighth."""
    alike: dict[tuple[str, str, str], list[Case]] = {}
    for case in cases:
        alike.setdefault((case.life, case.name, case.when), []).append(case)
    chosen = [[*own[:: 8 if life == "run" else len(own)], own[-1]] for (life, *_), own in alike.items()]
    return [case for own in chosen for case in dict.fromkeys(own)]


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
    return portrait(folder / name, tiny.NAME) | {"trained": trained(folder / name / "ledger.jsonl")}


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
    now = portrait(root, tiny.NAME) | {"trained": trained(root / "ledger.jsonl")}
    faults = found.faults + differences(whole, now)
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
    faults = found.faults + differences(whole, portrait(root, tiny.NAME) | {"trained": whole["trained"]})
    return Verdict(Case("frozen", name, 0, "before"), [refused, ended, thawed], faults, found.counts())


def _remember_scripts() -> None:
    """Alembic reads every migration script anew each time somebody opens a database; once is enough here."""
    directory = alembic.script.base.ScriptDirectory
    read = functools.cache(lambda place: directory(place))
    directory.from_config = classmethod(lambda cls, config: read(config.get_main_option("script_location")))  # type: ignore


if __name__ == "__main__":
    main(Path(sys.argv[1]), some="some" in sys.argv[2:])
