"""One split of decoded images where the training loop can take batches from it.

Images stay 8-bit until a batch is taken: in the device's memory where they fit, mapped from disk
otherwise. Normalising happens on the device, with the backbone's own numbers.

Shapes: N examples, B of a batch, H and W pixels, three colours.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trainables.arrays import Ints, Pixels
from trainables.data.base import Groups

if TYPE_CHECKING:
    from trainables.training.augment import Augmentation

SHARE_OF_FREE_MEMORY = 0.25  # several fits may share a GPU, and each holds its own copy


class Samples:
    """Images, labels and groups of one split."""

    def __init__(
        self,
        images_N3HW: Pixels,
        labels_N: Ints,
        groups: Groups,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the map is read-only, and nobody writes to it
            self.images_N3HW = _placed(torch.from_numpy(images_N3HW), device)
        # (x / 255 - mean) / std as one multiplication and one addition, which is one pass over the pixels.
        self._scale_311 = (1 / (255 * torch.tensor(std))).view(3, 1, 1).to(device)
        self._shift_311 = (-torch.tensor(mean) / torch.tensor(std)).view(3, 1, 1).to(device)
        self._keep(labels_N, groups, device)

    def _keep(self, labels_N: Ints, groups: Groups, device: torch.device) -> None:
        self.labels_N = torch.from_numpy(np.ascontiguousarray(labels_N)).to(device)
        self.groups = groups
        self.groups_N = torch.from_numpy(np.ascontiguousarray(groups.index_N)).to(device)
        self._device = device
        self._rows_N: Tensor | None = None
        self._joined: tuple[Samples, Samples] | None = None

    def part(self, rows_K: Ints) -> Samples:
        """The examples `rows_K` alone, in that order; the images are shared."""
        part = copy.copy(self)
        rows = torch.from_numpy(np.ascontiguousarray(rows_K))
        part._rows_N = rows.to(self.images_device) if self._rows_N is None else self._rows_N[rows]
        part.groups = self.groups.part(rows_K)
        part.labels_N, part.groups_N = self.labels_N[rows], self.groups_N[rows]
        return part

    def joined(self, more: Samples) -> Samples:
        """These examples and after them those of `more`, another split of the same data; the images are shared."""
        both = copy.copy(self)
        both._rows_N, both._joined = None, (self, more)
        both.groups = self.groups.joined(more.groups)
        both.labels_N = torch.cat([self.labels_N, more.labels_N])
        both.groups_N = torch.from_numpy(both.groups.index_N).to(self._device)
        return both

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def images_device(self) -> torch.device:
        """Where an index for `take` should lie."""
        return self.images_N3HW.device

    @property
    def augment_device(self) -> torch.device:
        """Where `augmented` wants an epoch's flips and crops."""
        return self._device

    @property
    def pixels(self) -> int:
        """Of one example."""
        height, width = self.images_N3HW.shape[2:]
        return int(height * width)

    def by_length(self, order_N: Ints, batch_size: int, generator: np.random.Generator) -> Ints:
        """The order itself: all images are as large."""
        return order_N

    def take(self, index_B: Tensor | slice) -> Tensor:
        """Normalised images, `[B, 3, H, W]` float32 on the device."""
        pixels_B3HW = self._on_device(self._pixels(index_B))
        return torch.addcmul(self._shift_311, pixels_B3HW.float(), self._scale_311)

    def augmented(self, index_B: Tensor, augment: Augmentation, rows: slice) -> Tensor:
        """`take` of the epoch's examples `rows`, as the epoch augments them."""
        return augment(self.take(index_B), rows)

    def _on_device(self, rows_B: Tensor) -> Tensor:
        if self._device.type == "cuda" and not rows_B.is_cuda:
            rows_B = rows_B.pin_memory()  # from pageable memory the copy would block
        return rows_B.to(self._device, non_blocking=True)

    def _pixels(self, index_B: Tensor | slice) -> Tensor:
        """`[B, 3, H, W]`, 8-bit, where the images lie."""
        rows_B = index_B if self._rows_N is None else self._rows_N[index_B]
        if self._joined is None:
            return self.images_N3HW[rows_B]
        first, second = self._joined
        if isinstance(rows_B, slice):
            rows_B = torch.arange(len(first) + len(second), device=self.images_device)[rows_B]
        early_B = rows_B < len(first)
        pixels_B3HW = self.images_N3HW.new_empty((len(rows_B), *self.images_N3HW.shape[1:]))
        pixels_B3HW[early_B] = first._pixels(rows_B[early_B])
        late = (rows_B[~early_B] - len(first)).to(second.images_device)
        pixels_B3HW[~early_B] = second._pixels(late).to(self.images_device)
        return pixels_B3HW


class Features(Samples):
    """Samples that are through the frozen beginning of a model: what enters the rest of it, in the place of images.

    `hidden_NV` is `[N, V, ...]` of the whole split: of each example the image as it is and, where V is 2, flipped.
    """

    def __init__(self, samples: Samples, hidden_NV: Tensor, dtype: torch.dtype) -> None:
        """`dtype` is what enters the model; what is kept may be shorter."""
        vars(self).update(vars(samples))
        self._hidden_NV, self._dtype = _placed(hidden_NV, self._device), dtype

    @property
    def images_device(self) -> torch.device:
        """Where an index for `take` should lie."""
        return self._hidden_NV.device

    @property
    def augment_device(self) -> torch.device:
        """Where `augmented` wants the flips: which view is read is looked up there."""
        return self.images_device

    @property
    def views(self) -> int:
        """How many there are of each example."""
        return self._hidden_NV.shape[1]

    @property
    def nbytes(self) -> int:
        """Of the whole split, as it is kept."""
        return self._hidden_NV.nbytes

    def take(self, index_B: Tensor | slice) -> Tensor:
        """What the images give as they are, `[B, ...]` on the device."""
        return self.view(index_B, 0)

    def augmented(self, index_B: Tensor, augment: Augmentation, rows: slice) -> Tensor:
        """What the images give, as the epoch's examples `rows` are flipped."""
        flip_N = augment.flip_N
        return self.view(index_B, 0 if flip_N is None else flip_N[rows].long())

    def view(self, index_B: Tensor | slice, view: Tensor | int) -> Tensor:
        """One view of each, `[B, ...]` on the device."""
        rows_B = index_B if self._rows_N is None else self._rows_N[index_B]
        return self._on_device(self._hidden_NV[rows_B, view]).to(self._dtype)


def _placed(mapped: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return mapped
    free, _ = torch.cuda.mem_get_info(device)
    return mapped.to(device) if mapped.nbytes < SHARE_OF_FREE_MEMORY * free else mapped
