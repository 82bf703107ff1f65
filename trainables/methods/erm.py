"""Empirical risk minimisation: the mean loss and nothing else. The baseline of every fair method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from trainables.methods.base import GroupInfo, Objective

if TYPE_CHECKING:
    from trainables.params import Params


class MeanLoss(Objective):
    """J = L, the mean over the batch."""

    def __call__(self, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return loss_N.mean(), {}


def objective(*, params: Params, groups: GroupInfo, reduction: str) -> Objective:
    """The mean loss; the groups play no part."""
    return MeanLoss()
