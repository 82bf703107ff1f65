"""Record the surface: digits-on-scenes over method, lambda, rank and learning rate, each point with the same seeds.

    python -m benchmarks.search.recorder benchmarks/search/digits.csv --seeds 8

One process, one thread, no Ray, through `FineTuning` alone; 3 s of a core for each of the 28 points of a seed. The
settings are the demo's: small-vit, cells as groups, alpha 16, 4 epochs. Seed after seed is written whole, so that it
may be ended at any time; started again, it goes on after the last whole seed. A row holds the validation accuracy and
delta F1 after each epoch.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EPOCHS = 4
LAMBDAS = (0.01, 0.04, 0.16, 0.63, 2.5, 10.0)
RANKS = (4, 64)
RATES = (1e-3, 2e-3)
OBJECTIVES = ("accuracy", "delta_f1")
MEASURED = [f"{name}_{epoch}" for epoch in range(1, EPOCHS + 1) for name in OBJECTIVES]
COLUMNS = ("seed", "method", "lambda", "rank", "learning_rate", *MEASURED)


def points() -> Iterator[dict[str, Any]]:
    """The grid: plain LoRA and each lambda, at each rank and rate."""
    for rank, rate in itertools.product(RANKS, RATES):
        yield {"method": "lora", "rank": rank, "learning_rate": rate}
        for weight in LAMBDAS:
            yield {"method": "fairlora", "lambda": weight, "rank": rank, "learning_rate": rate}


def record(path: Path, seeds: range) -> None:
    """Append the `seeds` that `path` lacks."""
    from trainables.backbones import BackboneConfig
    from trainables.data import DataConfig
    from trainables.finetuning import FineTuning
    from trainables.params import Params
    from trainables.task import Task

    task = Task(data=DataConfig(name="digits-on-scenes"), backbone=BackboneConfig(name="small-vit"), groups="cell")
    tuning = FineTuning(task, device="cpu", threads=1)
    tuning.prepare()
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    with path.open() as file:
        begun = {int(row["seed"]) for row in csv.DictReader(file)}
    for seed in sorted(set(seeds) - begun):
        rows = []
        for point in points():
            tuning.aim(Params.from_flat({"alpha": 16, "epochs": EPOCHS, **point}), seed)
            row: list[Any] = [seed, point["method"], point.get("lambda", ""), point["rank"], point["learning_rate"]]
            while not tuning.done:
                tuning.train_epoch()
                values = tuning.evaluate("val").values
                row += [f"{values[name]:.4f}" for name in OBJECTIVES]
            rows.append(row)
        with path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the table to write, or to go on with")
    parser.add_argument("--seeds", type=int, default=8, help="how many seeds it holds in the end")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    asked = parser.parse_args()
    record(asked.path, range(asked.first, asked.first + asked.seeds))
