"""Whether a pack pays on this machine: a few steps of fits to throw away, packed and alone in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trainables.finetuning import FineTuning
from trainables.packing.pack import Pack
from trainables.params import Params
from trainables.training.fit import Epoch, Fit

WARM, FEWEST = 2, 5  # steps that do not count, and that do at the least


def gain(tuning: FineTuning, params: Sequence[Params], *, steps: int = 20, limit_s: float = 30.0) -> float:
    """How many times as long K steps take alone as packed, K the number of `params`: more than 1 is faster.

    A packed step of all and a step of one fit alone are timed in turn, `steps` times, or until `limit_s` have passed;
    the fits are made for it from the seeds 0, 1, ... `tuning` is prepared, and its own fit is left as it is.

    Raises:
        Unpackable: there is no such pack.
        FitError: `out-of-memory`: try fewer.
    """
    tunings = [tuning.another() for _ in range(len(params) + 1)]
    for seed, (each, own) in enumerate(zip(tunings, [*params, params[0]], strict=True)):
        each.aim(own, seed)
    *members, single = tunings
    step = Pack(members).step(range(len(members)))
    packed = _Again([each.fit for each in members], [each.fit.begin(each.inputs) for each in members])
    alone = _Again([single.fit], [single.fit.begin(single.inputs)])
    arms: tuple[Callable[[], object], ...] = (
        lambda: step(packed.epochs()),
        lambda: single.fit.advance(*alone.epochs()),
    )
    spent: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    with tuning.runtime.memory(f"training {len(members)} fits at once"), tuning.runtime.seeded(0):
        for turn in range(WARM + steps):
            for arm, seconds in list(zip(arms, spent, strict=True))[:: 1 if turn % 2 else -1]:
                seconds.append(_timed(arm, tuning.runtime.device))
            if turn >= WARM + FEWEST and time.perf_counter() - began > limit_s:
                break
    packed_s, alone_s = (statistics.median(seconds[WARM:]) for seconds in spent)
    return len(members) * alone_s / packed_s


@dataclass(frozen=True)
class _Again:
    """Fits that begin their epoch again where it ends."""

    fits: Sequence[Fit]
    own: Sequence[Epoch]

    def epochs(self) -> Sequence[Epoch]:
        """The epochs, of which a step is left."""
        for fit, epoch in zip(self.fits, self.own, strict=True):
            if fit.step == epoch.steps:
                fit.step = 0
        return self.own


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done it; of one thread those that it had, whoever else the machine served."""
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began
