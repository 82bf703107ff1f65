"""Which examples make a batch, and what an epoch's losses say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.base import Groups
from trainables.methods.losses import variance_penalty
from trainables.training.batches import BATCH_SAMPLERS, derived, epoch_log, group_balanced, shuffle

GROUPS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)
SEEDS = st.integers(0, 2**32)


def chance(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("sampler", BATCH_SAMPLERS)
@given(groups_N=GROUPS, seed=SEEDS)
def test_an_epoch_has_as_many_draws_as_the_split_and_the_same_seed_draws_the_same(
    sampler: str, groups_N: np.ndarray, seed: int
) -> None:
    first, again = (BATCH_SAMPLERS[sampler](groups_N, 5, chance(seed)) for _ in range(2))
    assert len(first) == len(groups_N)
    assert (first == again).all()


@given(GROUPS, SEEDS)
def test_shuffle_shows_every_example_once(groups_N: np.ndarray, seed: int) -> None:
    assert sorted(shuffle(groups_N, 5, chance(seed))) == list(range(len(groups_N)))


@given(GROUPS, SEEDS)
def test_balanced_batches_of_k_groups_hold_every_group_k_times(groups_N: np.ndarray, seed: int) -> None:
    drawn_N = groups_N[group_balanced(groups_N, 5, chance(seed))]
    present = sorted(set(groups_N))
    whole = len(drawn_N) // len(present)
    for batch in drawn_N[: whole * len(present)].reshape(whole, len(present)):
        assert sorted(batch) == present


@given(GROUPS, SEEDS)
def test_balanced_draws_repeat_no_example_before_its_group_is_through(groups_N: np.ndarray, seed: int) -> None:
    order_N = group_balanced(groups_N, 5, chance(seed))
    for group, members in zip(*np.unique(groups_N, return_counts=True), strict=True):
        drawn = order_N[groups_N[order_N] == group]
        assert np.bincount(drawn).max(initial=0) <= math.ceil(len(drawn) / members)


def test_every_epoch_and_purpose_has_its_own_chance() -> None:
    purposes = ("weights", "order", "dropout", "flip", "crop", "refit")
    seeds = {derived(seed, epoch, use) for seed in range(5) for epoch in range(5) for use in purposes}  # type: ignore[arg-type]
    assert len(seeds) == 5 * 5 * 6
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("purpose", "seed"),
    [
        ("weights", 8_044_483_855_893_346_974),
        ("order", 8_072_788_983_267_325_030),
        ("dropout", 2_189_978_760_751_168_233),
        ("flip", 8_789_305_040_181_216_875),
        ("crop", 8_882_992_492_594_961_115),
        ("refit", 2_508_861_102_496_021_902),
    ],
)
def test_a_fit_begun_by_another_release_goes_on_with_the_chance_it_had(purpose: str, seed: int) -> None:
    """Of seed 3 in epoch 5: the states of fits that are on disk count on these."""
    assert derived(3, 5, purpose) == seed  # type: ignore[arg-type]


def test_the_log_of_two_batches_by_hand() -> None:
    log = epoch_log(np.array([1.0, 3.0, 2.0]), Groups("class", ("a", "b", "never"), np.array([0, 1, 0])), batch_size=2)
    assert log["train_loss"] == 2
    assert log["penalty"] == (2 + 0) / 2  # (1-2)^2 + (3-2)^2, then one group alone
    assert log["groups_present"] == (2 + 1) / 2
    assert log["groups_singleton"] == (2 + 1) / 2
    assert log["train_loss/a"] == 1.5
    assert log["train_loss/b"] == 3
    assert math.isnan(log["train_loss/never"])


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 4)), min_size=1, max_size=50), st.integers(1, 20))
def test_the_logged_penalty_is_the_one_of_the_objective(rows: list[tuple[float, int]], size: int) -> None:
    loss_N, groups_N = (np.array(column) for column in zip(*rows, strict=True))
    batches = zip(torch.tensor(loss_N).double().split(size), torch.tensor(groups_N).split(size), strict=True)
    expected = np.mean([variance_penalty(loss_B, groups_B, 5).item() for loss_B, groups_B in batches])
    log = epoch_log(loss_N.astype(float), Groups("class", tuple("abcde"), groups_N), size)
    assert log["penalty"] == pytest.approx(expected, abs=1e-9)
