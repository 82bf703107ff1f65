"""What an interruption cost: the epochs in flight, which are trained again from the checkpoint before them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.engine.watchdog import BEAT_S
from sweeper.state.sweep_folder import FitFolder


@dataclass(frozen=True)
class Cost:
    """The number of fits in flight, and at most how many processor-seconds are paid for again.

    A fit notes now and then how long its epoch has taken so far, by its own clock. `unknown` is the number of fits
    whose note was torn.
    """

    fits: int = 0
    gpu_s: float = 0.0
    cpu_s: float = 0.0
    unknown: int = 0

    def __str__(self) -> str:
        if not self.fits:
            return "resumed: no fit was in flight, nothing is paid again"
        plural = "s were" if self.fits > 1 else " was"
        paid = f"{self.gpu_s:.0f} GPU-seconds" if self.gpu_s else f"{self.cpu_s:.0f} CPU-seconds"
        torn = f" and what {self.unknown} of them spent, whose note is torn" if self.unknown else ""
        return f"resumed: {self.fits} fit{plural} in flight; at most {paid} are paid again{torn}"


def settle(fits: Iterable[FitFolder], every_s: float = BEAT_S) -> Cost:
    """The cost of the interruption that left `fits` unfinished. Their notes are deleted, so it is counted once.

    A fit's note reached this folder every `every_s` seconds: its epoch may have taken so much longer than it says.
    """
    notes = []
    for fit in fits:
        note = fit.in_flight()
        if note is not None and fit.result() is None:
            notes.append(note)
        fit.unmark()
    whole = [note for note in notes if "elapsed_s" in note]
    gpu_s = sum((note["elapsed_s"] + every_s) * note["gpus"] for note in whole)
    cpu_s = sum((note["elapsed_s"] + every_s) * note["cpus"] for note in whole)
    return Cost(len(notes), gpu_s, cpu_s, unknown=len(notes) - len(whole))
