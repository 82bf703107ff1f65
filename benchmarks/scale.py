"""What a driver pays for one more trial at 2,000 trials and at 128, with 2 to 200 fits at once.

The fits only report: each writes the result that a real one would. Queue, study (SQLite), fits' folders and MLflow
record are the real ones; Ray is not there. Timed is what the driver does on its scheduling path (the next order, what
came of one, the snapshot for whoever watches), and, apart from that, the record, which has a thread of its own. Both
sizes go on in one process, a trial each in turn, so that what else the machine does meets them alike; the trials before
are those of random search. TMPDIR in memory (/dev/shm) leaves the disk's waiting out.

    python benchmarks/scale.py [--sizes 128 2000] [--at-once 2 20 200] [--samplers random tpe] [--pairs 40]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from sweeper.engine.order import Order
from sweeper.engine.queue import FitQueue
from sweeper.record.record import open_record
from sweeper.results import summary
from sweeper.results.results import Progress, Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.atomic import write_json
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder

MOST = 10_000  # trials that the sweep may have: more than it comes to
WARM = 3  # trials before those that count
SPEC = """
name: scale
groups: cell
space: {{method: [lora, fairlora], rank: {{low: 4, high: 128, log: true}}, epochs: 4}}
search: {{sampler: {sampler}, trials: {trials}, baselines: [lora]}}
"""


def main() -> None:
    """Grow a sweep, keep it as it is at each size, and measure each cell in a process of its own; or be one."""
    asked = _parser().parse_args()
    if asked.cell:
        place, sampler, at_once, pairs = asked.cell
        print(json.dumps(_cell(Path(place), sampler, int(at_once), int(pairs), asked.sizes)))
        return
    with tempfile.TemporaryDirectory(prefix="scale-") as place:
        _grow(Path(place), asked.sizes)
        print(_HEADING)
        for sampler in asked.samplers:
            for at_once in asked.at_once:
                print(_line(_measured(place, sampler, at_once, asked)), flush=True)
        if not asked.no_record:
            for size in asked.sizes:
                print(_record(Path(place) / str(size)))


_HEADING = (
    "sampler  at once | ms of the CPU, one more trial at each size | last / first, median of pairs (quartiles) |"
    " by the clock | peak MB"
)


def _line(row: dict) -> str:
    times = ", ".join(f"{size}: {ms:.1f}" for size, ms in row["ms"].items())
    ratio = "{1:.2f} ({0:.2f} to {2:.2f})".format(*row["cpu"])
    return f"{row['sampler']:7} {row['at_once']:8} | {times} | {ratio} | {row['wall']:.2f} | {row['peak_mb']:.0f}"


def _measured(place: str, sampler: str, at_once: int, asked: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--cell", place, sampler, str(at_once), str(asked.pairs)]
    command += ["--sizes", *map(str, asked.sizes)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- one cell


def _spec(sampler: str) -> SweepSpec:
    return loading.parse(SPEC.format(sampler=sampler, trials=MOST))


def _grow(place: Path, sizes: Sequence[int]) -> None:
    """A sweep of random search, with a copy of all its files at each of these numbers of trials."""
    sweep = _Sweep.made(place / "grown", _spec("random"), at_once=2)
    for size in sizes:
        while sweep.ended < size:
            sweep.one()
        shutil.copytree(sweep.folder.path, place / str(size) / "scale")


def _cell(place: Path, sampler: str, at_once: int, pairs: int, sizes: Sequence[int]) -> dict:
    """Sweeps of each size go on in turn, a trial each; what passes on the machine meanwhile meets them alike."""
    with tempfile.TemporaryDirectory(prefix="scale-cell-") as work:
        for size in sizes:
            shutil.copytree(place / str(size), Path(work) / str(size))
        sweeps = [_Sweep.found(Path(work) / str(size), _spec(sampler), at_once) for size in sizes]
        for sweep in sweeps:
            for _ in range(WARM):
                sweep.one()
        turns = [[sweep.one() for sweep in sweeps] for _ in range(pairs)]
    wall, cpu = ([[each[kind] for each in turn] for turn in turns] for kind in (0, 1))
    ratios = [turn[-1] / turn[0] for turn in cpu]
    row = {"sampler": sampler, "at_once": at_once, "cpu": statistics.quantiles(ratios, n=4)}
    row["ms"] = {
        size: 1e3 * statistics.median(times) for size, times in zip(sizes, zip(*cpu, strict=True), strict=True)
    }
    row["wall"] = statistics.median(turn[-1] / turn[0] for turn in wall)
    return row | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


class _Sweep:
    """A sweep with so many fits at once."""

    def __init__(self, spec: SweepSpec, study: Study, folder: SweepFolder, at_once: int) -> None:
        self._spec, self._study, self.folder, self._at_once = spec, study, folder, at_once
        self._out: deque[Order] = deque()
        self.ended = 0
        self._queue = FitQueue(study, folder, spec.search, spec.resources, on_trial=lambda trial: self._tell())
        self._queue.begin()

    @classmethod
    def made(cls, place: Path, spec: SweepSpec, at_once: int) -> _Sweep:
        """A new one."""
        folder = SweepFolder(place / "scale", token=1)
        folder.path.mkdir(parents=True)
        return cls(spec, Study(spec, f"sqlite:///{folder.path / 'study.db'}", create=True), folder, at_once)

    @classmethod
    def found(cls, place: Path, spec: SweepSpec, at_once: int) -> _Sweep:
        """One that is resumed."""
        folder = SweepFolder(place / "scale", token=1)
        return cls(spec, Study(spec, f"sqlite:///{folder.path / 'study.db'}"), folder, at_once)

    def one(self) -> tuple[float, float]:
        """Let one more trial end: seconds by the clock and of the CPU; the fit's own writes are not the driver's."""
        watch = _Watch()
        with watch:
            while len(self._out) < self._at_once and (order := self._queue.next()) is not None:
                self._out.append(order)
        order = self._out.popleft()
        _fit(order, self.folder)
        with watch:
            self._queue.done(order)
        self.ended += 1
        return watch.wall, watch.cpu

    def _tell(self) -> None:
        """What is computed after each trial for those who watch: more than any of them shows."""
        results = Results(self.folder, self._spec, *self._study.look(), Progress("running"))
        summary.headline(results)
        results.to_json()


class _Watch:
    """Adds up what passes inside it, by the clock and by the CPU's."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *exc: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]


