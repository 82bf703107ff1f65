"""What early stopping saves, and whom it loses: each rule on made-up sweeps whose true front is known, or on real ones.

    python -m benchmarks.search.stopping [--repetitions 200]
    python -m benchmarks.search.stopping --sweep FOLDER    # the curves of a finished sweep, reordered

A made-up sweep has 36 trials of 12 epochs, two objectives that lambda trades, and trials that are worse in both. A
curve nears its trial's truth at a pace of its own; a fit has the luck of its seed, and of each epoch.
`shown` is the front that the sweep would show without early stopping; `true` is that of the numbers without luck, which
one seed shows only in part.

Shapes: T trials, S seeds, E epochs, M objectives.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from sweeper.front import pareto
from sweeper.front.forecast import LIMITS, Forecast
from sweeper.front.halving import Halving
from sweeper.front.stopping import StoppingRule
from sweeper.trial import State, Trial
from trainables.arrays import Floats, Mask

SIGNS = {"accuracy": 1.0, "less_delta": 1.0}
TRIALS, EPOCHS = 36, 12
WORLDS = {  # luck of a seed, luck of an epoch (of accuracy; twice that of delta F1), how much trials differ in pace
    "quiet": (0.003, 0.004, 0.3),
    "noisy": (0.01, 0.01, 0.3),
    "slow starters": (0.005, 0.01, 0.8),
}
ARMS = ("gentle", "strong", "halving")


def rule_of(arm: str) -> StoppingRule:
    """Fresh, for one sweep."""
    return Halving(2, 3, SIGNS) if arm == "halving" else Forecast(*LIMITS[arm], SIGNS)


def made_up(rng: np.random.Generator, seeds: int, world: str) -> tuple[Floats, Floats]:
    """The truth [T, M], and the curves [T, S, E, M]; greater is better."""
    by_seed, by_epoch, differ = WORLDS[world]
    trade_T, flaw_T = rng.uniform(-1, 1, TRIALS), rng.exponential(0.03, TRIALS)
    accuracy_T = 0.9 - 0.12 * np.maximum(trade_T, 0) ** 2 - flaw_T + rng.normal(0, 0.004, TRIALS)
    less_delta_T = 0.08 * trade_T - 0.25 - 0.8 * flaw_T + rng.normal(0, 0.01, TRIALS)
    true_TM = np.stack([accuracy_T, less_delta_T], axis=1)
    pace_T, passed_E = 0.22 * np.exp(rng.normal(0, differ, TRIALS)), np.arange(1, EPOCHS + 1) / EPOCHS
    left_TE = np.exp(-passed_E / pace_T[:, None]) - np.exp(-1 / pace_T)[:, None]
    depth_TM = np.array([0.35, 0.25]) * (1 + 0.2 * rng.standard_normal((TRIALS, 2)))
    curves_TEM = true_TM[:, None] - left_TE[:, :, None] * depth_TM[:, None]
    luck_TSM = rng.standard_normal((TRIALS, seeds, 2)) * by_seed * np.array([1, 2])
    calmer_E = 1 - 0.7 * passed_E  # the learning rate falls
    jumps_TSEM = rng.standard_normal((TRIALS, seeds, EPOCHS, 2)) * calmer_E[:, None] * by_epoch * np.array([1, 2])
    return true_TM, curves_TEM[:, None] + luck_TSM[:, :, None] + jumps_TSEM


def lived(curves_TSEM: Floats, rule: StoppingRule) -> tuple[Mask, float]:
    """Which trials were trained to their end, and the share of epochs that was saved. Trial 0 is a baseline."""
    T, S, E, _ = curves_TSEM.shape
    lives_T, trained = np.ones(T, dtype=np.bool_), 0
    for number in range(T):
        state, cost = State.COMPLETE, S * E
        for epoch in rule.rungs(E):
            rule.note(number, E, epoch, dict(zip(SIGNS, curves_TSEM[number, 0, epoch - 1], strict=True)))
            if number > 0 and rule.stops(number, E, epoch):
                state, cost, lives_T[number] = State.PRUNED, epoch, False
                break
        trained += cost
        values = dict(zip(SIGNS, curves_TSEM[number, :, -1].mean(axis=0), strict=True))
        rule.told(Trial(number, state, {}, values=values))
    return lives_T, 1 - trained / (T * S * E)


def measured(curves_TSEM: Floats, true_TM: Floats, arm: str) -> tuple[float, ...]:
    """Saved; a member lost, share of members lost, share of hypervolume lost: of the shown front, then of the true."""
    lives_T, saved = lived(curves_TSEM, rule_of(arm))
    found = [saved]
    for points_TM in (curves_TSEM[:, :, -1].mean(axis=1), true_TM):
        lost_F = ~lives_T[pareto.front(points_TM)]
        corner_M = points_TM.min(axis=0) - 0.01
        kept = pareto.hypervolume(points_TM[lives_T], corner_M) / pareto.hypervolume(points_TM, corner_M)
        found += [float(lost_F.any()), float(lost_F.mean()), 1 - kept]
    return tuple(found)


def show(name: str, arm: str, rows: list[tuple[float, ...]]) -> None:
    """One line: means; of what is saved the quartiles, of the chance its standard error."""
    table = np.array(rows)
    low, mid, high = np.percentile(table[:, 0], [25, 50, 75])
    parts = [f"saved {mid:.0%} ({low:.0%} to {high:.0%})"]
    for label, start in (("shown", 1), ("true", 4)):
        lost, share, volume = table[:, start : start + 3].mean(axis=0)
        error = np.sqrt(lost * (1 - lost) / len(table))
        parts.append(f"{label}: lost any in {lost:.1%} +- {error:.1%}, of members {share:.1%}, of volume {volume:.2%}")
    print(f"{name:24} {arm:8} {'; '.join(parts)}", flush=True)


def recorded(folder: Path) -> Floats:
    """The curves [T, S, E, M] of a finished sweep's complete trials, accuracy and delta F1, as greater is better."""
    results = [[json.loads(file.read_text()) for file in sorted(trial.glob("*/result.json"))] for trial in
               sorted((folder / "trials").iterdir())]  # fmt: skip
    curves = [
        [[(row["val_accuracy"], -row["val_delta_f1"]) for row in fit["history"]] for fit in fits] for fits in results
    ]
    return np.array(curves)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--sweep", type=Path)
    asked = parser.parse_args()
    for seeds in () if asked.sweep else (1, 3):
        for world in WORLDS:
            drawn = [made_up(np.random.default_rng(n), seeds, world) for n in range(asked.repetitions)]
            for arm in ARMS:
                show(f"{world}, {seeds} seeds", arm, [measured(curves, true, arm) for true, curves in drawn])
    if asked.sweep:
        curves_TSEM = recorded(asked.sweep)
        orders = [np.random.default_rng(n).permutation(len(curves_TSEM)) for n in range(asked.repetitions)]
        for arm in ARMS:
            sweeps = [curves_TSEM[order] for order in orders]
            show(asked.sweep.name, arm, [measured(c, c[:, :, -1].mean(axis=1), arm) for c in sweeps])


if __name__ == "__main__":
    main()
