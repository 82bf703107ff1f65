"""Group DRO: the groups that do badly weigh more and more, and the model follows the weighted loss.

Sagawa et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", algorithm 1. Its first line,
groups drawn uniformly, is this method's sampler.

Shapes: N examples of a batch, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.methods.base import GroupInfo, Objective
from trainables.methods.losses import group_means

if TYPE_CHECKING:
    from trainables.params import Params


class GroupDRO(Objective):
    """q_g <- q_g exp(eta L_g), q <- q / sum(q), J = sum over g of q_g L_g; q starts uniform.

    q is kept as its logarithm: a loss of 1e5 must not make it infinite. A group without an example in the
    batch has no loss: it adds nothing, and its weight changes by the normalisation alone. A group
    without any training example has the weight 0. With eta 0, J is the mean over groups.
    """

    def __init__(self, eta: float, groups: GroupInfo) -> None:
        self.eta = eta
        present_G = torch.tensor(groups.counts) > 0
        self.log_q_G = torch.where(present_G, 0.0, -torch.inf).log_softmax(0)

    def __call__(self, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        mean_G, _ = group_means(loss_N, groups_N, len(self.log_q_G))
        log_q_G = self.log_q_G.to(loss_N.device)
        self.log_q_G = (log_q_G + self.eta * mean_G.detach()).log_softmax(0)
        q_G = self.log_q_G.exp()
        # The weights are moved first and used then, as in the algorithm; no gradient flows through them.
        return (q_G * mean_G).sum(), {"largest_group_weight": q_G.max()}

    def state(self) -> dict[str, Tensor]:
        """The groups' log-weights."""
        return {"log_q_G": self.log_q_G}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with the weights of `state()`.

        Raises:
            ValueError: they are not there, or of another number of groups.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != {"log_q_G": tuple(self.log_q_G.shape)}:
            raise ValueError(f"group DRO needs log_q_G of {len(self.log_q_G)} groups, but was given {shapes}.")
        self.log_q_G = tensors["log_q_G"].clone()


def objective(*, params: Params, groups: GroupInfo, reduction: str) -> Objective:
    """Group DRO with step size `params.eta`."""
    return GroupDRO(params.eta, groups)
