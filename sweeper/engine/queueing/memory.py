"""Where a queue's trials come from, what all their fits share, and which fits lack their test numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sweeper.engine.order import SHARED
from sweeper.errors import Corrupt
from sweeper.front import recommend
from sweeper.state.asking.next_point import Proposal
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial


class Memory(Protocol):
    """Where a queue's trials come from, and what hears of their end; `Study` says what each method gives."""

    @property
    def objectives(self) -> Mapping[str, str]: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    def open_proposals(self) -> list[Proposal]: ...
    def propose(self, left: float = ...) -> Proposal | None: ...
    def complete(self, number: int, by_seed: Sequence[Mapping[str, float | None]]) -> Trial: ...
    def fail(self, number: int, reason: str) -> Trial: ...
    def prune(self, number: int, where: str) -> Trial: ...
    def trials(self) -> list[Trial]: ...
    def look(self) -> tuple[list[Trial], list[int]]: ...


def known(study: Memory, folder: SweepFolder) -> dict[str, str]:
    """What all fits of the sweep share: as the study began, and as its complete trials were trained."""
    same = shared(study.identity)
    same.pop("split_hash", None)  # the study's is of all records, the fits' of those whose image can be read
    for trial in study.trials():
        if trial.state is State.COMPLETE:
            with contextlib.suppress(Corrupt):  # the next trial has it too
                result = folder.fit(trial.number, trial.seed_list[0]).result()
                same = {**shared((result or {}).get("provenance", {})), **same}
        if same.keys() == SHARED.keys():
            break
    return same


def shared(made: Mapping[str, Any]) -> dict[str, str]:
    """What a fit's provenance says of `SHARED`."""
    return {key: str(made[key]) for key in SHARED if made.get(key) is not None}


def unmeasured(
    trials: Sequence[Trial],
    front: Sequence[int],
    objectives: Mapping[str, str],
    folder: SweepFolder,
) -> list[tuple[Trial, int]]:
    """Fits that lack their test numbers: of the front, the baselines, and each method's points."""
    of_methods = recommend.measured_per_method(trials, objectives)
    of_baselines = recommend.measured_per_baseline(trials, objectives)
    found = []
    for trial in trials:
        # An attempt that ended before methods' points were measured has dropped the weights of dominated trials.
        kept = trial.number in of_methods and folder.fit(trial.number, trial.seed_list[0]).weights.is_dir()
        if trial.number in front or trial.number in of_baselines or kept:
            found += [(trial, seed) for seed in trial.seed_list if not folder.held_out(trial.number, seed).exists()]
    return found
