"""Flips are exact, crops are windows, and both come from (seed, epoch) alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from trainables.task import TrainConfig
from trainables.training.augment import RATIO, Augmentation

CPU = torch.device("cpu")
RAMP = torch.arange(16.0).repeat(16, 1)  # [H, W], as bright as it is far right


def draw(N: int = 64, seed: int = 0, epoch: int = 0, **train: object) -> Augmentation:
    return Augmentation.draw(TrainConfig.model_validate(train), N, seed=seed, epoch=epoch, device=CPU)


def images(N: int) -> Tensor:
    return RAMP.expand(N, 3, 16, 16)


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(draw()(images(64), slice(0, 64)), images(64))


def test_a_flip_moves_half_of_the_images_and_no_value() -> None:
    augment = draw(2000, flip=True)
    assert augment.flip_N is not None
    assert 0.45 < augment.flip_N.float().mean() < 0.55
    flipped = augment(images(2000), slice(0, 2000))[:, 0, 0]
    assert torch.equal(flipped[augment.flip_N][0], RAMP[0].flip(0))
    assert torch.equal(flipped[~augment.flip_N][0], RAMP[0])


def test_a_batch_gets_what_was_drawn_for_its_rows() -> None:
    augment = draw(flip=True, crop=0.3)
    whole = augment(images(64), slice(0, 64))
    parts = [augment(images(16), slice(start, start + 16)) for start in range(0, 64, 16)]
    assert torch.equal(whole, torch.cat(parts))


def test_seed_and_epoch_decide_and_flips_do_not_hang_on_crops() -> None:
    one, again, later, other = (draw(flip=True, crop=0.3, **at) for at in ({}, {}, {"epoch": 1}, {"seed": 1}))
    assert torch.equal(one.crop_N23, again.crop_N23)  # type: ignore[arg-type]
    assert not torch.equal(one.crop_N23, later.crop_N23)  # type: ignore[arg-type]
    assert not torch.equal(one.crop_N23, other.crop_N23)  # type: ignore[arg-type]
    assert torch.equal(one.flip_N, draw(flip=True).flip_N)  # type: ignore[arg-type]


@given(st.floats(0.05, 1), st.integers(0, 100))
def test_a_window_lies_inside_the_image_and_keeps_its_share(least: float, seed: int) -> None:
    crop_N23 = draw(200, seed, crop=least).crop_N23
    assert crop_N23 is not None
    width_N, height_N = crop_N23[:, 0, 0], crop_N23[:, 1, 1]
    assert (crop_N23[:, :, 2].abs() + torch.stack([width_N, height_N], 1) <= 1 + 1e-6).all()
    whole = (width_N < 1) & (height_N < 1)  # a side that was cut takes area with it
    assert ((width_N * height_N)[whole] >= least - 1e-6).all()
    ratio_N = (width_N / height_N)[whole]
    assert (ratio_N >= RATIO[0] - 1e-5).all()
    assert (ratio_N <= RATIO[1] + 1e-5).all()


def test_a_crop_shows_the_window_stretched() -> None:
    left_half = torch.tensor([[[0.5, 0.0, -0.5], [0.0, 1.0, 0.0]]])
    shown = Augmentation(None, left_half)(images(1), slice(0, 1))[0, 0, 0]
    # new pixel k stands at (k + 0.5) / 2 of the old ones, whose values are their places: (k + 0.5) / 2 - 0.5
    torch.testing.assert_close(shown[1:], (torch.arange(1.0, 16) + 0.5) / 2 - 0.5)


def test_the_whole_image_as_window_is_the_image() -> None:
    whole = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    torch.testing.assert_close(Augmentation(None, whole)(images(1), slice(0, 1)), images(1))


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="crop"):
        TrainConfig(crop=share)


def test_windows_are_uniform_in_area_and_place_and_log_uniform_in_shape() -> None:
    """Where no side is cut, as for all areas up to 3/4, the three are read off the window."""
    crop_N23 = draw(20_000, crop=0.25).crop_N23
    assert crop_N23 is not None
    side_N2, centre_N2 = crop_N23[:, [0, 1], [0, 1]].double().numpy(), crop_N23[:, :, 2].double().numpy()
    area_N, ratio_N = side_N2.prod(1), side_N2[:, 0] / side_N2[:, 1]
    small_N = area_N < 0.74
    assert small_N.mean() == pytest.approx((0.74 - 0.25) / 0.75, abs=0.02)
    assert stats.kstest(area_N[small_N], "uniform", (0.25, 0.49)).pvalue > 0.01
    log_ratio_N, widest = np.log(ratio_N[small_N]), math.log(4 / 3)
    assert stats.kstest(log_ratio_N, "uniform", (-widest, 2 * widest)).pvalue > 0.01
    place_N2 = centre_N2[small_N] / (1 - side_N2[small_N])
    assert all(stats.kstest(place_N, "uniform", (-1, 2)).pvalue > 0.01 for place_N in place_N2.T)
    assert abs(np.corrcoef(place_N2.T)[0, 1]) < 0.05
