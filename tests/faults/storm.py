"""SIGKILL at random instants, of real sweeps on real Ray, until so many were made; then the audit, as a table.

    python -m tests.faults.storm --kills 200 --seed 7 --root DIR [--arm sweeper|stock] [--stores sqlite|postgresql]

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

WEIGHTS = {"driver": 8, "actor": 9, "raylet": 2, "gcs": 1}
EARLY, EARLY_S, WORK_S = 0.25, 12.0, 3.0  # a quarter strikes a start, the rest comes after a sign of work
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

    def take(self, pid: int, **said: object) -> bool:
        """Kill, write it down and count it; False where there is nothing to kill, or none left to make."""
        with self.lock:
            if self.left == 0 or not killing.kill(pid):
                return False
            self.left -= 1
            with self.path.open("a") as file:
                file.write(json.dumps(said | {"pid": pid, "t": time.time()}) + "\n")
            return True


class Blow:
    """One kill to come: whom, and when after `armed_s`, which is the start of something, or a sign of work."""

    def __init__(self, random: Random) -> None:
        self.kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.early = random.random() < EARLY
        self.after_s = random.uniform(0.0, EARLY_S if self.early else WORK_S)
        self.armed_s: float | None = None

    def due(self, now: float) -> bool:
        """It is time."""
        return self.armed_s is not None and now >= self.armed_s + self.after_s


class Lane:
    """One sweep after the other, each through the storm to its end."""

    def __init__(
        self, arm: Arm, kills: Kills, folder: Path, *, seed: int, bytecode: Path, patience_s: float = PATIENCE_S
    ) -> None:
        self._arm, self._kills, self._folder, self._seed, self._bytecode = arm, kills, folder, seed, bytecode
        self._patience_s = patience_s
        self._gone: dict[int, float] = {}  # sessions whose driver has ended, and when
        folder.mkdir(parents=True, exist_ok=True)

    def play(self, number: int) -> Sweep:
        """The sweep of that number."""
        random = Random(f"{self._seed}/{self._arm.name}/{number}")
        case = Case(number, slots=random.choice((1, 2)), lane=self._folder)
        sweep, began, stumbles, code = Sweep(number, epochs_needed=self._arm.epochs_needed), time.monotonic(), 0, 1
        while code != 0 and stumbles < STUMBLES:
            before = (sweep.struck, self._size(case))
            code = self._attempt(case, sweep, random)
            stumbles = stumbles + 1 if before == (sweep.struck, self._size(case)) else 0
        self._clean(at_once=True)
        sweep.wall_s, sweep.gave_up = time.monotonic() - began, int(code != 0)
        sweep.tally = self._arm.audit(case, sweep.struck)
        sweep.silent = int(code == 0 and sweep.tally.lost > 0)
        return sweep

    def _attempt(self, case: Case, sweep: Sweep, random: Random) -> int:
        """From the operator's command to the end of its process; the exit code."""
        sweep.attempts += 1
        with (self._folder / f"{case.name}.log").open("ab") as log:
            driver = subprocess.Popen(
                self._arm.command(case),
                env=environment(case.ledger, self._bytecode),
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
        blow: Blow | None = Blow(random)
        while driver.poll() is None:
            time.sleep(POLL_S)
            self._clean()
            now = time.monotonic()
            grown = self._size(case) > size
            if grown:
                size, sign_s = self._size(case), now
                sweep.starts_s += [now - began] * fresh
                fresh = False
            if blow is not None:
                self._arm_blow(blow, driver, began, now, grown=grown)
                if blow.due(now) and self._strike(blow, driver, sweep, random):
                    blow = Blow(random) if blow.kind == "actor" else None
            if now - sign_s > self._patience_s:
                sweep.hangs += 1
                driver.kill()
                driver.wait()

    def _arm_blow(self, blow: Blow, driver: subprocess.Popen[bytes], began: float, now: float, *, grown: bool) -> None:
        if blow.armed_s is not None:
            return
        if not blow.early:
            blow.armed_s = now if grown else None
        elif blow.kind != "actor":
            blow.armed_s = began
        elif killing.victims(driver, "actor"):
            blow.armed_s = now

    def _strike(self, blow: Blow, driver: subprocess.Popen[bytes], sweep: Sweep, random: Random) -> bool:
        """Whether there was somebody to be struck; if not, the next turn finds him."""
        found = killing.victims(driver, blow.kind)
        said = {"sweep": sweep.number, "attempt": sweep.attempts, "kind": blow.kind, "early": blow.early}
        if not found or not self._kills.take(random.choice(found), after_s=blow.after_s, **said):
            return False
        sweep.kills = dict(Counter(sweep.kills) + Counter([blow.kind]))
        return True

    def _size(self, case: Case) -> int:
        return case.ledger.stat().st_size if case.ledger.exists() else 0

    def _clean(self, *, at_once: bool = False) -> None:
        """A dead driver's Ray ends by itself, but for its agents, which take a minute."""
        for session, since in list(self._gone.items()):
            if at_once or time.monotonic() - since > LEFT_BEHIND_S:
                killing.end(session)
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
        yield {"sweeper": arms.sweeper(), "stock": arms.stock()}
        return
    from tests.faults.postgres import serving

    with serving() as server:
        yield {"sweeper": arms.sweeper(study=server.url("study"), record=server.url("record"))}


def main() -> int:
    """Run the storms that are asked for, and print and write the table; 1 where a sweep of ours broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stock-kills", type=int, default=40, help="of the stock design, where both are asked for")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--arm", choices=("sweeper", "stock", "both"), default="sweeper")
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
            name = f"{arm.name}-{asked.stores}"
            how = {"seed": asked.seed, "lanes": asked.lanes, "patience_s": asked.patience_s}
            found[name] = storm(arm, asked.root / name, kills=kills, **how)
    text = f"Seed {asked.seed}, {asked.lanes} lanes.\n\n{tables.table(found)}"
    (asked.root / "table.md").write_text(text)
    print(text)
    ours = [sweep for name, sweeps in found.items() if name.startswith("sweeper") for sweep in sweeps]
    return 0 if all(sweep.survived and sweep.tally.good for sweep in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
