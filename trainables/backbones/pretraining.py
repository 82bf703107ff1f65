"""How the weights of small-vit that are shipped were made: the ten digits, moved and on many backgrounds.

    python -m trainables.backbones.pretraining OUT.safetensors

learns the digits of `trainables.data.datasets.digits` that no split holds. In each epoch they are shifted, turned and
scaled anew, on backgrounds that are flat, blocky, grainy, soft or graded. It sees no photo. Two minutes of one core.

Shapes: N digits, B of a batch, H and W pixels.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones import small
from trainables.backbones.weights import fixed_draw
from trainables.data.datasets import digits
from trainables.files import whole

LICENCE = "made from scikit-learn's digits (UCI, CC BY 4.0)"


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights on a given machine, with a given release of torch."""

    data: str = digits.VERSION
    learning_rate: float = 2e-3
    batch_size: int = 60
    epochs: int = 400
    seed: int = 0
    weight_decay: float = 0.05
    shift: float = 3.0  # pixels, at most, to each side
    turn: float = 15.0  # degrees, at most, either way
    scale: float = 1.15  # at most, and its inverse at least


class Digits:
    """The digits set apart for pre-training, drawn anew for each batch as `recipe` says."""

    def __init__(self, recipe: Recipe) -> None:
        opacity, labels = digits.pretraining_digits()
        self._recipe = recipe
        self._opacity_N1HW = torch.from_numpy(opacity).float()[:, None]
        self.labels_N = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels_N)

    def images(self, rows_B: Tensor) -> Tensor:
        """Digits `rows_B` in blue ink, moved, on backgrounds of their own, normalised: `[B, 3, 32, 32]`."""
        ink_3 = torch.from_numpy(digits.INK / 255).float()
        opacity_B1HW = self._moved(self._opacity_N1HW[rows_B])
        pixels_B3HW = backgrounds(len(rows_B)) * (1 - opacity_B1HW) + ink_3.view(3, 1, 1) * opacity_B1HW
        return (pixels_B3HW - small.MEAN) / small.STD

    def _moved(self, opacity_B1HW: Tensor) -> Tensor:
        recipe, B = self._recipe, len(opacity_B1HW)
        angle_B = _either_way(B) * recipe.turn * math.pi / 180
        scale_B = torch.exp(_either_way(B) * math.log(recipe.scale))
        way_B2 = _either_way(B, 2) * recipe.shift * 2 / digits.SIZE  # both sides span [-1, 1]
        cos_B, sin_B = scale_B * angle_B.cos(), scale_B * angle_B.sin()
        rows = (torch.stack([cos_B, -sin_B, way_B2[:, 0]], 1), torch.stack([sin_B, cos_B, way_B2[:, 1]], 1))
        grid_BHW2 = F.affine_grid(torch.stack(rows, 1), list(opacity_B1HW.shape), align_corners=False)
        return F.grid_sample(opacity_B1HW, grid_BHW2, align_corners=False)  # beyond the edge there is no ink


def backgrounds(B: int) -> Tensor:
    """A colour each, mixed in a share of its own with one of five textures; values in [0, 1], `[B, 3, 32, 32]`."""
    size, which_B = digits.SIZE, torch.randint(5, (B,))
    colour_B311, other_B311 = torch.rand(B, 3, 1, 1), torch.rand(B, 3, 1, 1)
    blocks = F.interpolate(torch.rand(B, 3, 8, 8), size=size, mode="nearest")
    grain = torch.rand(B, 3, size, size)
    soft = F.interpolate(torch.rand(B, 3, 6, 6), size=size, mode="bicubic", align_corners=False).clamp(0, 1)
    angle_B11 = torch.rand(B, 1, 1) * 2 * math.pi
    down_H1, across_1W = torch.linspace(-1, 1, size)[:, None], torch.linspace(-1, 1, size)[None]
    along_BHW = ((angle_B11.cos() * across_1W + angle_B11.sin() * down_H1) / 1.42 + 1) / 2  # from 0 to 1, as √2 < 1.42
    graded = colour_B311 + (other_B311 - colour_B311) * along_BHW[:, None]
    textures = torch.stack([colour_B311.expand(B, 3, size, size), blocks, grain, soft, graded])
    texture_B3HW = textures[which_B, torch.arange(B)]
    share_B111 = torch.rand(B, 1, 1, 1)
    return colour_B311 * (1 - share_B111) + texture_B3HW * share_B111


def pretrain(recipe: Recipe) -> tuple[VisionTransformer, float]:
    """Trains from scratch; returns the model and its accuracy on its digits, drawn once more.

    One thread and an own random stream: the same machine and release of torch give the same weights, bit for bit.
    """
    varied = Digits(recipe)
    with small.one_thread(), fixed_draw(recipe.seed):
        model = small.untrained(10)
        _fit(model, varied, recipe)
    with small.one_thread(), fixed_draw(recipe.seed), torch.no_grad():
        predicted_N = model.eval()(varied.images(torch.arange(len(varied)))).argmax(1)
    return model, float((predicted_N == varied.labels_N).float().mean())


def _fit(model: nn.Module, varied: Digits, recipe: Recipe) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(varied) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.15)
    model.train()
    for _ in range(recipe.epochs):
        for rows_B in torch.split(torch.randperm(len(varied)), recipe.batch_size):
            loss = F.cross_entropy(model(varied.images(rows_B)), varied.labels_N[rows_B])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def _either_way(*shape: int) -> Tensor:
    return 2 * torch.rand(*shape) - 1


def save(path: Path, recipe: Recipe) -> str:
    """Pre-train, write the weights to `path` with what made them, and say in a sentence what came of it."""
    model, accuracy = pretrain(recipe)
    made = {**asdict(recipe), "accuracy": round(accuracy, 4), "torch": torch.__version__, "licence": LICENCE}
    with whole(path) as draft:
        # One entry: safetensors writes several in random order, and the file has a digest.
        save_file(model.state_dict(), draft, metadata={"made": json.dumps(made)})
    return f"{path}: {accuracy:.3f} of its digits are right, SHA-256 {small.file_digest(path)}"


if __name__ == "__main__":
    print(save(Path(sys.argv[1]), Recipe()))
