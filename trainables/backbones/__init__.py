"""The BACKBONES table: pre-trained models, each with its head replaced and its adaptable layers named.

A newcomer is one file here with a function `load(config, *, classes, layers) -> Backbone`, and one line in
the table. The table itself does not load torch, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError, unknown
from trainables.task import BackboneConfig

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Entry:
    """Where a backbone's loader lives (`module` of this package), what it is and where it comes from."""

    module: str
    doc: str
    source: str
    zero_shot: bool = False

    def load(
        self, config: BackboneConfig, *, classes: int, layers: str | None, class_names: Sequence[str] = ()
    ) -> Backbone:
        """Build it; loads torch. `class_names` matter to a zero-shot head alone."""
        if config.head == "zero-shot" and not self.zero_shot:
            raise UserError(f"backbone.head is 'zero-shot', but {config.name} has no text tower. Use 'random'.")
        names = {"class_names": class_names} if self.zero_shot else {}
        module = importlib.import_module(f"{__name__}.{self.module}")
        backbone: Backbone = module.load(config, classes=classes, layers=layers, **names)
        return backbone


@dataclass
class Backbone:
    """A model ready to be adapted, and what its images must look like.

    `targets` maps each `layers` option (qkv, attention, attention+mlp) to peft's `target_modules`: a list of
    name endings, or one regular expression. `mean` and `std` refer to pixels in [0, 1].
    `parameters` counts the model without its head. `recipe` is code that rebuilds `model` without this package;
    `file` is where its weights were read here.
    """

    name: str
    model: nn.Module
    head: str
    targets: dict[str, list[str] | str]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float
    resize: str
    parameters: int
    source: str
    recipe: str = ""
    file: Path | None = None

    def transform(self) -> dict[str, Any]:
        """The fields of `trainables.data.images.cache.Transform` that this backbone asks for."""
        names = ("size", "resize", "crop_pct", "interpolation")
        return {name: getattr(self, name) for name in names}


BACKBONES: dict[str, Entry] = {
    "small-vit": Entry("small", "a ViT of 164,000 weights, pre-trained here on digits; offline", "timm, built here"),
    "vit_base_patch16_224.dino": Entry("timm_family", "DINO-b16 of FairLoRA", "Caron et al. 2021"),
    "vit_base_patch16_224.augreg2_in21k_ft_in1k": Entry("timm_family", "ViT-b16 of FairLoRA", "Steiner et al. 2021"),
    "vit_base_patch16_224.orig_in21k": Entry(
        "timm_family", "ViT-Base of On Fairness of LoRA", "Dosovitskiy et al. 2021"
    ),
    "vit_base_patch32_clip_224.laion2b": Entry("timm_family", "CLIP-b32 of FairLoRA, in timm", "Cherti et al. 2023"),
    "swinv2_large_window12_192.ms_in22k": Entry(
        "timm_family", "Swin-v2-Large of On Fairness of LoRA", "Liu et al. 2022"
    ),
    "open_clip:ViT-B-32/laion2b_s34b_b79k": Entry(
        "open_clip_family", "CLIP-b32 of FairLoRA, with its text tower", "Cherti et al. 2023", zero_shot=True
    ),
}
FAMILIES: dict[str, Entry] = {
    "timm": Entry("timm_family", "timm:NAME, or NAME alone: any transformer of timm", "Wightman 2019"),
    "open_clip": Entry(
        "open_clip_family", "open_clip:MODEL/TAG: any image tower", "Ilharco et al. 2021", zero_shot=True
    ),
}


def find(name: str) -> Entry:
    """The table's entry of `name`, or that of its family; a bare name that is not in the table may be timm's.

    Raises: `UserError` where the name before the colon is not a family.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    family = name.partition(":")[0] if ":" in name else "timm"
    if family not in FAMILIES:
        known = [*BACKBONES, *(f"{prefix}:NAME" for prefix in FAMILIES)]
        raise UserError(unknown(f"backbone.name '{name}'", name, known))
    return FAMILIES[family]


def load(
    config: BackboneConfig, *, classes: int, layers: str | None = None, class_names: Sequence[str] = ()
) -> Backbone:
    """The backbone of `config` with a fresh head of `classes` outputs, or a zero-shot one made of `class_names`.

    Raises:
        UserError: the name is not in the table, or its weights are not there.
    """
    return find(config.name).load(config, classes=classes, layers=layers, class_names=class_names)
