"""The fairness penalty and its parts: pure functions of tensors. Nothing here waits for the device.

Shapes: N examples of a batch, G groups of the dataset, P patterns of membership where groups overlap. Most groups are
absent from a small batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def group_means(loss_N: Tensor, groups_N: Tensor, G: int, member_GP: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean loss of each group and how many examples it rests on.

    Where groups overlap (`member_GP`) `groups_N` are patterns, and L_g is the mean over the members of g: sum over i in
    g of L_i / n_g. An example counts in each group that it is in, and one that is in none counts in none.

    A masked sum rather than a scatter: the same order of additions on every device and every run,
    and a nan in one group stays out of the others.

    Returns:
        `mean_G` (0 where the group is absent, so look at the count first) and `count_G`.
    """
    if member_GP is None:
        member_GN = groups_N == torch.arange(G, device=groups_N.device).unsqueeze(1)
    else:
        member_GN = member_GP[:, groups_N]
    count_G = member_GN.sum(1)
    sum_G = torch.where(member_GN, loss_N, 0.0).sum(1)
    return sum_G / count_G.clamp(min=1), count_G


def variance_penalty(
    loss_N: Tensor,
    groups_N: Tensor,
    G: int,
    reduction: Literal["sum", "mean"] = "sum",
    member_GP: Tensor | None = None,
) -> Tensor:
    """Sum over the groups of (mean loss of the group - mean over the groups)^2, on one batch.

    Groups may overlap, as in `group_means`.

    Only groups that are present count: an absent one has no loss, and taking it for 0 would punish
    a perfectly fair model. One group present gives 0. The gradient flows through the inner mean
    too; its term cancels, so that it equals the printed formula.

    Returns:
        A scalar, in squared units of the loss.

    Source:
        FairLoRA, section 4.1 and appendix A.5. `reduction="mean"` divides by the groups present;
        lambda in [0.01, 100] refers to the sum.
    """
    mean_G, count_G = group_means(loss_N, groups_N, G, member_GP)
    present_G = count_G > 0
    present = present_G.sum().clamp(min=1)  # an empty batch must not divide by 0
    centred_G = torch.where(present_G, mean_G - mean_G.sum() / present, 0.0)
    total = centred_G.square().sum()
    return total / present if reduction == "mean" else total
