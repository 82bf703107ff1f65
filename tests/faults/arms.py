"""Whom a storm strikes: our own sweeps, and the stock design. How each is begun, gone on with, and audited."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import ledger
from tests.faults.ledger import Tally

EPOCHS = 8
SPEC = """
name: {name}
groups: cell
space:
  method: [lora, fairlora]
  lambda: {{low: 0.1, high: 10, log: true}}
  rank: [4, 8]
  learning_rate: 2e-3
  epochs: {epochs}
search: {{sampler: tpe, trials: {trials}, seeds: {seeds}, seed: {number}, baselines: [lora]}}
resources: {{max_concurrent: {slots}, max_retries: 1000}}
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
    after so many faults."""

    name: str
    command: Callable[[Case], list[str]]
    audit: Callable[[Case, int], Tally]
    epochs_needed: int


def sweeper(
    *, trials: int = 4, seeds: int = 2, epochs: int = EPOCHS, study: str | None = None, record: str | None = None
) -> Arm:
    """Our own; `study` and `record` are URLs of databases, None those in the folders."""

    def command(case: Case) -> list[str]:
        program = [sys.executable, "-m", "sweeper"]
        if (case.folder / "spec.yaml").exists():
            return [*program, "resume", case.name, "--root", str(case.lane)]
        urls = {"study": study, "mlflow": record}
        storage = ", ".join(f"{name}: '{url}'" for name, url in urls.items() if url)
        asked = SPEC.format(
            name=case.name,
            number=case.number,
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
        return ledger.of_sweeper(case.folder, case.ledger, **stores, asked=trials, seeds=seeds, faults=faults)

    return Arm("sweeper", command, audit, epochs_needed=trials * seeds * epochs)


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
