"""Re-weighting: each example counts 1 / n_g, so that all groups weigh the same in the risk.

Shimodaira 2000, "Improving predictive inference under covariate shift by weighting the log-likelihood function";
as a baseline of group DRO: Sagawa et al. 2020, section 4.

Shapes: N examples of a batch, G groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.methods.base import GroupInfo, Objective

if TYPE_CHECKING:
    from trainables.params import Params


class Reweighted(Objective):
    """J = mean over examples of w_g L_i, w_g = n / (G n_g): the weights' mean over the training split is 1.

    So a learning rate means the same as for the plain mean, and groups of equal size give that mean bit for bit.
    n training examples, n_g of them in group g, G groups that have any.
    """

    def __init__(self, groups: GroupInfo) -> None:
        counts_G = torch.tensor(groups.counts, dtype=torch.float64)  # counts beyond 2^24 have no exact float32
        weight_G = counts_G.sum() / (counts_G.count_nonzero() * counts_G)
        self.weight_G = torch.where(counts_G > 0, weight_G, 0.0).float()

    def __call__(self, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.weight_G = self.weight_G.to(loss_N.device)
        return (self.weight_G[groups_N] * loss_N).mean(), {}


def objective(*, params: Params, groups: GroupInfo, reduction: str) -> Objective:
    """The mean loss, weighted by the inverse sizes of the groups."""
    return Reweighted(groups)
