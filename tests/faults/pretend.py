"""An executor without Ray and torch: fits that write what real ones write, in the same order, in no time.

As a program it drives a sweep, and can be made to stop dead (as SIGSTOP does it) at the instant before a write:

    python -m tests.faults.pretend SPEC --ledger FILE --lease-s 1.5 --freeze checkpoint
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from sweeper.engine import driver
from sweeper.engine.attempt import Execute
from sweeper.engine.driver import Executor
from sweeper.engine.order import Order
from sweeper.engine.queue import FitQueue
from sweeper.screen import live
from sweeper.spec import loading
from sweeper.spec.sections import Resources
from sweeper.state import lease
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import audit

EPOCHS = 3


def _nothing(instant: str) -> None:
    """Nobody strikes."""


@dataclass(frozen=True)
class Pretend:
    """Fits of `EPOCHS` epochs of `epoch_s`. `at` is called with `checkpoint`, `result` or `tell` before each."""

    ledger: Path
    epoch_s: float = 0.0
    at: Callable[[str], None] = _nothing

    @property
    def executor(self) -> Executor:
        """What `driver.run` and `driver.resume` take."""

        @contextlib.contextmanager
        def ready(resources: Resources) -> Iterator[Execute]:
            yield self._run

        return ready

    def _run(self, queue: FitQueue, folder: SweepFolder) -> None:
        while (order := queue.next()) is not None:
            self._train(order, folder) if order.kind == "fit" else self._measure(order, folder)
            self.at("tell")
            queue.done(order)
            if folder.stop_file.exists():
                return

    def _train(self, order: Order, folder: SweepFolder) -> None:
        fit = folder.fit(order.number, order.seed)
        history = _history(fit.newest_checkpoint())
        for epoch in range(len(history) + 1, EPOCHS + 1):
            audit.write(self.ledger, "epoch", order.number, order.seed, epoch)
            time.sleep(self.epoch_s)
            history.append({"epoch": epoch, "loss": 1 / epoch, "time_ms": time.time_ns() // 1_000_000})
            self.at("checkpoint")
            fit.save_checkpoint(epoch, save({"x": np.zeros(1)}, {"meta": json.dumps({"history": history})}))
        self.at("result")
        fit.write_result(self._result(order, history))
        audit.write(self.ledger, "done", order.number, order.seed, EPOCHS)

    def _result(self, order: Order, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Numbers that follow from rank and seed: more rank, more accuracy and a wider gap."""
        rank = float(order.params["rank"])
        values = {"accuracy": (rank + order.seed) / 100, "delta_f1": rank / 50}
        empty: dict[str, Any] = {"reasons": {}, "groups": [], "provenance": {}, "error": None}
        return empty | {"params": dict(order.params), "values": values, "history": history, "seconds": 1.0}

    def _measure(self, order: Order, folder: SweepFolder) -> None:
        folder.keep_held_out(order.number, order.seed, {"values": {"accuracy": 0.5, "delta_f1": 0.5}})


def _history(payload: bytes | None) -> list[dict[str, Any]]:
    """The epochs of a checkpoint, out of the header of its safetensors file."""
    if payload is None:
        return []
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    return list(json.loads(header["__metadata__"]["meta"])["history"])


def _freezing(instant: str, after: int, study: Path) -> Callable[[str], None]:
    """Stops this process at the `after`-th instant of that name, until somebody sends CONT.

    Not while a thread of it has the study locked: then a resume would only say who has.
    """
    seen: list[str] = []

    def at(now: str) -> None:
        seen.append(now)
        if now == instant and seen.count(now) == after:
            with contextlib.closing(sqlite3.connect(study, timeout=60, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("ROLLBACK")
            os.kill(os.getpid(), signal.SIGSTOP)

    return at


def main() -> int:
    """Begin the sweep; 2 and the message where it is refused, as the command line does it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--epoch-s", type=float, default=0.0)
    parser.add_argument("--lease-s", type=float, default=lease.TTL_S)
    parser.add_argument("--freeze", choices=("checkpoint", "result", "tell"))
    parser.add_argument("--after", type=int, default=2)
    asked = parser.parse_args()
    lease.TTL_S, lease.RENEW_S = asked.lease_s, min(lease.RENEW_S, asked.lease_s / 5)
    spec = loading.load(asked.spec)
    study = Path(spec.storage.root) / spec.name / "study.db"
    at = _freezing(asked.freeze, asked.after, study) if asked.freeze else _nothing
    try:
        executor = Pretend(asked.ledger, asked.epoch_s, at).executor
        return driver.run(spec, live.Lines(spec.name), executor=executor).exit_code
    except Exception as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
