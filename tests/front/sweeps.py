"""Made-up sweeps whose truth is known: points in truth, seeds and examples that scatter around them."""

from __future__ import annotations

import numpy as np

from sweeper.front.noise import Sample

OBJECTIVES = {"accuracy": "max", "adjusted_accuracy": "max"}
NOISE = 0.02  # of one fit, and of every seed for all trials alike


def surface(rng: np.random.Generator, trials: int, *, collapsed: float = 0.0) -> np.ndarray:
    """Points [T, 2] of a trade-off: a parameter buys one objective with the other, a second one is best in between."""
    trade_T, other_T = rng.uniform(-2, 2, trials), rng.uniform(0, 1, trials)
    first_T = 0.85 - 0.02 * np.maximum(trade_T + 0.5, 0) ** 2 - 0.05 * (other_T - 0.6) ** 2
    second_T = -(0.3 - 0.08 * np.tanh(trade_T) + 0.1 * (other_T - 0.4) ** 2)
    lost_T = (rng.random(trials) < collapsed) * rng.uniform(0.2, 0.5, trials)
    return np.stack([first_T - lost_T, second_T - lost_T], axis=1)


def measured(
    rng: np.random.Generator, true_TM: np.ndarray, seeds: int, *, noise_T: np.ndarray | float = NOISE,
    examples: float = 0.0,
) -> Sample:  # fmt: skip
    """What a sweep would measure. `examples`: the deviation that the examples give to each trial, and to all alike."""
    T, M = true_TM.shape
    own_TSM = np.reshape(noise_T, (-1, 1, 1)) * rng.standard_normal((T, seeds, M))
    values_TSM = true_TM[:, None] + own_TSM + NOISE * rng.standard_normal((1, seeds, M))
    examples_BCSM = None
    if examples:
        values_TSM = values_TSM + examples * (rng.standard_normal((T, 1, M)) + rng.standard_normal((1, 1, M)))
        moved_BCSM = rng.standard_normal((60, T, 1, M)) + rng.standard_normal((60, 1, 1, M))
        examples_BCSM = values_TSM + examples * moved_BCSM
    return Sample(OBJECTIVES, tuple(range(T)), values_TSM, np.arange(T), examples_BCSM, 600 if examples else 0)
