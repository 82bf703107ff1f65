"""What one report costs the fit and the driver, and how long a trivial trial takes under the whole service.

    python benchmarks/report.py

The fit's side: making an epoch durable (state, bytes, checksum, sync, rename), with the demo's model, LoRA and
full. The driver's side: its own CPU time per report of actors that do nothing else. A trivial trial: study, queue,
searcher, a reused actor and a durable result, but no training; milliseconds from one told trial to the next.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sweeper.engine import machines
from sweeper.spec.sections import Resources

REPORTS = 200


def main() -> None:
    """Measure the three, print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="report-") as name:
        folder = Path(name)
        with machines.ready(Resources()):  # before anything imports Ray
            _show("driver: CPU time of a report", [_driver(folder / f"d{i}") for i in range(asked.repetitions)])
            gaps = _trivial(folder / "t", asked.trials)
            _show("a trivial trial, told to told", gaps)
        for method in ("lora", "fft"):
            _show(f"fit: an epoch made durable, {method}", _durable(folder / method, method))


def _show(name: str, milliseconds: list[float]) -> None:
    low, high = min(milliseconds), max(milliseconds)
    print(
        f"{name:40} median {statistics.median(milliseconds):7.2f} ms ({low:.2f} to {high:.2f}, n {len(milliseconds)})"
    )


def _tune(actor: Any, search: Any, folder: Path) -> None:
    from ray import tune

    config = tune.RunConfig(
        name="tune",
        storage_path=str(folder),
        verbose=0,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    )
    how = tune.TuneConfig(search_alg=search, num_samples=-1, reuse_actors=True)
    tune.Tuner(tune.with_resources(actor, {"cpu": 1}), tune_config=how, run_config=config).fit()


def _driver(folder: Path) -> float:
    """The driver's CPU time per report, in ms: two trials of many steps against two of one step."""
    used = {}
    for steps in (1, REPORTS):
        began = time.process_time()
        _tune(_talker(steps), _fixed(2), folder / str(steps))
        used[steps] = time.process_time() - began
    return 1e3 * (used[REPORTS] - used[1]) / (2 * (REPORTS - 1))


def _talker(steps: int) -> Any:
    from ray import tune

    class Talker(tune.Trainable):
        def setup(self, config: dict) -> None:
            self.n = 0

        def reset_config(self, new_config: dict) -> bool:
            self.n = 0
            return True

        def step(self) -> dict:
            self.n += 1
            return {"done": self.n >= steps, "epoch": self.n}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

    return Talker


def _fixed(count: int) -> Any:
    from ray.tune.search import Searcher

    class Fixed(Searcher):
        def __init__(self) -> None:
            super().__init__(metric=None, mode=None)
            self.left = count

        def suggest(self, trial_id: str) -> dict | str:
            self.left -= 1
            return {} if self.left >= 0 else Searcher.FINISHED

        def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
            pass

        def __getstate__(self) -> dict:
            return {}

        def save(self, checkpoint_path: str) -> None:
            open(checkpoint_path, "w").close()

        def restore(self, checkpoint_path: str) -> None:
            pass

    return Fixed()


def _trivial(folder: Path, trials: int) -> list[float]:
    """Milliseconds between trials, with all of the service but the training. The first five warm up."""
    from sweeper.engine.order import Node
    from sweeper.engine.queue import FitQueue
    from sweeper.engine.tune import FitSearcher
    from sweeper.spec import loading
    from sweeper.state.study import Study
    from sweeper.state.sweep_folder import SweepFolder

    spec = loading.parse(f"name: trivial\nsearch: {{sampler: tpe, trials: {trials}}}\n")
    sweep = SweepFolder(folder / "trivial", token=1)
    sweep.raise_fence()
    told: list[float] = []
    study = Study(spec, f"sqlite:///{sweep.path / 'study.db'}", create=True)
    queue = FitQueue(study, sweep, spec.search, spec.resources, on_trial=lambda _: told.append(time.perf_counter()))
    node = Node(sweep.path, 1, None, device="cpu", threads=1, cpus=1.0, gpus=0.0)
    _tune(_writer(), FitSearcher(queue, node, limit=1, ahead=0), folder)
    return [1e3 * (b - a) for a, b in itertools.pairwise(told[5:])]


def _writer() -> Any:
    from ray import tune

    class Writer(tune.Trainable):
        def setup(self, config: dict) -> None:
            self.order = config

        def reset_config(self, new_config: dict) -> bool:
            self.order = new_config
            return True

        def step(self) -> dict:
            node, (order,) = self.order["node"], self.order["bundle"]
            if order.kind == "fit":
                values = {"accuracy": 0.8, "delta_f1": 0.2}
                body = {"params": dict(order.params), "values": values, "history": [], "error": None}
                node.sweep().fit(order.number, order.seed).write_result(body)
            return {"done": True, "epoch": 1}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

    return Writer


def _durable(folder: Path, method: str) -> list[float]:
    from sweeper.state.sweep_folder import SweepFolder
    from trainables.finetuning import FineTuning
    from trainables.params import Params
    from trainables.task import Task
    from trainables.training import checkpoint

    tuning = FineTuning(Task(groups="cell"), device="cpu", threads=1)
    tuning.prepare()
    tuning.aim(Params.from_flat({"method": method, "learning_rate": 2e-3, "epochs": 2}), seed=0)
    tuning.train_epoch()
    sweep = SweepFolder(folder, token=1)
    sweep.raise_fence()
    spent = []
    for epoch in range(1, 41):
        began = time.perf_counter()
        tensors, state = tuning.state()
        sweep.fit(0, 0).save_checkpoint(epoch, checkpoint.pack(tensors, {"state": state, "history": []}))
        spent.append(1e3 * (time.perf_counter() - began))
    return spent


if __name__ == "__main__":
    main()
