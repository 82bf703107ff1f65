"""The METHODS table and its objectives, over tensors alone; whole trainings are in test_finetuning.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainables.methods import ERM, GROUP_DRO, METHODS
from trainables.methods.base import GroupInfo, Objective
from trainables.methods.groupdro import GroupDRO
from trainables.params import Params

LOSS_N, GROUPS_N = torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0, 0, 1, 1])
BALANCED = (2, 2)
LIKE_THE_MEAN = {GROUP_DRO: "a mean over groups, not over examples"}  # objectives to which the mean's law is no law


def built(
    method: str, weight: float = 1.0, reduction: str = "sum", counts: tuple[int, ...] = BALANCED, **more: float
) -> Objective:
    own = {"lambda": weight} if METHODS[method].fair else {}
    params = Params.from_flat({"method": method, **own, **more})
    groups = GroupInfo(tuple("abcdefgh"[: len(counts)]), counts)
    objective: Objective = METHODS[method].objective.load()(params=params, groups=groups, reduction=reduction)
    return objective


def descent(objective: Objective, loss_N: Tensor, groups_N: Tensor) -> tuple[Tensor, Tensor]:
    """The scalar, and its gradient by each example's loss."""
    loss_N = loss_N.clone().requires_grad_(True)
    loss, _ = objective(loss_N, groups_N)
    (grad_N,) = torch.autograd.grad(loss, loss_N)
    return loss.detach(), grad_N


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_scalar_that_can_be_differentiated(method: str) -> None:
    loss_N = LOSS_N.clone().requires_grad_(True)
    loss, logs = built(method)(loss_N, GROUPS_N)
    loss.backward()
    assert loss.shape == ()
    assert loss_N.grad is not None
    assert loss_N.grad.isfinite().all()
    assert not any(value.requires_grad for value in logs.values())


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.objective not in LIKE_THE_MEAN])
def test_a_method_with_nothing_to_mend_is_the_baseline_bit_for_bit(method: str) -> None:
    """Lambda 0, and groups of equal size: the mean loss and its gradient."""
    loss_N, groups_N = torch.linspace(0.1, 7, 33), torch.arange(33) % 3
    for mine, plain in zip(
        descent(built(method, 0.0, counts=(11, 11, 11)), loss_N, groups_N),
        descent(built("lora"), loss_N, groups_N),
        strict=True,
    ):
        assert torch.equal(mine, plain)


@pytest.mark.parametrize("method", METHODS)
def test_a_group_that_train_does_not_have_changes_nothing(method: str) -> None:
    without, having = built(method), built(method, counts=(*BALANCED, 0))
    for _ in range(3):
        for mine, other in zip(descent(without, LOSS_N, GROUPS_N), descent(having, LOSS_N, GROUPS_N), strict=True):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("method", METHODS)
def test_a_group_that_a_batch_does_not_have_is_harmless(method: str) -> None:
    loss, grad_N = descent(built(method, counts=(2, 2, 5)), LOSS_N, GROUPS_N)
    assert loss.isfinite()
    assert grad_N.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_examples_changes_nothing(method: str) -> None:
    loss_N, groups_N = torch.linspace(0.1, 7, 32).square(), torch.arange(32) % 3
    order_N = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    one, other = built(method, counts=(11, 11, 10)), built(method, counts=(11, 11, 10))
    loss, grad_N = descent(one, loss_N, groups_N)
    permuted, permuted_grad_N = descent(other, loss_N[order_N], groups_N[order_N])
    torch.testing.assert_close(loss, permuted)
    torch.testing.assert_close(grad_N[order_N], permuted_grad_N)
    for name, tensor in one.state().items():
        torch.testing.assert_close(tensor, other.state()[name])


@pytest.mark.parametrize("method", METHODS)
def test_the_names_of_the_groups_change_nothing(method: str) -> None:
    mine, other = built(method, counts=(2, 6)), built(method, counts=(6, 2))
    for _ in range(3):
        torch.testing.assert_close(descent(mine, LOSS_N, GROUPS_N), descent(other, LOSS_N, 1 - GROUPS_N))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_from_the_state_it_gives_bit_for_bit(method: str) -> None:
    one, other = built(method), built(method)
    one(LOSS_N, GROUPS_N)
    other.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    assert torch.equal(one(LOSS_N, GROUPS_N)[0], other(LOSS_N, GROUPS_N)[0])


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.objective == ERM])
def test_a_plain_method_descends_the_mean_loss(method: str) -> None:
    assert built(method)(LOSS_N, GROUPS_N)[0].item() == 2.0


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 2 + 10 * 2), ("mean", 2 + 10 * 1)])
def test_fairlora_adds_lambda_times_the_penalty(reduction: str, expected: float) -> None:
    assert built("fairlora", 10, reduction)(LOSS_N, GROUPS_N)[0].item() == expected


