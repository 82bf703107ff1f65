"""The last layer fitted anew: balanced, apart from what is measured, and nothing else of the model moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from trainables.arrays import Ints
from trainables.data.base import Groups
from trainables.data.splitting import half_of_each_cell
from trainables.errors import FitError, UserError
from trainables.methods import dfr
from trainables.methods.base import LastLayer
from trainables.metrics.on_data import measured
from trainables.params import Params
from trainables.training.refit import trained_head


def waterbirds_like(n: int = 2000, seed: int = 0) -> tuple[np.ndarray, Ints, Ints]:
    """Feature 0 tells the class, with noise; feature 1 tells the place, which agrees with the class in 95 %."""
    generator = np.random.default_rng(seed)
    labels_N = generator.integers(0, 2, n)
    places_N = np.where(generator.random(n) < 0.95, labels_N, 1 - labels_N)
    features_NF = np.stack([labels_N, 3 * places_N, np.zeros(n)], 1) + 0.3 * generator.standard_normal((n, 3))
    return features_NF, labels_N, 2 * labels_N + places_N


def refit(features_NF: np.ndarray, labels_N: Ints, groups_N: Ints, *, C: int, l1: float, seed: int) -> LastLayer:
    params = Params(method="lora-dfr", l1=l1)
    return dfr.refit(features_NF, labels_N, groups_N, C=C, params=params, seed=seed)


def worst(weight_CF: np.ndarray, bias_C: np.ndarray) -> float:
    features_NF, labels_N, cells_N = waterbirds_like(seed=1)
    right_N = (features_NF @ weight_CF.T + bias_C).argmax(1) == labels_N
    return float(min(right_N[cells_N == cell].mean() for cell in range(4)))


def test_balanced_groups_break_the_spurious_correlation_and_the_plain_ones_do_not() -> None:
    features_NF, labels_N, cells_N = waterbirds_like()
    balanced = refit(features_NF, labels_N, cells_N, C=2, l1=1.0, seed=0)
    plain = refit(features_NF, labels_N, labels_N, C=2, l1=1.0, seed=0)
    assert worst(balanced.weight_CF, balanced.bias_C) > 0.9
    assert worst(plain.weight_CF, plain.bias_C) < 0.8


def test_each_subset_holds_as_many_of_every_cell_as_the_rarest_has() -> None:
    features_NF, labels_N, cells_N = waterbirds_like()
    found = refit(features_NF, labels_N, cells_N, C=2, l1=1.0, seed=0)
    assert found.log["refit_examples"] == 4 * np.bincount(cells_N).min()
    places_N = cells_N % 2
    by_place = refit(features_NF, labels_N, places_N, C=2, l1=1.0, seed=0)  # cells are balanced all the same
    assert by_place.log["refit_examples"] == found.log["refit_examples"]


def test_a_refit_says_whether_it_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    features_NF, labels_N, cells_N = waterbirds_like(400)
    enough = refit(features_NF, labels_N, cells_N, C=2, l1=1.0, seed=0)
    assert enough.log["refit_converged"] == 1.0
    monkeypatch.setattr(dfr, "ITERATIONS", 3)
    assert refit(features_NF, labels_N, cells_N, C=2, l1=1.0, seed=0).log["refit_converged"] == 0.0


def test_a_heavier_penalty_leaves_fewer_weights_and_at_last_none() -> None:
    features_NF, labels_N, cells_N = waterbirds_like()
    sizes = [np.abs(refit(features_NF, labels_N, cells_N, C=2, l1=l1, seed=0).weight_CF).sum() for l1 in (1, 10, 1e4)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 1e-6


def test_more_than_two_classes_are_told_apart() -> None:
    labels_N = np.arange(600) % 3
    features_NF = np.eye(3)[labels_N] + 0.1 * np.random.default_rng(0).standard_normal((600, 3))
    found = refit(features_NF, labels_N, labels_N, C=3, l1=1.0, seed=0)
    assert found.weight_CF.shape == (3, 3)
    assert ((features_NF @ found.weight_CF.T + found.bias_C).argmax(1) == labels_N).mean() > 0.99


def test_the_seed_decides_and_a_feature_that_never_varies_is_harmless() -> None:
    features_NF, labels_N, cells_N = waterbirds_like(400)
    features_NF[:, 2] = 7.0
    one, again, other = (refit(features_NF, labels_N, cells_N, C=2, l1=1.0, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.weight_CF, again.weight_CF)
    assert not np.array_equal(one.weight_CF, other.weight_CF)
    assert np.isfinite(one.weight_CF).all()
    assert dfr.SUBSETS == 10


def test_the_units_of_the_features_do_not_matter() -> None:
    features_NF, labels_N, cells_N = waterbirds_like(400)
    scale_F, shift_F = np.array([1000.0, 0.01, 1.0]), np.array([5.0, -3.0, 0.0])
    one = refit(features_NF, labels_N, cells_N, C=2, l1=1.0, seed=0)
    other = refit(features_NF * scale_F + shift_F, labels_N, cells_N, C=2, l1=1.0, seed=0)
    logits_NC = features_NF @ one.weight_CF.T + one.bias_C
    others_NC = (features_NF * scale_F + shift_F) @ other.weight_CF.T + other.bias_C
    np.testing.assert_allclose(others_NC, logits_NC, atol=1e-6)


def test_a_class_without_held_out_examples_is_refused() -> None:
    labels_N = np.array([0, 0, 2, 2])
    with pytest.raises(FitError, match=r"no example of class 1. Use a larger validation split") as caught:
        refit(np.zeros((4, 2)), labels_N, labels_N, C=3, l1=1.0, seed=0)
    assert caught.value.reason == "bad-data"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60))
def test_half_of_every_cell_is_fitted_on_and_never_measured(records: list[tuple[int, int]]) -> None:
    labels_N, groups_N = np.array(records, dtype=np.int64).T
    chosen_N = half_of_each_cell(labels_N, groups_N)
    groups = Groups("attribute", ("a", "b", "c", "d"), groups_N)
    assert set(measured("lora-dfr", "val", labels_N, groups)) == set(np.flatnonzero(~chosen_N))
    for cell in set(records):
        rows = np.array([record == cell for record in records])
        assert chosen_N[rows].sum() == rows.sum() // 2


@pytest.mark.parametrize(("method", "split"), [("lora", "val"), ("lora-dfr", "test"), ("fft-dfr", "train")])
def test_everything_else_is_measured_whole(method: str, split: str) -> None:
    labels_N = np.array([0, 0, 1, 1])
    assert measured(method, split, labels_N, Groups("class", ("a", "b"), labels_N)).tolist() == [0, 1, 2, 3]


def test_under_lora_the_head_that_trains_is_the_copy() -> None:
    model = nn.Sequential()
    model.add_module("body", nn.Linear(4, 4))
    model.add_module("head", nn.Linear(4, 2))
    plain = model.get_submodule("head")
    assert trained_head(model, "head") is plain
    wrapped = get_peft_model(model, LoraConfig(target_modules=["body"], modules_to_save=["head"]))
    found = trained_head(wrapped, "head")
    assert found is not plain
    assert all(p.requires_grad for p in found.parameters())


def test_a_head_of_several_layers_is_refused() -> None:
    model = nn.ModuleDict({"head": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))})
    with pytest.raises(UserError, match="the head 'head' is Sequential, and a refit needs one linear layer"):
        trained_head(model, "head")
