"""What a method is to the training loop: from the losses of a batch to one number to descend, or a last layer.

Shapes: N examples, F features, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from trainables.arrays import Floats
from trainables.data.base import Groups


@dataclass(frozen=True)
class GroupInfo:
    """The groups whose losses a method may weigh, and how many training examples each has (0 is allowed).

    `members` is empty where they are a partition: then `groups_N` of a batch are groups. Where they overlap `groups_N`
    are rows of `members`, which say of each group whether such an example is in it.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    members: tuple[tuple[bool, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.counts):
            raise ValueError(f"{len(self.names)} names, {len(self.counts)} counts. Give one count for each group.")

    @classmethod
    def of(cls, groups: Groups) -> GroupInfo:
        """Those of a training split."""
        members = () if groups.members_PG is None else tuple(map(tuple, groups.members_PG.tolist()))
        return cls(groups.names, tuple(groups.counts_G.tolist()), members)

    def __len__(self) -> int:
        return len(self.names)


class Objective(ABC):
    """Turns the per-example losses of one batch into the scalar that is differentiated.

    It is called inside the training step: no `.item()`, no printing, nothing that waits for the
    device. What it wants logged it returns as detached scalars; their mean is kept each epoch.
    """

    @abstractmethod
    def __call__(self, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to descend, and detached scalars for the log."""

    def state(self) -> dict[str, Tensor]:
        """What the method remembers from batch to batch; most remember nothing."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `state()`.

        Raises:
            ValueError: there is state for a method that keeps none.
        """
        if tensors:
            raise ValueError(f"{type(self).__name__} keeps no state, but was given {', '.join(sorted(tensors))}.")


@dataclass(frozen=True)
class LastLayer:
    """What a refit gives: weights for the head, and what it says of itself, for the last epoch's log.

    A refit is a function `(features_NF, labels_N, groups_N, *, C, params, seed) -> LastLayer` of held-out examples.
    """

    weight_CF: Floats
    bias_C: Floats
    log: Mapping[str, float]