def _fit(order: Order, folder: SweepFolder) -> None:
    """The result of a fit that never was: more rank, more accuracy and a wider gap, with a ripple."""
    if order.kind == "held-out":
        write_json(folder.held_out(order.number, order.seed), {"values": {"accuracy": 0.5, "delta_f1": 0.5}})
        return
    rank, ripple = float(order.params["rank"]), (order.number * 0.618) % 1 / 10
    values = {"accuracy": 0.5 + rank / 400 - ripple, "delta_f1": rank / 300 + ripple}
    history = [
        {"epoch": n, "loss": 1 / n, "val_accuracy": 0.1 * n, "time_ms": 1_700_000_000_000 + n} for n in range(1, 5)
    ]
    body = {"params": dict(order.params), "values": values, "history": history, "seconds": 1.0, "error": None}
    folder.fit(order.number, order.seed).write_result(body | {"reasons": {}, "groups": [], "provenance": {}})


def _record(place: Path) -> str:
    """The whole sweep, written into a new MLflow store on SQLite."""
    spec, folder = _spec("random"), SweepFolder(place / "scale", token=1)
    study = Study(spec, f"sqlite:///{folder.path / 'study.db'}")
    record, results = open_record(spec, folder, study.uuid), Results(folder, spec, *study.look())
    store, trials = place / "mlflow.db", len(results.trials)
    record.refresh(Results(folder, spec, results.trials[:1], []))  # MLflow makes its tables
    before = store.stat().st_size
    began = time.perf_counter()
    record.refresh(results)
    took_s = time.perf_counter() - began
    record.close(results)
    kilobytes = (store.stat().st_size - before) / 1e3
    return f"record of {trials} trials: {1e3 * took_s / trials:.0f} ms, {kilobytes / trials:.1f} KB a trial"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 2000])
    parser.add_argument("--at-once", type=int, nargs="+", default=[2, 20, 200])
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
