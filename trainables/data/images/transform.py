"""From an image of any kind to the square that a backbone reads.

Shapes: pixels [3, S, S] uint8, S the backbone's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from trainables.arrays import Pixels
from trainables.data.images import pixels

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class Transform:
    """Resize, then cut the middle `size` x `size` out; as timm's and Waterbirds' evaluation transforms do.

    `squash` makes both sides `size / crop_pct`, whatever their ratio; `shorter` keeps the ratio and makes
    the shorter side so. Before that the image is turned `upright`, as its EXIF orientation says (the papers' loaders do
    not), and `crop_bottom` rows are cut off below.
    """

    size: int = 224
    resize: Literal["squash", "shorter"] = "squash"
    crop_pct: float = 1.0
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    crop_bottom: int = 0
    upright: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.crop_pct <= 1:
            raise ValueError(f"size is {self.size}, crop_pct {self.crop_pct}. Use size >= 1 and 0 < crop_pct <= 1.")
        if self.resize not in ("squash", "shorter") or self.interpolation not in _FILTERS:
            raise ValueError(
                f"resize is '{self.resize}', interpolation '{self.interpolation}'. "
                f"Use squash or shorter, and one of: {', '.join(_FILTERS)}."
            )

    def __call__(self, image: Image.Image) -> Pixels:
        """The pixels [3, S, S] of `image`, in RGB as `pixels` says.

        Raises:
            ValueError: the image has no such pixels, or is so narrow that it would not fit in memory once it is scaled.
        """
        rgb = pixels.rgb(image, upright=self.upright)
        if self.crop_bottom:
            rgb = rgb.crop((0, 0, rgb.width, max(1, rgb.height - self.crop_bottom)))
        width, height = self._scaled(*rgb.size)
        if width * height > pixels.MOST_PIXELS:
            raise ValueError(f"it is {rgb.width} x {rgb.height}, too narrow to be scaled to a side of {self.size}")
        resized = rgb.resize((width, height), _FILTERS[self.interpolation])
        # Rounded as torchvision's CenterCrop rounds; a pixel to the side would be another image.
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        square = resized.crop((left, top, left + self.size, top + self.size))
        return np.asarray(square).transpose(2, 0, 1)

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        side = math.floor(self.size / self.crop_pct)
        if self.resize == "squash":
            return side, side
        short = min(width, height)
        return int(side * width / short), int(side * height / short)
