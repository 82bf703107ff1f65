"""The product's own search on a surface: its `Study` and `FitQueue`, and an executor that reads results off.

`show` takes any `search:` mapping. What the fits' folders hold is what the actor writes, without answers of examples:
the surfaces' truth is of one validation split.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import optuna

from benchmarks.search.shown import Shown
from benchmarks.search.slots import Workers
from benchmarks.search.surfaces import EPOCHS, OBJECTIVES, Surface
from sweeper.engine.attempt import stopping_rule
from sweeper.engine.order import Order
from sweeper.engine.queue import FitQueue
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder

MEMORY = Path("/dev/shm")  # where it is there: thousands of small durable files


def specification(surface: Surface, search: Mapping[str, Any], fits: int, world: int) -> SweepSpec:
    """The sweep: what `search` leaves out of trials and seed follows from the budget and the world."""
    seeds = search.get("seeds", 1)
    if isinstance(seeds, Mapping):  # a race: how many trials it has is its own affair
        spent: dict[str, Any] = {"budget": {"fits": fits}}
    else:
        spent = {"trials": fits // (seeds if isinstance(seeds, int) else len(seeds))}
    whole = {"sampler": "tpe", "seed": world, "max_failures": 1000} | spent | dict(search)
    body = {"name": "bench", "groups": "cell", "space": surface.space(), "objectives": OBJECTIVES, "search": whole}
    return loading.parse(json.dumps(body))


def show(surface: Surface, search: Mapping[str, Any], fits: int, world: int, slots: int = 1) -> Shown:
    """What the product shows after the epochs of `fits` whole fits, or when it ends before."""
    root = Path(tempfile.mkdtemp(prefix="search-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        return _Run(surface, specification(surface, search, fits, world), root / "bench", world).show(fits, slots)
    finally:
        shutil.rmtree(root, ignore_errors=True)


class InMemory(Study):
    """The study without a database: the same asks and tells, a tenth of the time."""

    def _storage(self) -> optuna.storages.BaseStorage:
        return optuna.storages.InMemoryStorage()


class _Run:
    """One sweep, from its first proposal to what it shows."""

    def __init__(self, surface: Surface, spec: SweepSpec, path: Path, world: int) -> None:
        path.mkdir()
        self.surface, self.spec, self.world = surface, spec, world
        self.folder = SweepFolder(path, token=1)
        self.study = InMemory(spec, f"sqlite:///{path / 'study.db'}", create=True)
        rule = stopping_rule(spec, self.folder, self.study)
        self.queue = FitQueue(self.study, self.folder, spec.search, spec.resources, stopping=rule)
        self.epochs = 0

    def show(self, fits: int, slots: int) -> Shown:
        workers, left = Workers(slots, self.world), fits * EPOCHS
        self.queue.slots = slots
        self.queue.begin()
        while True:
            while workers.free and left >= EPOCHS and (order := self.queue.next()) is not None:
                if order.kind != "fit":  # test numbers: nothing is searched any more
                    left = 0
                    break
                left -= EPOCHS
                workers.begin((order, 1))
            if workers.idle:
                return self._shown()
            order, epoch = workers.end()
            self.epochs += 1
            curve = self.surface.curve(order.params, order.seed, self.world)
            values = dict(zip(OBJECTIVES, curve[epoch - 1].tolist(), strict=True))
            self.queue.reported(order, epoch, values)
            if epoch < EPOCHS and not self.queue.prunes(order, epoch, values):
                workers.begin((order, epoch + 1))
                continue
            if epoch == EPOCHS:
                self._write(order, curve.tolist())
            left += EPOCHS - epoch
            self.queue.done(order)

    def _write(self, order: Order, curve: list[list[float]]) -> None:
        history = [
            {"epoch": epoch} | {f"val_{name}": value for name, value in zip(OBJECTIVES, row, strict=True)}
            for epoch, row in enumerate(curve, 1)
        ]
        body = {"params": dict(order.params), "values": dict(zip(OBJECTIVES, curve[-1], strict=True)), "error": None}
        body |= {"history": history, "reasons": {}, "groups": [], "provenance": {}, "seconds": float(EPOCHS)}
        self.folder.fit(order.number, order.seed).write_result(body)

    def _shown(self) -> Shown:
        results = Results(self.folder, self.spec, *self.study.look())
        able = results.able
        place = {trial.number: row for row, trial in enumerate(able)}
        sure = self._sure(results)
        rows, certain = [place[n] for n in results.front], [place[n] for n in results.front if n in sure]
        return Shown([dict(trial.params) for trial in able], rows, certain, self.epochs)

    def _sure(self, results: Results) -> Collection[int]:
        """The trials that are surely on the true front, in the product's own words."""
        recommended = results.recommendation()
        return () if recommended is None else recommended.stability.sure
