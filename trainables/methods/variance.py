"""FairLoRA's objective: the mean loss plus lambda times the spread of the groups' losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from torch import Tensor

from trainables.methods.base import GroupInfo, Objective
from trainables.methods.losses import variance_penalty

if TYPE_CHECKING:
    from trainables.params import Params

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class VariancePenalty(Objective):
    """J = L + lambda * sum over the groups present of (L_g - mean of L_g)^2. FairLoRA, section 4.1."""

    weight: float
    groups: int
    reduction: Reduction

    def __call__(self, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = loss_N.mean()
        if self.weight == 0:  # 0 * inf is nan, and the baseline must stay the baseline
            return loss, {}
        return loss + self.weight * variance_penalty(loss_N, groups_N, self.groups, self.reduction), {}


def objective(*, params: Params, groups: GroupInfo, reduction: str) -> Objective:
    """The penalised loss at `params["lambda"]`, over the groups of each batch."""
    return VariancePenalty(params["lambda"], len(groups), cast(Reduction, reduction))