def test_lambda_zero_times_an_infinite_penalty_is_not_nan() -> None:
    loss_N = torch.tensor([1e30, 1.0])
    assert built("fairlora", 0.0)(loss_N, torch.tensor([0, 1]))[0].isfinite()


def test_group_dro_multiplies_a_weight_by_exp_of_eta_times_the_loss() -> None:
    objective = built("lora-groupdro", eta=math.log(2))
    loss, logs = objective(LOSS_N, GROUPS_N)  # losses 1 and 3: factors 2 and 8, weights 0.2 and 0.8
    assert loss.item() == pytest.approx(0.2 * 1 + 0.8 * 3)
    assert logs["largest_group_weight"].item() == pytest.approx(0.8)
    loss, _ = objective(LOSS_N, GROUPS_N)  # 0.4 : 6.4
    assert loss.item() == pytest.approx((1 + 16 * 3) / 17)


def test_the_gradient_of_group_dro_takes_the_weights_as_they_are() -> None:
    _, grad_N = descent(built("lora-groupdro", eta=math.log(2)), LOSS_N, GROUPS_N)
    torch.testing.assert_close(grad_N, torch.tensor([0.1, 0.1, 0.4, 0.4]))  # q 0.2 and 0.8, two examples each


def test_group_dro_with_eta_zero_is_the_mean_over_groups() -> None:
    uneven_N = torch.tensor([0, 0, 0, 1])  # means 5/3 and 3
    assert built("fft-groupdro", eta=0.0)(LOSS_N, uneven_N)[0].item() == pytest.approx((5 / 3 + 3) / 2)


def test_group_dro_outlives_a_huge_loss() -> None:
    objective = built("lora-groupdro")
    loss, _ = objective(torch.tensor([1e6, 1.0]), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(1e6)
    assert objective(LOSS_N, GROUPS_N)[0].isfinite()


def test_the_weight_of_a_group_absent_from_the_batch_keeps_its_ratio_to_others_that_are() -> None:
    objective = built("lora-groupdro", counts=(2, 2, 2, 2), eta=1.0)
    objective(LOSS_N, GROUPS_N)
    q_G = objective.state()["log_q_G"].exp()
    assert q_G[2] == q_G[3]
    assert q_G[0] / q_G[2] == pytest.approx(math.e)


def test_reweighting_divides_by_the_sizes_and_keeps_the_mean_weight_at_one() -> None:
    objective = built("lora-reweight", counts=(6, 2))  # weights 8 / (2 * 6) and 8 / (2 * 2)
    assert objective(LOSS_N, GROUPS_N)[0].item() == pytest.approx((2 * 2 / 3 + 2 * 3 * 2) / 4)
    train_N = torch.tensor([0] * 6 + [1] * 2)
    assert objective(torch.ones(8), train_N)[0].item() == pytest.approx(1.0)


def test_state_for_a_method_that_keeps_none_is_refused() -> None:
    with pytest.raises(ValueError, match="MeanLoss keeps no state, but was given weights_G"):
        built("lora").load_state({"weights_G": torch.ones(2)})


@pytest.mark.parametrize("state", [{}, {"log_q_G": torch.zeros(3)}])
def test_state_of_other_groups_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="needs log_q_G of 2 groups, but was given"):
        GroupDRO(0.01, GroupInfo(("a", "b"), (1, 1))).load_state(state)


def test_groups_without_a_count_are_refused() -> None:
    with pytest.raises(ValueError, match="2 names, 1 counts"):
        GroupInfo(("a", "b"), (1,))


def test_only_methods_that_draw_groups_evenly_choose_their_sampler() -> None:
    choosing = {name for name, method in METHODS.items() if method.sampler}
    assert choosing == {"lora-groupdro", "fft-groupdro", "lora-balanced", "fft-balanced"}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_names_its_source(method: str) -> None:
    assert any(character.isdigit() for character in METHODS[method].source)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.adapter == "lora"])
def test_every_lora_method_has_a_twin_that_differs_in_the_weights_that_move_alone(method: str) -> None:
    mine, twin = METHODS[method], METHODS[method.replace("lora", "fft")]
    assert (mine.adapter, twin.adapter) == ("lora", "full")
    assert (twin.objective, twin.sampler, twin.refit) == (mine.objective, mine.sampler, mine.refit)
