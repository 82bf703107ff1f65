"""The BACKBONES table: pre-trained models, each with its head replaced and its adaptable layers named.

A newcomer is one file here with a function `load(config, *, classes, layers) -> Backbone`, and one line in
the table. The table itself does not load torch, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
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

    def load(self, config: BackboneConfig, *, classes: int, layers: str | None) -> Backbone:
        """Build it; loads torch."""
        module = importlib.import_module(f"{__name__}.{self.module}")
        backbone: Backbone = module.load(config, classes=classes, layers=layers)
        return backbone


@dataclass
class Backbone:
    """A model ready to be adapted, and what its images must look like.

    `targets` maps each `layers` option (qkv, attention, attention+mlp) to peft's `target_modules`: a list of
    name endings, or one regular expression. `mean` and `std` refer to pixels in [0, 1].
    `parameters` counts the model without its head.
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

    def transform(self) -> dict[str, Any]:
        """The fields of `trainables.data.cache.Transform` that this backbone asks for."""
        names = ("size", "resize", "crop_pct", "interpolation")
        return {name: getattr(self, name) for name in names}


BACKBONES: dict[str, Entry] = {
    "small-vit": Entry("small", "a ViT of 164,000 weights, pre-trained here on digits; offline", "timm, built here"),
}


def load(config: BackboneConfig, *, classes: int, layers: str | None = None) -> Backbone:
    """The backbone of `config` with a fresh head of `classes` outputs.

    Raises:
        UserError: the name is not in the table, or its weights are not there.
    """
    if config.name not in BACKBONES:
        raise UserError(unknown("backbone.name", config.name, BACKBONES))
    return BACKBONES[config.name].load(config, classes=classes, layers=layers)
