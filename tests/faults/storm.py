"""SIGKILL at random instants, of real sweeps on real Ray, until so many were made; then the audit, as a table.

    python -m tests.faults.storm --kills 200 --seed 7 --root DIR [--arm sweeper|long|stock] [--stores sqlite|postgresql]

Two lanes work side by side, each with one sweep at a time: `run`, then `resume` after whatever ended an attempt,
until the sweep says that it is done; then its stores are audited against the ledger and the next sweep begins.
Killed are the driver, an actor, the raylet and the head (GCS) of that very sweep, by their process ids. What is
drawn at random (whom, when) comes from the seed, the arm and the sweep's number. What a finished sweep came to is a
line of DIR/ARM-STORES/sweeps.jsonl: a storm that was itself interrupted goes on there when it is typed again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults import arms, killing
from tests.faults import table as tables
from tests.faults.arms import Arm, Case
from tests.faults.ledger import environment
from tests.faults.table import Sweep

# What may happen: to whom, and which signal. Who is stopped goes on after a while.
STRIKES = {kind: (kind, signal.SIGKILL) for kind in arms.KILLS} | {
    "TERM": ("driver", signal.SIGTERM),
    "HUP": ("driver", signal.SIGHUP),
    "INT": ("driver", signal.SIGINT),
    "frozen driver": ("driver", signal.SIGSTOP),
    "frozen actor": ("actor", signal.SIGSTOP),
}
OUTLIVED = ("actor", "frozen driver", "frozen actor")
FROZEN_S = 8.0
EARLY, EARLY_S = 0.25, 12.0  # a quarter strikes a start, the rest comes after a sign of work
PATIENCE_S = 180.0  # without a sign of work: it hangs, and the operator ends it
STUMBLES = 3  # attempts that end by themselves, and bring nothing
LEFT_BEHIND_S = 5.0  # what a dead driver's Ray still is after this is ended by its number
POLL_S = 0.05


@dataclass
class Kills:
    """How many are still to be made, by all lanes together, and where each is written down."""

    left: int
    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, pid: int, number: int, **said: object) -> bool:
        """Send it, write it down and count it; False where there is nobody to be struck, or none left to make."""
        with self.lock:
            if self.left == 0 or not killing.send(pid, number):
                return False
            self.left -= 1
            with self.path.open("a") as file:
                file.write(json.dumps(said | {"pid": pid, "t": time.time()}) + "\n")
            return True


class Blow:
    """One kill to come: whom, and when after `armed_s`, which is the start of something, or a sign of work."""

    def __init__(self, random: Random, arm: Arm) -> None:
        self.kind = random.choices(list(arm.strikes), list(arm.strikes.values()))[0]
        self.whom, self.signal = STRIKES[self.kind]
        self.early = random.random() < EARLY
        self.after_s = random.uniform(0.0, EARLY_S if self.early else arm.work_s)
        self.armed_s: float | None = None

    def due(self, now: float) -> bool:
        """It is time."""
        return self.armed_s is not None and now >= self.armed_s + self.after_s


class Lane:
    """One sweep after the other, each through the storm to its end."""

    def __init__(
        self,
        arm: Arm,
        kills: Kills,
        folder: Path,
        *,
        seed: int,
        bytecode: Path,
        patience_s: float = PATIENCE_S,
        left_behind_s: float = LEFT_BEHIND_S,
    ) -> None:
        self._arm, self._kills, self._folder, self._seed, self._bytecode = arm, kills, folder, seed, bytecode
        self._patience_s, self._left_behind_s = patience_s, left_behind_s
        self.driver: subprocess.Popen[bytes] | None = None  # of the attempt that runs, for whoever looks on
        self._frozen: list[tuple[float, int]] = []  # until when, and who
        self._gone: dict[int, float] = {}  # sessions whose driver has ended, and when
        folder.mkdir(parents=True, exist_ok=True)

    def play(self, number: int) -> Sweep:
        """The sweep of that number."""
        random = Random(f"{self._seed}/{self._arm.name}/{number}")
        case = Case(number, slots=random.choice(self._arm.slots), lane=self._folder)
        sweep, began, stumbles, code = Sweep(number, epochs_needed=self._arm.epochs_needed), time.monotonic(), 0, 1
        while code != 0 and stumbles < STUMBLES:
            before = (sweep.struck, self._size(case))
            code = self._attempt(case, sweep, random)
            stumbles = stumbles + 1 if before == (sweep.struck, self._size(case)) else 0
        sweep.wall_s, sweep.gave_up = time.monotonic() - began, int(code != 0)
        while self._gone:
            self._clean(sweep, ended=True)
            self._thaw(time.monotonic())
            time.sleep(1.0)
        sweep.tally = self._arm.audit(case, sweep.struck)
        sweep.silent = int(code == 0 and sweep.tally.lost > 0)
        return sweep

    def _attempt(self, case: Case, sweep: Sweep, random: Random) -> int:
        """From the operator's command to the end of its process; the exit code."""
        sweep.attempts += 1
        with (self._folder / f"{case.name}.log").open("ab") as log:
            driver = self.driver = subprocess.Popen(
                self._arm.command(case),
                env=environment(case.ledger, self._bytecode) | dict(self._arm.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._watch(driver, case, sweep, random)
            return driver.wait()
        finally:
            if driver.poll() is None:  # the storm itself was stopped
                driver.kill()
            self._gone[driver.pid] = time.monotonic()

    def _watch(self, driver: subprocess.Popen[bytes], case: Case, sweep: Sweep, random: Random) -> None:
        """Strike, until the attempt has ended."""
        began = sign_s = time.monotonic()
        size, fresh = self._size(case), True
        blow: Blow | None = Blow(random, self._arm)
        while driver.poll() is None:
            time.sleep(POLL_S)
            self._clean(sweep)
            now = time.monotonic()
            self._thaw(now)
            grown = self._size(case) > size
            if grown:
                size, sign_s = self._size(case), now
                sweep.starts_s += [now - began] * fresh
                fresh = False
            if blow is not None:
                self._arm_blow(blow, driver, began, now, grown=grown)
                if blow.due(now) and self._strike(blow, driver, sweep, random):
                    blow = Blow(random, self._arm) if blow.kind in OUTLIVED else None
            if now - sign_s > self._patience_s:
                sweep.hangs += 1
                driver.kill()
                driver.wait()

    def _arm_blow(self, blow: Blow, driver: subprocess.Popen[bytes], began: float, now: float, *, grown: bool) -> None:
        if blow.armed_s is not None:
            return
        if not blow.early:
            blow.armed_s = now if grown else None
        elif blow.whom != "actor":
            blow.armed_s = began
        elif killing.victims(driver, "actor"):
            blow.armed_s = now

    def _strike(self, blow: Blow, driver: subprocess.Popen[bytes], sweep: Sweep, random: Random) -> bool:
        """Whether there was somebody to be struck; if not, the next turn finds him."""
        found = killing.victims(driver, blow.whom)
        said = {"sweep": sweep.number, "attempt": sweep.attempts, "kind": blow.kind, "early": blow.early}
        struck = random.choice(found) if found else 0
        if not found or not self._kills.take(struck, blow.signal, after_s=blow.after_s, **said):
            return False
        if blow.signal == signal.SIGSTOP:
            self._frozen.append((time.monotonic() + FROZEN_S, struck))
        sweep.kills = dict(Counter(sweep.kills) + Counter([blow.kind]))
        return True

    def _size(self, case: Case) -> int:
        return case.ledger.stat().st_size if case.ledger.exists() else 0

    def _thaw(self, now: float) -> None:
        for until_s, pid in self._frozen:
            if now >= until_s:
                killing.send(pid, signal.SIGCONT)
        self._frozen = [(until_s, pid) for until_s, pid in self._frozen if now < until_s]

    def _clean(self, sweep: Sweep, *, ended: bool = False) -> None:
        """A dead driver's Ray ends by itself, but for its agents, which take a minute. Who does not, is counted."""
        for session, since in list(self._gone.items()):
            if time.monotonic() - since > self._left_behind_s or (ended and not killing.members(session)):
                sweep.left_behind += killing.end(session)
                del self._gone[session]


def storm(arm: Arm, folder: Path, *, kills: int, seed: int, lanes: int, patience_s: float = PATIENCE_S) -> list[Sweep]:
    """Every sweep of a storm, those that an earlier call finished included."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "sweeps.jsonl"
    finished = tables.read(done)
    left = Kills(max(0, kills - sum(sweep.struck for sweep in finished)), folder / "kills.jsonl")
    numbers = itertools.count(max((sweep.number for sweep in finished), default=-1) + 1)
    lock = threading.Lock()

    def work(lane: int) -> None:
        place = folder / f"lane-{lane}-{next(numbers):03d}"  # a new one: what an interrupted storm left is not read
        worker = Lane(arm, left, place, seed=seed, bytecode=folder.parent / "bytecode", patience_s=patience_s)
        while left.left:
            sweep = worker.play(next(numbers))
            with lock:
                tables.write(done, sweep)
                print(
                    f"{arm.name} sweep {sweep.number}: {sweep.kills}, {sweep.wall_s:.0f} s, {left.left} left",
                    flush=True,
                )
                for said in sweep.tally.said:
                    print(f"  {said}", flush=True)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(work, range(lanes)))
    return tables.read(done)


@contextlib.contextmanager
def _arms(asked: argparse.Namespace) -> Iterator[dict[str, Arm]]:
    """What is asked for, with the stores that it needs running."""
    if asked.stores == "sqlite":
        yield {"sweeper": arms.sweeper(), "long": arms.long(), "stock": arms.stock()}
        return
    from tests.faults.postgres import serving

    with serving() as server:
        urls = {"study": server.url("study"), "record": server.url("record")}
        yield {"sweeper": arms.sweeper(**urls), "long": arms.long(**urls)}


def main() -> int:
    """Run the storms that are asked for, and print and write the table; 1 where a sweep of ours broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stock-kills", type=int, default=40, help="of the stock design, where both are asked for")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--arm", choices=("sweeper", "long", "stock", "both"), default="sweeper")
    parser.add_argument("--stores", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--patience-s", type=float, default=PATIENCE_S, help="without a sign of work: it hangs")
    parser.add_argument("--fresh", action="store_true", help="forget what an interrupted storm has done")
    asked = parser.parse_args()
    asked.root = asked.root.resolve()
    if asked.fresh:
        shutil.rmtree(asked.root, ignore_errors=True)
    asked.root.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Sweep]] = {}
    with _arms(asked) as able:
        for arm in (able[name] for name in (("sweeper", "stock") if asked.arm == "both" else (asked.arm,))):
            kills = asked.stock_kills if asked.arm == "both" and arm.name == "stock" else asked.kills
            name = f"{'long' if asked.arm == 'long' else arm.name}-{asked.stores}"
            how = {"seed": asked.seed, "lanes": asked.lanes, "patience_s": asked.patience_s}
            found[name] = storm(arm, asked.root / name, kills=kills, **how)
    text = f"Seed {asked.seed}, {asked.lanes} lanes.\n\n{tables.table(found)}"
    (asked.root / "table.md").write_text(text)
    print(text)
    ours = [sweep for name, sweeps in found.items() if not name.startswith("stock") for sweep in sweeps]
    return 0 if all(sweep.survived and sweep.tally.good for sweep in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
