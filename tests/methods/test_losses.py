"""The laws of the penalty (FairLoRA, section 4.1 and A.5)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.data.base import Groups, partition
from trainables.methods.base import GroupInfo
from trainables.methods.losses import group_means, variance_penalty
from trainables.methods.variance import objective
from trainables.params import Params
from trainables.training.batches import epoch_log

G = 5
LOSSES = st.floats(0, 20, allow_nan=False, width=32)
EXAMPLES = st.lists(st.tuples(LOSSES, st.integers(0, G - 1)), min_size=1, max_size=40)


def batch(rows: list[tuple[float, int]]) -> tuple[Tensor, Tensor]:
    losses, groups = zip(*rows, strict=True)
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(groups)


def by_hand(loss_N: Tensor, groups_N: Tensor) -> float:
    """The penalty as the paper prints it, in plain Python."""
    means = [loss_N[groups_N == g].mean().item() for g in sorted(set(groups_N.tolist()))]
    centre = sum(means) / len(means)
    return sum((m - centre) ** 2 for m in means)


def test_two_groups_with_losses_one_and_three_give_a_penalty_of_two() -> None:
    loss_N, groups_N = torch.tensor([1.0, 1.0, 3.0]), torch.tensor([0, 0, 1])
    assert variance_penalty(loss_N, groups_N, 2).item() == 2.0  # (1-2)^2 + (3-2)^2
    assert variance_penalty(loss_N, groups_N, 2, "mean").item() == 1.0


def test_group_means_come_with_their_counts() -> None:
    mean_G, count_G = group_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2, 2, 0]), 4)
    assert mean_G.tolist() == [5.0, 0.0, 2.0, 0.0]
    assert count_G.tolist() == [1, 0, 2, 0]


@given(EXAMPLES)
def test_it_is_the_printed_formula_over_the_groups_present(rows: list[tuple[float, int]]) -> None:
    loss_N, groups_N = batch(rows)
    expected = by_hand(loss_N, groups_N)
    assert variance_penalty(loss_N, groups_N, G).item() == pytest.approx(expected, abs=1e-9)
    present = len(set(groups_N.tolist()))
    assert variance_penalty(loss_N, groups_N, G, "mean").item() == pytest.approx(expected / present, abs=1e-9)


@given(LOSSES, st.lists(st.integers(0, G - 1), min_size=1, max_size=30))
def test_equal_groups_give_no_penalty(loss: float, groups: list[int]) -> None:
    loss_N = torch.full((len(groups),), loss, dtype=torch.float64)
    assert variance_penalty(loss_N, torch.tensor(groups), G).item() == pytest.approx(0, abs=1e-20 + 1e-25 * loss)


@given(st.lists(LOSSES, min_size=1, max_size=30), st.integers(0, G - 1))
def test_one_group_present_gives_exactly_no_penalty_and_no_gradient(losses: list[float], group: int) -> None:
    loss_N = torch.tensor(losses, requires_grad=True)
    penalty = variance_penalty(loss_N, torch.full((len(losses),), group), G)
    penalty.backward()
    assert penalty.item() == 0
    assert loss_N.grad is not None
    assert not loss_N.grad.any()


@given(EXAMPLES, st.integers(1, 50))
def test_absent_groups_are_harmless(rows: list[tuple[float, int]], more: int) -> None:
    loss_N, groups_N = batch(rows)
    few, many = (variance_penalty(loss_N, groups_N, n).item() for n in (G, G + more))
    assert few == pytest.approx(many, rel=1e-12, abs=1e-15)


@given(EXAMPLES, st.permutations(range(G)))
def test_renaming_the_groups_changes_nothing(rows: list[tuple[float, int]], names: list[int]) -> None:
    loss_N, groups_N = batch(rows)
    renamed_N = torch.tensor(names)[groups_N]
    before, after = variance_penalty(loss_N, groups_N, G), variance_penalty(loss_N, renamed_N, G)
    torch.testing.assert_close(before, after, rtol=1e-9, atol=1e-12)


@given(EXAMPLES, st.randoms(use_true_random=False))
def test_permuting_the_examples_changes_nothing(rows: list[tuple[float, int]], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(rows, len(rows))
    before, after = (variance_penalty(*batch(r), G) for r in (rows, shuffled))
    torch.testing.assert_close(before, after, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@settings(max_examples=20)
@given(rows=EXAMPLES)
def test_its_gradient_is_the_numeric_one(reduction, rows: list[tuple[float, int]]) -> None:  # type: ignore[no-untyped-def]
    loss_N, groups_N = batch(rows)
    loss_N.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: variance_penalty(x, groups_N, G, reduction), (loss_N,))


@given(EXAMPLES)
def test_its_gradient_is_the_one_of_appendix_a5(rows: list[tuple[float, int]]) -> None:
    loss_N, groups_N = batch(rows)
    loss_N.requires_grad_(True)
    variance_penalty(loss_N, groups_N, G).backward()
    mean_G, count_G = (x.detach() for x in group_means(loss_N, groups_N, G))
    centre = mean_G.sum() / (count_G > 0).sum()
    # 2 * (L_g - mean) * dL_g/dloss_i, and dL_g/dloss_i = 1 / n_g for the members of g
    expected_N = (2 * (mean_G - centre) / count_G.clamp(min=1))[groups_N]
    assert loss_N.grad is not None
    torch.testing.assert_close(loss_N.grad, expected_N, rtol=1e-9, atol=1e-12)


def test_a_nan_in_one_group_leaves_the_others_their_means() -> None:
    mean_G, _ = group_means(torch.tensor([math.nan, 2.0, 4.0]), torch.tensor([0, 1, 1]), 2)
    assert np.isnan(mean_G[0].item())
    assert mean_G[1].item() == 3.0


# --- groups that overlap


def test_an_example_counts_in_each_group_that_it_is_in() -> None:
    # Patterns: in a alone, in a and b, in none; c has nobody.
    member_GP = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    loss_N, pattern_N = torch.tensor([1.0, 5.0, 9.0]), torch.tensor([0, 1, 2])
    mean_G, count_G = group_means(loss_N, pattern_N, 3, member_GP)
    assert mean_G.tolist() == [3.0, 5.0, 0.0]  # a: (1 + 5) / 2, b: 5
    assert count_G.tolist() == [2, 1, 0]
    assert variance_penalty(loss_N, pattern_N, 3, member_GP=member_GP).item() == 2.0  # (3-4)^2 + (5-4)^2


MEMBERS = st.lists(st.tuples(LOSSES, st.tuples(*[st.booleans()] * 3)), min_size=1, max_size=30)


@given(MEMBERS)
def test_the_penalty_of_a_training_whose_groups_overlap_is_the_sum_by_hand(rows: list[tuple[float, tuple[bool, ...]]]):
    members_NG = np.array([members for _, members in rows])
    groups = partition("overlapping", ("x",), np.zeros(len(rows), np.int64), (), None, (), ("a", "b", "c"), members_NG)
    info = GroupInfo.of(groups)
    assert info.counts == tuple(members_NG.sum(0).tolist())
    loss_N = torch.tensor([loss for loss, _ in rows], dtype=torch.float64)
    params = Params.from_flat({"method": "fairlora", "lambda": 3.0})
    found, _ = objective(params=params, groups=info, reduction="sum")(loss_N, torch.from_numpy(groups.index_N))
    own = [[loss for loss, members in rows if members[g]] for g in range(3)]
    means = [sum(losses) / len(losses) for losses in own if losses]
    centre = sum(means) / max(1, len(means))
    by_hand = sum(loss for loss, _ in rows) / len(rows) + 3 * sum((mean - centre) ** 2 for mean in means)
    assert found.item() == pytest.approx(by_hand, rel=1e-9, abs=1e-9)
    log = epoch_log(loss_N.numpy(), groups, batch_size=len(rows))
    assert log["penalty"] == pytest.approx(sum((mean - centre) ** 2 for mean in means), rel=1e-6, abs=1e-6)
    assert log["groups_present"] == len(means)


def test_two_parts_of_groups_that_overlap_are_joined_though_their_patterns_differ() -> None:
    def groups(*members: tuple[bool, bool]) -> Groups:
        members_NG, labels_N = np.array(members), np.zeros(len(members), np.int64)
        return partition("overlapping", ("x",), labels_N, (), None, (), ("a", "b"), members_NG)

    whole = groups((True, False), (True, True)).joined(groups((False, False), (False, True), (True, True)))
    assert whole.counts_G.tolist() == [3, 3]
    assert whole.member_N(1).tolist() == [False, True, False, True, True]
    assert whole.part(np.array([3, 0])).counts_G.tolist() == [1, 1]
