"""What one more trial costs the record at 30 trials and at 300, side by side in one run.

A made-up sweep against a real SQLite store: each trial has 3 fits of 20 epochs, and every fifth one moves the front.
The pictures are timed apart: they are drawn at a pace, in at most a twentieth of the time, whatever they cost.

python benchmarks/record.py [--sizes 30 300] [--repeats 10]
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sweeper.front import front as frontier
from sweeper.record import pictures, recorder
from sweeper.record.content import FitView
from sweeper.record.record import Record
from sweeper.results import summary
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

T0 = 1_700_000_000_000
SEEDS, EPOCHS = 3, 20
SPEC = (
    "name: bench-{size}\ngroups: cell\nspace: {{method: [lora, fairlora], rank: [4, 8]}}\nsearch: {{trials: {size}}}\n"
)


def made_up(number: int) -> Trial:
    """Every fifth trial is a new member of the front; the rest are dominated."""
    along = number / 10_000
    good = number % 5 == 0
    values = {"accuracy": 0.8 + along if good else 0.7, "delta_f1": 0.2 + along if good else 0.5}
    metrics = values | {f"metric_{i}": 0.5 for i in range(16)}
    return Trial(
        number=number,
        state=State.COMPLETE,
        params={"method": "fairlora", "lambda": 0.1 + number, "rank": 8, "learning_rate": 1e-3, "epochs": EPOCHS},
        values=values,
        metrics=metrics,
        spread=dict.fromkeys(metrics, 0.01),
        seeds=SEEDS,
        started_ms=T0 + 1000 * number,
        ended_ms=T0 + 1000 * number + 900,
    )


def fits(number: int, weights: Path) -> list[FitView]:
    """What the folders of a real trial hold: epochs, groups, an adapter."""
    history = [
        {"epoch": e, "time_ms": T0 + 1000 * number + e} | {f"val_metric_{i}": 1 / e for i in range(18)}
        for e in range(1, EPOCHS + 1)
    ]
    groups = [{"kind": "cell", "name": f"group {i}", "n": 60, "accuracy": 0.8, "loss": 0.5} for i in range(8)]
    values = made_up(number).values
    return [FitView(seed, history, values, groups, {"device": "cpu"}, 4.0, weights) for seed in range(SEEDS)]


@dataclass
class Bench:
    """A record with `size` trials in it, and what one more costs."""

    spec: SweepSpec
    place: Path
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._signs = summary.signs(self.spec)
        weights = self.place / "weights"
        weights.mkdir(exist_ok=True)
        (weights / "adapter_model.safetensors").write_bytes(bytes(50_000))
        folder = SweepFolder(self.place / self.spec.name)
        uri = f"sqlite:///{self.place / 'mlflow.db'}"
        source = recorder.open_record(self.spec, self.spec.name, folder, uri, {}).source
        self._source = replace(source, fits=lambda number: fits(number, weights))
        self._record = Record(self._source, uri, artifact_root=self.place / "mlartifacts", drawing_share=1e-9)

    def grow(self, size: int) -> None:
        """Fill the record."""
        self.trials += [made_up(number) for number in range(len(self.trials), size)]
        self.refresh()

    def one_more(self) -> float:
        """Seconds to bring the record up to date after one more trial."""
        self.trials.append(made_up(len(self.trials)))
        return self.refresh()

    def refresh(self) -> float:
        """Seconds of one pass."""
        front = frontier.front(self.trials, self._signs)
        began = time.perf_counter()
        self._record.refresh(self.trials, front)
        return time.perf_counter() - began

    def draw(self) -> float:
        """Seconds to draw everything once."""
        front = frontier.front(self.trials, self._signs)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            table = self._source.table(self.trials, front)
            volumes = [math.nan, *(0.1 for _ in self.trials[1:])]
            pictures.draw(Path(folder), self.spec.name, table, self._source.objectives, volumes)
        return time.perf_counter() - began


def main(sizes: Sequence[int], repeats: int) -> None:
    """Print medians and the ratio of the last size to the first."""
    with tempfile.TemporaryDirectory(prefix="bench-record-") as place:
        benches = [Bench(loading.parse(SPEC.format(size=size)), Path(place)) for size in sizes]
        for bench, size in zip(benches, sizes, strict=True):
            bench.grow(size)
        rows = [[bench.one_more() for bench in benches] for _ in range(repeats)]  # in turns
        drawn = [statistics.median(bench.draw() for _ in range(3)) for bench in benches]
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    for size, seconds, picture in zip(sizes, medians, drawn, strict=True):
        print(f"{size:4d} trials: one more {1e3 * seconds:6.0f} ms (median of {repeats}); pictures {picture:.2f} s")
    print(f"ratio {sizes[-1]}/{sizes[0]}: one more {medians[-1] / medians[0]:.2f}, pictures {drawn[-1] / drawn[0]:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 300])
    parser.add_argument("--repeats", type=int, default=10)
    asked = parser.parse_args()
    main(asked.sizes, asked.repeats)
