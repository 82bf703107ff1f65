"""Which examples make up which batch, drawn for each epoch from (seed, epoch); and what an epoch's losses say.

Shapes: N examples of the split, B of a batch, G groups, T batches of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from trainables.arrays import Floats, Ints
from trainables.data.base import Groups

Purpose = Literal["weights", "order", "dropout", "flip", "crop", "refit"]
_PURPOSES: tuple[Purpose, ...] = ("weights", "order", "dropout", "flip", "crop", "refit")


def derived(seed: int, epoch: int, purpose: Purpose, *step: int) -> int:
    """A seed of its own for each use of chance, so that no epoch, or step, depends on what was drawn before it."""
    # Two words joined to one number: torch and numpy both take seeds below 2^63.
    words = np.random.SeedSequence([seed, epoch, _PURPOSES.index(purpose), *step]).generate_state(2, np.uint32)
    return int(words[0]) << 31 ^ int(words[1])


def shuffle(groups_N: Ints, G: int, generator: np.random.Generator) -> Ints:
    """Every example once, in random order."""
    return generator.permutation(len(groups_N))


def group_balanced(groups_N: Ints, G: int, generator: np.random.Generator) -> Ints:
    """N draws in rounds: each round holds one example of every group, in random order.

    Within a group the examples are drawn without replacement until all had their turn, so that a
    rare group is seen often and a frequent one in part. Any `k * G` draws from a round's start hold each
    group k times.
    """
    N = len(groups_N)
    present = np.flatnonzero(np.bincount(groups_N, minlength=G))
    rounds = math.ceil(N / len(present))
    streams = []
    for group in present:
        members = np.flatnonzero(groups_N == group)
        turns = [generator.permutation(members) for _ in range(math.ceil(rounds / len(members)))]
        streams.append(np.concatenate(turns)[:rounds])
    return generator.permuted(np.stack(streams, axis=1), axis=1).reshape(-1)[:N]


BATCH_SAMPLERS: dict[str, Callable[[Ints, int, np.random.Generator], Ints]] = {
    "shuffle": shuffle,
    "group-balanced": group_balanced,
}


def epoch_log(loss_N: Floats, groups: Groups, batch_size: int) -> dict[str, float]:
    """What one epoch's losses, and their groups, in the order of training, say about it.

    Returns:
        `train_loss` (mean over examples); `penalty` (variance penalty as a sum over groups, mean over
        batches, whatever the method); `groups_present` and `groups_singleton` (groups with any and with
        exactly one example in a batch, mean over batches); `train_loss/<group>` (nan if never seen).
    """
    N = len(loss_N)
    T, batch_N = math.ceil(N / batch_size), np.arange(N) // batch_size
    count_TG, sum_TG = _sums(batch_N, loss_N, groups, T)
    present_TG = count_TG > 0
    mean_TG = sum_TG / np.maximum(count_TG, 1)
    centre_T1 = mean_TG.sum(1, keepdims=True) / np.maximum(present_TG.sum(1, keepdims=True), 1)
    centred_TG = np.where(present_TG, mean_TG - centre_T1, 0.0)  # an absent group has no loss, not the loss 0
    return {
        "train_loss": float(loss_N.mean()),
        "penalty": float(np.square(centred_TG).sum(1).mean()),
        "groups_present": float(present_TG.sum(1).mean()),
        "groups_singleton": float((count_TG == 1).sum(1).mean()),
        **{
            f"train_loss/{name}": float(total / n) if n else math.nan
            for name, total, n in zip(groups.names, sum_TG.sum(0), count_TG.sum(0), strict=True)
        },
    }


def _sums(batch_N: Ints, loss_N: Floats, groups: Groups, T: int) -> tuple[Ints, Floats]:
    """How many examples each group has in each batch, and the sum of their losses, `[T, G]`."""
    G = len(groups.names)
    if groups.members_PG is not None:
        members = [groups.member_N(g) for g in range(G)]
        counts = [np.bincount(batch_N[member_N], minlength=T) for member_N in members]
        sums = [np.bincount(batch_N[member_N], loss_N[member_N], minlength=T) for member_N in members]
        return np.stack(counts, axis=1), np.stack(sums, axis=1)
    key_N = batch_N * G + groups.index_N
    count_TG = np.bincount(key_N, minlength=T * G).reshape(T, G)
    sum_TG: Floats = np.bincount(key_N, loss_N, minlength=T * G).reshape(T, G).astype(np.float64)
    return count_TG, sum_TG
