"""The METHODS table and its objectives, over tensors alone; whole trainings are in test_finetuning.py."""

from __future__ import annotations

import pytest
import torch

from trainables.methods import METHODS
from trainables.methods.base import Objective
from trainables.params import Params

LOSS_N, GROUPS_N = torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0, 0, 1, 1])


def built(method: str, weight: float = 1.0, reduction: str = "sum") -> Objective:
    params = Params.from_flat({"method": method, "lambda": weight})
    return METHODS[method].load()(params=params, groups=2, reduction=reduction)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_scalar_that_can_be_differentiated(method: str) -> None:
    loss_N = LOSS_N.clone().requires_grad_(True)
    loss, logs = built(method)(loss_N, GROUPS_N)
    loss.backward()
    assert loss.shape == ()
    assert loss_N.grad is not None
    assert loss_N.grad.isfinite().all()
    assert not any(value.requires_grad for value in logs.values())


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.fair])
def test_a_plain_method_descends_the_mean_loss(method: str) -> None:
    assert built(method)(LOSS_N, GROUPS_N)[0].item() == 2.0


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 2 + 10 * 2), ("mean", 2 + 10 * 1)])
def test_fairlora_adds_lambda_times_the_penalty(reduction: str, expected: float) -> None:
    assert built("fairlora", 10, reduction)(LOSS_N, GROUPS_N)[0].item() == expected


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.fair])
def test_a_fair_method_at_lambda_zero_has_the_gradient_of_the_baseline_bit_for_bit(method: str) -> None:
    grads = []
    for name, weight in ((method, 0.0), ("lora", 1.0)):
        loss_N = torch.linspace(0.1, 7, 33).requires_grad_(True)
        built(name, weight)(loss_N, torch.arange(33) % 2)[0].backward()
        grads.append(loss_N.grad)
    assert torch.equal(grads[0], grads[1])  # type: ignore[arg-type]


def test_lambda_zero_times_an_infinite_penalty_is_not_nan() -> None:
    loss_N = torch.tensor([1e30, 1.0])
    assert built("fairlora", 0.0)(loss_N, torch.tensor([0, 1]))[0].isfinite()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_back_the_state_it_gives(method: str) -> None:
    objective = built(method)
    objective.load_state(objective.state())


def test_state_for_a_method_that_keeps_none_is_refused() -> None:
    with pytest.raises(ValueError, match="MeanLoss keeps no state, but was given weights_G"):
        built("lora").load_state({"weights_G": torch.ones(2)})
