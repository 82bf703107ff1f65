"""Random flips and random resized crops of a whole batch at once, on the device.

What an epoch does to its images is drawn beforehand from (seed, epoch), so that a fit that is stopped and
continued sees the same pixels.

Shapes: N examples of an epoch, B of a batch, H and W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.task import TrainConfig
from trainables.training.batches import derived

RATIO = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Augmentation:
    """An epoch's flips and crops, in the order of training. None: there are none of that kind."""

    flip_N: Tensor | None
    crop_N23: Tensor | None

    @classmethod
    def draw(cls, train: TrainConfig, N: int, *, seed: int, epoch: int, device: torch.device) -> Augmentation:
        """As `train.flip` and `train.crop` ask for."""
        flip_N = crop_N23 = None  # each has a seed of its own, so that one changes nothing in the other
        if train.flip:
            flip_N = torch.from_numpy(np.random.default_rng(derived(seed, epoch, "flip")).random(N) < 0.5).to(device)
        if train.crop is not None:
            crop_N23 = _crops(N, train.crop, np.random.default_rng(derived(seed, epoch, "crop"))).to(device)
        return cls(flip_N, crop_N23)

    def __call__(self, images_B3HW: Tensor, rows: slice) -> Tensor:
        """The images of the epoch's examples `rows`. A flip moves pixels exactly; a crop interpolates (bilinear)."""
        if self.flip_N is not None:
            images_B3HW = torch.where(self.flip_N[rows].view(-1, 1, 1, 1), images_B3HW.flip(3), images_B3HW)
        if self.crop_N23 is not None:
            grid_BHW2 = F.affine_grid(self.crop_N23[rows], list(images_B3HW.shape), align_corners=False)
            images_B3HW = F.grid_sample(images_B3HW, grid_BHW2, padding_mode="border", align_corners=False)
        return images_B3HW


def _crops(N: int, least: float, generator: np.random.Generator) -> Tensor:
    """N windows as maps from the new square to the old one, both spanning [-1, 1].

    Area uniform in [least, 1] of the image, ratio log-uniform in RATIO, place uniform; a side that would be
    longer than the image is cut to it. The windows of torchvision's RandomResizedCrop, but for its ten tries.
    """
    area_N = generator.uniform(least, 1, N)
    ratio_N = np.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1]), N))
    side_N2 = np.minimum(1, np.sqrt(np.stack([area_N * ratio_N, area_N / ratio_N], axis=1)))
    centre_N2 = generator.uniform(-1, 1, (N, 2)) * (1 - side_N2)
    crop_N23 = np.zeros((N, 2, 3), dtype=np.float32)
    crop_N23[:, [0, 1], [0, 1]] = side_N2
    crop_N23[:, :, 2] = centre_N2
    return torch.from_numpy(crop_N23)
