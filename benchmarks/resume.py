"""From `sweeper resume` to the first training step, on a sweep of 500 finished trials beside one of 10.

    python benchmarks/resume.py --trials 500 10 --repetitions 3

The finished trials are made by telling a study and writing results directly; then the sweep gets one trial more
(digits-on-scenes, small-vit), and a real `sweeper resume` is timed up to the file that its first epoch's start
writes. Which part took how long is told by the driver's own marks: spec and lease, Ray and data, study, queue.
The record (MLflow) is written from a thread of its own and is not waited for; `--record` says where (default: a
store that refuses, so that only the reading and projecting for it is in the time).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """
name: long
groups: cell
space: {{method: [lora, fairlora], learning_rate: 2e-3, epochs: 2}}
search: {{sampler: {sampler}, trials: {trials}, seed: 0}}
resources: {{max_concurrent: 1}}
storage: {{root: "{root}", mlflow: "{record}"}}
"""

# Runs the command line with marks at the seams; the last is written where the fits run.
MARKED = """
import sys, time
from pathlib import Path
marks = Path({marks!r})
def mark(name):
    with marks.open("a") as file: file.write(f"{{name}} {{time.time()}}\\n")
mark("imported python")
from sweeper.engine import attempt, driver, queue
from sweeper.state import lease
attempt.RECORD_PATIENCE_S = 0.1  # what comes after the first epoch is not measured
def after(owner, method, name):
    real = getattr(owner, method)
    def timed(*args, **kwargs):
        result = real(*args, **kwargs)
        mark(name)
        return result
    setattr(owner, method, timed)
after(lease.Lease, "acquire", "spec and lease")
after(driver, "_open_study", "Ray, data and study")
after(queue.FitQueue, "begin", "queue")
from sweeper.cli.main import main
sys.exit(main(["resume", "long", "--root", {root!r}, "--trials", {more!r}]))
"""


def main() -> None:
    """Measure each size in turn, interleaved; print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[500, 10])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--record", default="http://127.0.0.1:9")
    asked = parser.parse_args()
    found: dict[int, list[dict[str, float]]] = {trials: [] for trials in asked.trials}
    with tempfile.TemporaryDirectory(prefix="resume-") as name:
        for trials in asked.trials:
            _make(Path(name) / str(trials), trials, asked)
        for repetition in range(asked.repetitions):
            for trials in asked.trials if repetition % 2 == 0 else asked.trials[::-1]:
                found[trials].append(_resume(Path(name) / str(trials), trials))
                print(f"  {repetition} {trials:4} finished: {found[trials][-1]['first epoch']:6.2f} s", flush=True)
    for trials, rows in found.items():
        _show(trials, rows)


def _show(trials: int, rows: list[dict[str, float]]) -> None:
    for part in rows[0]:
        values = [row[part] for row in rows]
        low, high = min(values), max(values)
        print(f"{trials:4} finished, {part:20} {statistics.median(values):6.2f} s ({low:.2f} to {high:.2f})")


def _make(root: Path, trials: int, asked: argparse.Namespace) -> None:
    """A sweep of so many finished trials, as a real one would have left it."""
    from sweeper.results import provenance
    from sweeper.spec import loading
    from sweeper.state.study import Study
    from sweeper.state.sweep_folder import SweepFolder

    text = SPEC.format(sampler="random", trials=trials, root=root, record=asked.record)
    spec = loading.parse(text)
    folder = SweepFolder(root / "long", token=1)
    folder.path.mkdir(parents=True)
    split_hash = provenance.describe(spec, folder.path)["dataset"]["split_hash"]
    kept = loading.changed(spec, {"search.sampler": asked.sampler})
    identity = kept.identity() | {"split_hash": split_hash}
    study = Study(spec, f"sqlite:///{folder.path / 'study.db'}", create=True, identity=identity)
    while (proposal := study.propose()) is not None:
        values = {"accuracy": 0.5 + proposal.number % 37 / 100, "delta_f1": 0.5 - proposal.number % 41 / 100}
        history = [
            {"epoch": e, "time_ms": 1_700_000_000_000 + e, **{f"val_{i}": 0.5 for i in range(30)}} for e in (1, 2)
        ]
        body = {"params": dict(proposal.params), "values": values, "reasons": {}, "groups": [], "provenance": {}}
        body |= {"history": history, "seconds": 1.0, "error": None}
        folder.fit(proposal.number, 0).write_result(body)
        study.complete(proposal.number, [values])
    folder.spec.write_text(loading.dump(kept))


def _resume(kept: Path, trials: int) -> dict[str, float]:
    """Seconds from the command to each mark, on a fresh copy: a resume changes the sweep."""
    root = kept.with_name(f"{kept.name}-now")
    shutil.copytree(kept, root)
    spec = root / "long" / "spec.yaml"
    spec.write_text(spec.read_text().replace(str(kept), str(root)))
    marks = root / "marks"
    program = MARKED.format(marks=str(marks), root=str(root), more=str(trials + 1))
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_watched(marks)
    )
    out, _ = process.communicate(timeout=600)
    read = [line.rsplit(" ", 1) for line in marks.read_text().splitlines()]
    shutil.rmtree(root)
    found = {name: float(moment) - began for name, moment in read[::-1]}  # of marks that came twice, the first
    if "first epoch" not in found:
        sys.exit(f"no epoch began:\n{out.decode()[-3000:]}")
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _watched(marks: Path) -> dict[str, str]:
    """An environment in which every process marks the first epoch that it begins."""
    folder = marks.parent / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import importlib.abc, importlib.util, sys, time\n"
        "class Watch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'trainables.finetuning': return None\n"
        "        sys.meta_path.remove(self)\n"
        "        spec = importlib.util.find_spec(name)\n"
        "        real = spec.loader.exec_module\n"
        "        def run(module):\n"
        "            real(module)\n"
        "            epoch = module.FineTuning.train_epoch\n"
        "            def train_epoch(self):\n"
        f"                with open({str(marks)!r}, 'a') as file: file.write(f'first epoch {{time.time()}}\\n')\n"
        "                return epoch(self)\n"
        "            module.FineTuning.train_epoch = train_epoch\n"
        "        spec.loader.exec_module = run\n"
        "        return spec\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


if __name__ == "__main__":
    main()
