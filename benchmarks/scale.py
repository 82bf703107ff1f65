"""What a driver pays for one more trial, in sweeps of 32 to 2,000 trials with 2 to 200 fits at once.

The fits only report: each writes the result that a real one would. Queue, study (SQLite), fits' folders and MLflow
record are the real ones; Ray is not there. Timed is what the driver does on its scheduling path (the next order, what
came of one, the snapshot for whoever watches), and, apart from that, the record, which has a thread of its own.

    python benchmarks/scale.py [--trials 32 128 512 2000] [--at-once 2 20 200] [--samplers random tpe] [--no-record]
"""

from __future__ import annotations

import argparse
import json
import resource
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

WINDOW = 64  # trials over which a cost is averaged
SPEC = """
name: scale
groups: cell
space: {{method: [lora, fairlora], rank: {{low: 4, high: 128, log: true}}, epochs: 4}}
search: {{sampler: {sampler}, trials: {trials}, baselines: [lora]}}
"""


def main() -> None:
    """Measure each cell in a process of its own, or be one."""
    asked = _parser().parse_args()
    if asked.cell:
        sampler, trials, at_once = asked.cell
        print(json.dumps(_cell(sampler, int(trials), int(at_once), record=not asked.no_record)))
        return
    print(_HEADING)
    for sampler in asked.samplers:
        for at_once in asked.at_once:
            rows = [_measured(sampler, trials, at_once, asked.no_record) for trials in asked.trials]
            print("\n".join(map(_line, rows)), flush=True)
            _judge(rows)


_HEADING = (
    "sampler  trials at once | ms a trial: mean, at 128, last | of the CPU: mean, at 128, last | peak MB |"
    " study KB a trial | record: ms, KB a trial"
)


def _line(row: dict) -> str:
    record = f"{row['record_ms']:.0f}, {row['record_kb']:.0f}" if "record_ms" in row else "-"
    times = " | ".join(f"{row[k]:7.1f} {row[f'{k}_early']:7.1f} {row[f'{k}_late']:7.1f}" for k in ("wall", "cpu"))
    sizes = f"{row['peak_mb']:5.0f} | {row['study_kb']:5.1f} | {record}"
    return f"{row['sampler']:7} {row['trials']:7} {row['at_once']:7} | {times} | {sizes}"


def _judge(rows: list[dict]) -> None:
    """The last trials of the longest sweep against those about the 128th of the same sweep: at most 1.3."""
    last = max(rows, key=lambda row: row["trials"])
    if last["trials"] > 4 * WINDOW:
        ratios = [last[f"{kind}_late"] / last[f"{kind}_early"] for kind in ("wall", "cpu")]
        print(
            f"        trial {last['trials']} against trial 128: {ratios[0]:.2f} times, of the CPU {ratios[1]:.2f} times"
        )
        gpus = 3.6e6 / last["wall_late"]
        print(f"        fits of an hour, one a GPU, a trial each: the driver is the limit from {gpus:,.0f} GPUs on")


def _measured(sampler: str, trials: int, at_once: int, no_record: bool) -> dict:
    command = [sys.executable, __file__, "--cell", sampler, str(trials), str(at_once)]
    done = subprocess.run(command + ["--no-record"] * no_record, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- one cell


def _cell(sampler: str, trials: int, at_once: int, *, record: bool) -> dict:
    spec = loading.parse(SPEC.format(sampler=sampler, trials=trials))
    with tempfile.TemporaryDirectory(prefix="scale-") as place:
        folder = SweepFolder(Path(place) / "scale", token=1)
        folder.path.mkdir()
        study = Study(spec, f"sqlite:///{folder.path / 'study.db'}", create=True)
        costs = _sweep(spec, study, folder, at_once)
        row = {"sampler": sampler, "trials": trials, "at_once": at_once}
        for kind, some in zip(("wall", "cpu"), zip(*costs, strict=True), strict=True):
            row |= {kind: 1e3 * statistics.fmean(some), f"{kind}_early": 1e3 * _about(some, 128)}
            row[f"{kind}_late"] = 1e3 * _about(some, len(some))
        row["study_kb"] = (folder.path / "study.db").stat().st_size / 1e3 / trials
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        return row | (_record(spec, study, folder, Path(place)) if record else {})


def _sweep(spec: SweepSpec, study: Study, folder: SweepFolder, at_once: int) -> list[tuple[float, float]]:
    """Seconds by the clock and of the CPU for each trial; the fits' own writes are not the driver's."""
    queue = FitQueue(study, folder, spec.search, spec.resources, on_trial=lambda trial: _tell(spec, study, folder))
    out: deque[Order] = deque()
    watch = _Watch()
    costs = []
    while True:
        with watch:
            while len(out) < at_once and (order := queue.next()) is not None:
                out.append(order)
        if not out:
            return costs
        order = out.popleft()
        _fit(order, folder)
        with watch:
            queue.done(order)
        if order.kind == "fit":
            costs.append(watch.taken())


class _Watch:
    """Adds up what passes inside it, by the clock and by the CPU's."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *exc: object) -> None:
        self._wall += time.perf_counter() - self._began[0]
        self._cpu += time.process_time() - self._began[1]

    def taken(self) -> tuple[float, float]:
        """What it shows, and back to nothing."""
        shown = self._wall, self._cpu
        self._wall = self._cpu = 0.0
        return shown


def _tell(spec: SweepSpec, study: Study, folder: SweepFolder) -> None:
    """What is computed after each trial for those who watch: more than any of them shows."""
    results = Results(folder, spec, *study.look(), Progress("running"))
    summary.headline(results)
    results.to_json()


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


def _about(costs: Sequence[float], trial: int) -> float:
    """The median cost of the WINDOW trials that end with `trial`, or of as many as there are."""
    end = min(trial, len(costs))
    return statistics.median(costs[max(0, end - WINDOW) : end])


def _record(spec: SweepSpec, study: Study, folder: SweepFolder, place: Path) -> dict:
    """The whole sweep, written into a new MLflow store on SQLite."""
    record, results = open_record(spec, folder, study.uuid), Results(folder, spec, *study.look())
    store, trials = place / "mlflow.db", len(results.trials)
    record.refresh(Results(folder, spec, results.trials[:1], []))  # MLflow makes its tables
    before = store.stat().st_size
    began = time.perf_counter()
    record.refresh(results)
    took_s = time.perf_counter() - began
    record.close(results)
    return {"record_ms": 1e3 * took_s / trials, "record_kb": (store.stat().st_size - before) / 1e3 / trials}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[32, 128, 512, 2000])
    parser.add_argument("--at-once", type=int, nargs="+", default=[2, 20, 200])
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
