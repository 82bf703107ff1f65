"""What one more trial costs the record at 30 trials and at 300, side by side in one run.

A made-up sweep against a real SQLite store: each trial has 3 fits of 20 epochs, and every fifth one moves the front.
The pictures are timed apart: they are drawn at a pace, in at most a twentieth of the time, whatever they cost.

python benchmarks/record.py [--sizes 30 300] [--repeats 10]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.front.front import Frontier
from sweeper.record import pictures
from sweeper.record.record import Record
from sweeper.record.store import Store
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

T0 = 1_700_000_000_000
SEEDS, EPOCHS = 3, 20
SPEC = (
    "name: record-{size}\ngroups: cell\nspace: {{method: [lora, fairlora], rank: [4, 8]}}\nsearch: {{trials: {size}}}\n"
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
        seed_list=tuple(range(SEEDS)),
        started_ms=T0 + 1000 * number,
        ended_ms=T0 + 1000 * number + 900,
    )


def keep_fits(folder: SweepFolder, number: int) -> None:
    """What the folders of a real trial hold: epochs, groups, an adapter."""
    history = [
        {"epoch": e, "time_ms": T0 + 1000 * number + e} | {f"val_metric_{i}": 1 / e for i in range(18)}
        for e in range(1, EPOCHS + 1)
    ]
    groups = [{"kind": "cell", "name": f"group {i}", "n": 60, "accuracy": 0.8, "loss": 0.5} for i in range(8)]
    body = {"values": made_up(number).values, "reasons": {}, "groups": groups, "history": history}
    for seed in range(SEEDS):
        fit = folder.fit(number, seed)
        fit.weights.mkdir(parents=True)
        (fit.weights / "adapter_model.safetensors").write_bytes(bytes(50_000))
        fit.write_result(body | {"provenance": {"device": "cpu"}, "seconds": 4.0, "error": None})


@dataclass
class GrownRecord:
    """A record with `size` trials in it, and what one more costs."""

    spec: SweepSpec
    place: Path
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._folder = SweepFolder(self.place / self.spec.name, token=1)
        self._frontier = Frontier(self.spec.objectives)
        name, uri = self.spec.name, f"sqlite:///{self.place / 'mlflow.db'}"
        self._record = Record(Store(uri, name, name, self.place / "mlartifacts"), drawing_share=1e-9)

    def grow(self, size: int) -> None:
        """Fill the record."""
        for number in range(len(self.trials), size):
            self._add(number)
        self.refresh()

    def _add(self, number: int) -> None:
        keep_fits(self._folder, number)
        self.trials.append(made_up(number))

    def _results(self) -> Results:
        return Results(self._folder, self.spec, list(self.trials), self._frontier.of(self.trials))

    def one_more(self) -> float:
        """Seconds to bring the record up to date after one more trial."""
        self._add(len(self.trials))
        return self.refresh()

    def refresh(self) -> float:
        """Seconds of one pass."""
        results = self._results()
        began = time.perf_counter()
        self._record.refresh(results)
        return time.perf_counter() - began

    def draw(self) -> float:
        """Seconds to draw everything once."""
        results = self._results()
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            pictures.draw(Path(folder), results, results.growth())
        return time.perf_counter() - began


def main(sizes: Sequence[int], repeats: int) -> None:
    """Print medians and the ratio of the last size to the first."""
    with tempfile.TemporaryDirectory(prefix="record-record-") as place:
        records = [GrownRecord(loading.parse(SPEC.format(size=size)), Path(place)) for size in sizes]
        for record, size in zip(records, sizes, strict=True):
            record.grow(size)
        rows = [[record.one_more() for record in records] for _ in range(repeats)]  # in turns
        drawn = [statistics.median(record.draw() for _ in range(3)) for record in records]
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
