"""Whom a storm strikes: our own sweeps, and the stock design. How each is begun, gone on with, and audited."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import ledger
from tests.faults.ledger import Tally

EPOCHS = 8
KILLS = {"driver": 8, "actor": 9, "raylet": 2, "gcs": 1}
SPEC = """
name: {name}
groups: cell
space:
  method: [lora, fairlora]
  lambda: {{low: 0.1, high: 10, log: true}}
  rank: [4, 8]
  learning_rate: 2e-3
  epochs: {epochs}
search: {{sampler: {sampler}, trials: {trials}, seeds: {seeds}, seed: {seed}, baselines: [lora]}}
resources: {{max_concurrent: {slots}, max_retries: 1000, checkpoint_every_s: {every_s:g}}}
storage: {{{storage}}}
"""


@dataclass(frozen=True)
class Case:
    """One sweep of a storm: its number, how many fits at once, and the folder of its lane."""

    number: int
    slots: int
    lane: Path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return f"storm-{self.number:03d}"

    @property
    def folder(self) -> Path:
        """All that is the sweep's own."""
        return self.lane / self.name

    @property
    def ledger(self) -> Path:
        """What its fits did."""
        return self.lane / f"{self.name}.jsonl"


@dataclass(frozen=True)
class Arm:
    """`command` begins a sweep or goes on with it, as an operator would type it; `audit` judges it at its end,
    after so many faults. `strikes`: what may happen to it, and how often beside the others (see `storm.STRIKES`);
    after a sign of work, within `work_s`."""

    name: str
    command: Callable[[Case], list[str]]
    audit: Callable[[Case, int], Tally]
    epochs_needed: int
    strikes: Mapping[str, int] = field(default_factory=lambda: dict(KILLS))
    work_s: float = 3.0
    slots: Sequence[int] = (1, 2)
    environment: Mapping[str, str] = field(default_factory=dict)


def sweeper(
    *,
    trials: int = 4,
    seeds: int = 2,
    epochs: int = EPOCHS,
    study: str | None = None,
    record: str | None = None,
    sampler: str = "tpe",
    seed: int | None = None,
    step_s: float = 0.0,
    every_s: float = 60.0,
    **how: Any,
) -> Arm:
    """Our own; `study` and `record` are URLs of databases, None those in the folders; `seed` the search's, else its
    number. With `step_s` a step takes so many seconds more, and an epoch is kept every `every_s` within."""

    def command(case: Case) -> list[str]:
        program = [sys.executable, "-m", "sweeper"]
        if (case.folder / "spec.yaml").exists():
            return [*program, "resume", case.name, "--root", str(case.lane)]
        urls = {"study": study, "mlflow": record}
        storage = ", ".join(f"{name}: '{url}'" for name, url in urls.items() if url)
        asked = SPEC.format(
            name=case.name,
            sampler=sampler,
            seed=case.number if seed is None else seed,
            every_s=every_s,
            slots=case.slots,
            trials=trials,
            seeds=seeds,
            epochs=epochs,
            storage=storage,
        )
        path = case.lane / f"{case.name}.yaml"
        path.write_text(asked)
        return [*program, "run", str(path), "--root", str(case.lane)]

    def audit(case: Case, faults: int) -> Tally:
        stores = {"study": study, "record": record}
        promise = {"faults": faults, "every_s": every_s if step_s else None}
        return ledger.of_sweeper(case.folder, case.ledger, **stores, asked=trials, seeds=seeds, **promise)

    if step_s:
        how["environment"] = {"FITS_STEP_S": str(step_s)}
    return Arm("sweeper", command, audit, epochs_needed=trials * seeds * epochs, **how)


def long(**more: Any) -> Arm:
    """Our own, of fits with long epochs: a step a second, a checkpoint every five."""
    return sweeper(**{"trials": 3, "epochs": 2, "step_s": 1.0, "every_s": 5.0, "work_s": 15.0} | more)


def stock(*, trials: int = 8) -> Arm:
    """Ray Tune, OptunaSearch, MLflowLoggerCallback, Tuner.restore: as many fits, one to a trial."""

    def command(case: Case) -> list[str]:
        case.folder.mkdir(exist_ok=True)
        numbers = {"trials": trials, "epochs": EPOCHS, "slots": case.slots, "seed": case.number}
        options = [text for name, number in numbers.items() for text in (f"--{name}", str(number))]
        return [sys.executable, "-m", "tests.faults.stock_sweep", str(case.folder), *options]

    def audit(case: Case, faults: int) -> Tally:
        return ledger.of_stock(case.folder, case.ledger, asked=trials)

    return Arm("stock", command, audit, epochs_needed=trials * EPOCHS)
