"""Where a line is held to the laws of its table: small drawn data, the small backbone, a cache that goes with them."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from trainables import data
from trainables.arrays import Ints
from trainables.backbones import BACKBONES, BackboneConfig
from trainables.contracts import Verdict, fits, judge, metrics
from trainables.data import DATASETS, DataConfig
from trainables.data.base import SPLITS, Dataset, Split
from trainables.errors import FitError, UserError
from trainables.finetuning import FineTuning
from trainables.methods import METHODS
from trainables.metrics import METRICS
from trainables.params import Params
from trainables.task import Task

PER_CELL = 2  # in each split: enough for a half of validation to refit a layer and a half to be measured
SMALL = BackboneConfig(name="small-vit", weights="none")


@dataclass(frozen=True)
class Bench:
    """A folder for all that is drawn. `data` is where one's own copy of a dataset lies."""

    folder: Path
    data: Path | None = None

    def findings(self, kind: str, name: str) -> Iterator[Verdict]:
        """What comes of each law of `kind` (dataset, backbone, method, metric, audit) for the line `name`."""
        try:
            if kind == "metric":
                yield from judge(metrics.LAWS, METRICS[name])
            elif kind == "method":
                yield from judge(fits.METHOD, name)
                yield from judge(fits.FITS, self.tuning(), params(name))
            elif kind == "backbone":
                yield from judge((fits.declares_its_options,), BACKBONES[name].options, BackboneConfig)
                tuning = self.tuning(backbone=BackboneConfig(name=name, weights="none"))
                for method in ("lora", "probe", "fft"):
                    for found in judge(fits.FITS, tuning, params(method)):
                        yield replace(found, claim=f"{method}: {found.claim}")
            elif kind == "dataset":
                dataset = data.load(DataConfig(name=name, root=self.data))
                again = data.load(DataConfig(name=name, root=self.data))
                yield from judge((fits.declares_its_options,), DATASETS[name].options, DataConfig)
                yield from judge(fits.DATASET, dataset, again)
                yield from judge(fits.FITS, self.tuning(few(dataset)), params("fairlora"))
            elif kind == "audit":
                yield from judge(fits.AUDIT, name, self.tuning(), params("fairlora"))
        except (UserError, FitError) as fault:
            yield Verdict("It can be loaded and made ready", str(fault))

    def tuning(self, dataset: Dataset | None = None, backbone: BackboneConfig = SMALL) -> FineTuning:
        """Ready to be aimed: on the drawn data and the small backbone, if no other is given."""
        dataset = dataset or drawn(self.folder)
        task = Task(backbone=backbone, groups="cell" if dataset.attributes else "class")
        tuning = FineTuning(task, device="cpu", threads=1)
        tuning.prepare(dataset)
        return tuning


@contextlib.contextmanager
def bench(data: Path | None = None) -> Iterator[Bench]:
    """A bench that is cleared away after use."""
    before = os.environ.get("SWEEPER_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SWEEPER_CACHE"] = str(Path(folder) / "cache")
        try:
            yield Bench(Path(folder), data)
        finally:
            del os.environ["SWEEPER_CACHE"]
            if before is not None:
                os.environ["SWEEPER_CACHE"] = before


def params(method: str) -> Params:
    """Two short epochs, all else as the method has it."""
    rank = {"rank": 4} if METHODS[method].adapter == "lora" else {}
    return Params.from_flat({"method": method, "epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **rank})


def drawn(folder: Path) -> Dataset:
    """Two classes on two backgrounds, 32 pixels wide, two images of each cell in each split."""
    classes, backgrounds = ("dark", "bright"), ("red", "blue")
    chance = np.random.default_rng(0)
    splits = {}
    for name in SPLITS:
        cells = [cell for cell in itertools.product(range(2), range(2)) for _ in range(PER_CELL)]
        paths = []
        for number, (label, background) in enumerate(cells):
            pixels_HW3 = chance.integers(0, 60, (32, 32, 3)) + 120 * label
            pixels_HW3[:8, :, 2 * background] += 60
            paths.append(folder / f"{name}-{number}.png")
            Image.fromarray(pixels_HW3.astype(np.uint8)).save(paths[-1])
        labels_N, attributes_N = np.array(cells, dtype=np.int64).T
        splits[name] = Split(name, tuple(paths), labels_N, attributes_N)
    return Dataset("drawn", folder, classes, backgrounds, splits)


def few(dataset: Dataset) -> Dataset:
    """The first examples of each cell of each split."""
    splits = {name: part.part(_first_of_each_cell(part)) for name, part in dataset.splits.items()}
    return replace(dataset, splits=splits)


def _first_of_each_cell(part: Split) -> Ints:
    attributes_N = np.zeros(len(part), int) if part.attributes_N is None else part.attributes_N
    seen: dict[tuple[int, int], int] = {}
    rows = []
    for row, cell in enumerate(zip(part.labels_N.tolist(), attributes_N.tolist(), strict=True)):
        seen[cell] = seen.get(cell, 0) + 1
        if seen[cell] <= PER_CELL:
            rows.append(row)
    return np.array(rows)
