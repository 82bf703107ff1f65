"""FairLoRA's objective: the mean loss plus lambda times the spread of the groups' losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor

from trainables.methods.base import GroupInfo, Objective
from trainables.methods.losses import variance_penalty

if TYPE_CHECKING:
    from trainables.params import Params

Reduction = Literal["sum", "mean"]


@dataclass
class VariancePenalty(Objective):
    """J = L + lambda * sum over the groups present of (L_g - mean of L_g)^2. FairLoRA, section 4.1.

    Where groups overlap (`member_GP`) L_g is the mean over the members of g.
    """

    weight: float
    groups: int
    reduction: Reduction
    member_GP: Tensor | None = field(default=None, compare=False)

    def __call__(self, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = loss_N.mean()
        if self.weight == 0:  # 0 * inf is nan, and the baseline must stay the baseline
            return loss, {}
        if self.member_GP is not None:
            self.member_GP = self.member_GP.to(loss_N.device)  # moves once
        penalty = variance_penalty(loss_N, groups_N, self.groups, self.reduction, self.member_GP)
        return loss + self.weight * penalty, {}


def objective(*, params: Params, groups: GroupInfo, reduction: str) -> Objective:
    """The penalised loss at `params["lambda"]`, over the groups of each batch."""
    member_GP = torch.tensor(groups.members).T.contiguous() if groups.members else None
    return VariancePenalty(params["lambda"], len(groups), cast(Reduction, reduction), member_GP)
