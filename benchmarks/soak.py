"""Sweeps under faults for hours: what comes of them, and whether memory, descriptors, threads and disk stay flat.

    python -m benchmarks.soak --hours 8 --root DIR [--stores sqlite postgresql] [--seed 5]

Two lanes of `tests.faults.storm`, on real Ray. In the first, sweeps of short fits and of fits with long epochs come one
after the other, on each kind of store in turn; the driver, an actor, the raylet and the head are killed, the driver
gets TERM, HUP and INT, driver and actor are stopped for a while. Every sweep is audited, and its numbers are held
against those of an unbroken one. In the second lane one driver lives as long as the soak, and only its actors are
struck: what it holds is looked at every few seconds. Training is slowed by sleep, so that a core is enough. Every
finished sweep is a line of DIR/sweeps.jsonl, every look one of DIR/looks.jsonl; the tables are printed, and stand in
DIR/soak.md.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.faults import arms, killing, storm
from tests.faults import table as tables
from tests.faults.arms import Arm, Case
from tests.faults.ledger import environment
from tests.faults.portraits import numbers
from tests.faults.postgres import serving
from tests.faults.table import Sweep

EVERY_S = 10.0  # between two looks
WARM_S = 120.0  # of a driver, that are no part of its slope
LEFT_BEHIND_S = 90.0  # when nothing of a dead driver's may live any more
ALL = dict(arms.KILLS) | {"TERM": 3, "HUP": 3, "INT": 2, "frozen driver": 3, "frozen actor": 3}
SPARED = {"actor": 3, "frozen actor": 2, "frozen driver": 1}  # the driver itself lives on
FIXED = {"sampler": "random", "seed": 5}  # what is proposed depends on nothing that a fault can change
SHAPES: dict[str, dict[str, Any]] = {
    "short": {"trials": 6, "seeds": 1, "epochs": 2, "step_s": 0.1, "every_s": 60.0, "work_s": 20.0},
    "long": {"trials": 2, "seeds": 1, "epochs": 2, "step_s": 1.0, "every_s": 5.0, "work_s": 40.0},
}
CURVES = ("MB", "descriptors", "threads")


@dataclass(frozen=True)
class Soak:
    """What its lanes share."""

    root: Path
    seed: int
    kills: storm.Kills

    @property
    def over(self) -> bool:
        """Its hours are over: nobody is struck any more, and what runs is seen to its end."""
        return self.kills.left == 0

    def end(self) -> None:
        """Strike no more."""
        self.kills.left = 0

    def lane(self, name: str, arm: Arm) -> storm.Lane:
        """One that sees to `arm`."""
        bytecode = self.root / "bytecode"
        how = {"seed": self.seed, "bytecode": bytecode, "patience_s": 600.0, "left_behind_s": LEFT_BEHIND_S}
        return storm.Lane(arm, self.kills, self.root / name, **how)


def unbroken(soak: Soak, shape: str) -> Mapping[str, Any]:
    """What a sweep of that shape comes to where nobody strikes."""
    arm, lane = arms.sweeper(**SHAPES[shape], **FIXED), soak.root / f"unbroken-{shape}"
    case = Case(0, slots=1, lane=lane)
    lane.mkdir(parents=True, exist_ok=True)
    env = environment(case.ledger, soak.root / "bytecode")
    for _ in range(storm.STUMBLES):  # a busy machine does not always start Ray
        with (lane / "log").open("ab") as log:
            if (
                subprocess.run(arm.command(case), env=env, stdout=log, stderr=log, start_new_session=True).returncode
                == 0
            ):
                break
    return numbers(case.folder)


def struck(soak: Soak, whole: Mapping[str, Mapping[str, Any]], stores: Mapping[str, Any], looks: Looks) -> None:
    """The first lane: sweep after sweep, each judged at its end."""
    for number, (shape, store) in enumerate(itertools.cycle(itertools.product(SHAPES, stores))):
        if soak.over:
            return
        arm = arms.sweeper(**SHAPES[shape], **FIXED, **stores[store], strikes=ALL, slots=(1,))
        lane, name = soak.lane(f"struck-{number:03d}", arm), f"{shape}, {store}"
        with looks.of(name, lane):
            sweep = lane.play(number)
        place = soak.root / f"struck-{number:03d}"
        now = numbers(Case(number, 1, place).folder)
        sweep.tally.said += [
            f"{key} differs from the unbroken sweep's" for key in whole[shape] if now.get(key) != whole[shape][key]
        ]
        finished(soak, name, sweep, place)


def spared(soak: Soak, looks: Looks, trials: int) -> None:
    """The second lane: one driver, as long as the soak."""
    arm = arms.sweeper(**SHAPES["short"] | {"trials": trials, "seeds": 1}, **FIXED, strikes=SPARED, slots=(1,))
    lane, name = soak.lane("one-driver", arm), "one driver, sqlite"
    with looks.of(name, lane):
        sweep = lane.play(0)
    finished(soak, name, sweep, soak.root / "one-driver")


def finished(soak: Soak, name: str, sweep: Sweep, place: Path) -> None:
    """Keep what a sweep came to; of one that is good, nothing else."""
    with (soak.root / "sweeps.jsonl").open("a") as file:
        row = (
            {"name": name, "MB": _mb(place / f"storm-{sweep.number:03d}")} | vars(sweep) | {"tally": vars(sweep.tally)}
        )
        file.write(json.dumps(row) + "\n")
    print(f"{name} {sweep.number}: {sweep.kills}, {sweep.wall_s:.0f} s, {sweep.tally.said or 'good'}", flush=True)
    if sweep.survived and sweep.tally.good:
        shutil.rmtree(place)


# --- what it holds


class Looks:
    """Looks at the driver of each lane now and then, and at the disk."""

    def __init__(self, path: Path, disks: Mapping[str, Path]) -> None:
        self._path, self._disks = path, disks
        self._lanes: dict[str, storm.Lane] = {}
        self._began = time.time()

    @contextlib.contextmanager
    def of(self, name: str, lane: storm.Lane) -> Iterator[None]:
        """Inside, the lane's driver is looked at."""
        self._lanes[name] = lane
        try:
            yield
        finally:
            del self._lanes[name]

    def go_on(self, end: threading.Event) -> None:
        """Look, until `end`."""
        while not end.wait(EVERY_S):
            rows = [{"what": f"disk: {name}", "pid": 0, "MB": _mb(place)} for name, place in self._disks.items()]
            for name, lane in list(self._lanes.items()):
                if (driver := lane.driver) is not None and driver.poll() is None:
                    rows += self._held(name, driver)
            with self._path.open("a") as file:
                file.writelines(json.dumps(row | {"t": time.time()}) + "\n" for row in rows)

    def _held(self, name: str, driver: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
        rows = []
        for kind in ("driver", "raylet", "gcs"):
            for pid in killing.victims(driver, kind):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    held = (process.memory_info().rss / 2**20, process.num_fds(), process.num_threads())
                    born = process.create_time()
                    rows.append(
                        {"what": f"{name}: {kind}", "pid": pid, "age_s": time.time() - born}
                        | dict(zip(CURVES, held, strict=True))
                    )
        return rows


def _mb(place: Path) -> float:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total / 2**20


# --- the tables


def slopes(path: Path) -> str:
    """Of each curve its range and its growth in an hour: one line through all processes, each beside its own mean."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = sorted({row["what"] for row in rows if row["what"].startswith(("disk", "one driver"))})
    lines = ["| what | hours | curve | first | last | most | per hour |", "|---|---|---|---|---|---|---|"]
    for kind in kinds:
        own = [row for row in rows if row["what"] == kind and row.get("age_s", WARM_S) >= WARM_S]
        for curve in CURVES:
            points = [(row["t"] / 3600, row[curve], row["pid"]) for row in own if curve in row]
            if len(points) < 3:
                continue
            hours, values, pids = (np.array(column, dtype=float) for column in zip(*points, strict=True))
            for pid in set(pids):
                own_hours = hours[pids == pid]
                hours[pids == pid] = own_hours - own_hours.mean()
            centred = values.copy()
            for pid in set(pids):
                centred[pids == pid] -= values[pids == pid].mean()
            slope = float(hours @ centred / (hours @ hours)) if (hours @ hours) > 0 else float("nan")
            span = points[-1][0] - points[0][0]
            shown = f"{values[0]:.0f} | {values[-1]:.0f} | {values.max():.0f} | {slope:+.1f}"
            lines.append(f"| {kind} | {span:.2f} | {curve} | {shown} |")
    return "\n".join(lines)


def outcomes(path: Path) -> str:
    """The storm's table, a column for each kind of sweep."""
    found: dict[str, list[Sweep]] = {}
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    disk: dict[str, list[float]] = {}
    for row in rows:
        name = row.pop("name")
        disk.setdefault(name, []).append(row.pop("MB"))
        found.setdefault(name, []).append(Sweep(**row | {"tally": tables.Tally(**row["tally"])}))
    left = "; ".join(f"{name} {sum(s.left_behind for s in sweeps)}" for name, sweeps in found.items())
    sizes = "; ".join(f"{name} {min(mb):.1f} to {max(mb):.1f}" for name, mb in disk.items())
    told = [f"Processes alive {LEFT_BEHIND_S:.0f} s after their driver: {left}.", f"A sweep's folder, MB: {sizes}."]
    return f"{tables.table(found)}\n{' '.join(told)}"


def main() -> int:
    """Soak, and print the tables; 1 where a sweep broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--stores", nargs="+", choices=("sqlite", "postgresql"), default=("sqlite", "postgresql"))
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--trial-s", type=float, default=15.0, help="of the long lived driver: gives it so many trials")
    asked = parser.parse_args()
    root = asked.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    ray = Path(os.environ.setdefault("RAY_TMPDIR", str(root))) / "ray"
    soak = Soak(root, asked.seed, storm.Kills(sys.maxsize, root / "strikes.jsonl"))
    looks, end = Looks(root / "looks.jsonl", {"sweeps": root, "Ray": ray}), threading.Event()
    with ThreadPoolExecutor(3) as pool, contextlib.ExitStack() as stack:
        stores: dict[str, dict[str, str]] = {"sqlite": {}} if "sqlite" in asked.stores else {}
        if "postgresql" in asked.stores:
            server = stack.enter_context(serving())
            stores["postgresql"] = {"study": server.url("study"), "record": server.url("record")}
        whole = {shape: unbroken(soak, shape) for shape in SHAPES}
        stack.callback(end.set)
        pool.submit(looks.go_on, end)
        hours = threading.Timer(asked.hours * 3600, soak.end)
        stack.callback(hours.cancel)
        hours.start()
        trials = max(2, int(asked.hours * 3600 / asked.trial_s))
        for lane in [pool.submit(struck, soak, whole, stores, looks), pool.submit(spared, soak, looks, trials)]:
            lane.result()
    text = f"{outcomes(root / 'sweeps.jsonl')}\n\n{slopes(root / 'looks.jsonl')}\n"
    (root / "soak.md").write_text(text)
    print(text)
    rows = [json.loads(line) for line in (root / "sweeps.jsonl").read_text().splitlines()]
    return 1 if any(row["tally"]["said"] or row["gave_up"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
