"""The method: the mean of the worst losses of a batch (conditional value at risk), whatever groups they belong to.

Levy et al. 2020, "Large-Scale Methods for Distributionally Robust Optimization", section 2.
"""

import math

from torch import Tensor

from trainables.methods.base import GroupInfo, Objective
from trainables.params import Params


class TailLoss(Objective):
    """J = mean of the `share` of the batch's losses that are greatest; share 1 is the plain mean."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        worst_K = loss_N.topk(math.ceil(self.share * len(loss_N))).values
        return worst_K.mean(), {"tail_loss": worst_K.detach().mean()}


def objective(*, params: Params, groups: GroupInfo, reduction: str) -> Objective:
    """The loss of the tail at `params.tail`."""
    return TailLoss(params.tail)
