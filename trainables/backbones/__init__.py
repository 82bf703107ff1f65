"""The BACKBONES table: pre-trained models, each with its head replaced and its adaptable layers named.

A newcomer is one file with a function `load(config, *, classes) -> Backbone`, and one line in the table. The
table itself does not load torch, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trainables.errors import UserError
from trainables.options import Chosen, Option
from trainables.table import Entry, Table

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.texts.tokens import Reading


_ADDRESS = re.compile(r"^(timm:|open_clip:)?(hf[-_]hub:|local-dir:|https?://|timm/)")


def _not_an_address(name: str) -> str:
    """A model is named by its architecture: what lies at an address would say by itself what it is."""
    if _ADDRESS.match(name):
        bare = re.split("[/:]", name.rstrip("/:"))[-1]
        raise ValueError(
            f"Name the model, not its address, as in 'timm:{bare}' or 'open_clip:MODEL/TAG'; a file of weights that "
            "you have downloaded goes into backbone.weights"
        )
    return name


class BackboneConfig(Chosen):
    """Which pre-trained model is adapted, and where its weights come from; and the model's own options."""

    name: Annotated[
        str, AfterValidator(_not_an_address), Field(description="a name of the BACKBONES table, e.g. small-vit")
    ] = "small-vit"
    weights: Annotated[
        str, Field(description="'pretrained' (hub cache, or shipped), 'none', or a path to a safetensors file")
    ] = "pretrained"
    head: Annotated[
        Literal["random", "zero-shot"],
        Field(description="how the head starts: drawn, or from the class names' text embeddings (open_clip)"),
    ] = "random"

    @classmethod
    def table(cls) -> Table[BackboneEntry]:
        return BACKBONES


@dataclass(frozen=True)
class BackboneEntry(Entry):
    """A backbone's loader, what it is and where it comes from; its own options are settings of its `BackboneConfig`.

    With `zero_shot` the loader takes `class_names` too, and can make the head of their text embeddings. One that reads
    `texts` is not shown images.
    """

    options: tuple[Option, ...] = ()
    zero_shot: bool = False
    texts: bool = False


@dataclass
class Backbone:
    """A model ready to be adapted, and what its images must look like, or how it reads texts (`reading`).

    `targets` maps each `layers` option (qkv, attention, attention+mlp) to peft's `target_modules`: a list of
    name endings, or one regular expression. `mean` and `std` refer to pixels in [0, 1].
    `parameters` counts the model without its head. `recipe` is code that rebuilds `model` without this package;
    `file` is where its weights were read here, `repository` the hub's that has them ('' where none has). `more_heads`
    are those of a distilled model, which answers with the mean of them all.
    """

    name: str
    model: nn.Module
    head: str
    targets: dict[str, list[str] | str]
    parameters: int
    source: str
    size: int = 0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: str = "bilinear"
    crop_pct: float = 1.0
    resize: str = "shorter"
    reading: Reading | None = None
    recipe: str = ""
    file: Path | None = None
    repository: str = ""
    more_heads: tuple[str, ...] = ()

    @property
    def heads(self) -> tuple[str, ...]:
        """Every module that is replaced for the classes at hand."""
        return (self.head, *self.more_heads)

    @property
    def sees(self) -> str:
        """What its examples must be, in one sentence."""
        if self.reading is not None:
            return f"Texts: at most {self.reading.length} tokens."
        mean, std = list(self.mean), list(self.std)
        return f"Images: {self.size} pixels, mean {mean}, std {std}, {self.interpolation}."

    def transform(self) -> dict[str, Any]:
        """The fields of `trainables.data.images.cache.Transform` that this backbone asks for."""
        names = ("size", "resize", "crop_pct", "interpolation")
        return {name: getattr(self, name) for name in names}


_SMALL = "trainables.backbones.small:load"
_TIMM = "trainables.backbones.timm_family:load"
_CLIP = "trainables.backbones.open_clip_family:load"
_CHECKPOINTING = Option(
    "checkpointing", bool, False, "compute activations again in the backward pass: less memory, more time"
)
_IMAGE = (
    Option(
        "size",
        Annotated[int, Field(ge=16)] | None,
        None,
        "side of the images in pixels, where the architecture can have another than its own (none: its own)",
    ),
    _CHECKPOINTING,
)
_TEXT = (
    Option("length", Annotated[int, Field(ge=2, le=8192)], 256, "most tokens of a text; what is behind is cut off"),
    Option(
        "frozen",
        Literal["fp32", "bf16", "4-bit"],
        "fp32",
        "how frozen weights are kept, under LoRA and probe; 4-bit needs a GPU and bitsandbytes",
    ),
    _CHECKPOINTING,
)
_EDITION = (
    Option(
        "edition",
        Literal[1, 2],
        2,
        "2: the weights that come with the package; 1: made on each machine, as older sweeps began",
        before=1,
    ),
)
_TIMM_FAMILY = BackboneEntry(
    _TIMM, "timm:NAME, or NAME alone: any transformer of timm", "Wightman 2019", options=_IMAGE
)
_TRANSFORMERS = "trainables.backbones.transformers_family:load"
BACKBONES = Table(
    "backbones",
    BackboneEntry,
    {
        "small-vit": BackboneEntry(
            _SMALL, "a ViT of 164,000 weights, pre-trained on digits and shipped; offline", "timm", options=_EDITION
        ),
        "vit_base_patch16_224.dino": BackboneEntry(_TIMM, "DINO-b16 of FairLoRA", "Caron et al. 2021", options=_IMAGE),
        "vit_base_patch16_224.augreg2_in21k_ft_in1k": BackboneEntry(
            _TIMM, "ViT-b16 of FairLoRA", "Steiner et al. 2021", options=_IMAGE
        ),
        "vit_base_patch16_224.orig_in21k": BackboneEntry(
            _TIMM, "ViT-Base of On Fairness of LoRA", "Dosovitskiy et al. 2021", options=_IMAGE
        ),
        "vit_base_patch32_clip_224.laion2b": BackboneEntry(
            _TIMM, "CLIP-b32 of FairLoRA, in timm", "Cherti et al. 2023", options=_IMAGE
        ),
        "swinv2_large_window12_192.ms_in22k": BackboneEntry(
            _TIMM, "Swin-v2-Large of On Fairness of LoRA", "Liu et al. 2022", options=_IMAGE
        ),
        "open_clip:ViT-B-32/laion2b_s34b_b79k": BackboneEntry(
            _CLIP, "CLIP-b32 of FairLoRA, with its text tower", "Cherti et al. 2023", zero_shot=True, options=_IMAGE
        ),
        "transformers:meta-llama/Llama-2-7b-hf": BackboneEntry(
            _TRANSFORMERS, "Llama-2 7B of On Fairness of LoRA", "Touvron et al. 2023", texts=True, options=_TEXT
        ),
        "transformers:mistralai/Mistral-7B-v0.1": BackboneEntry(
            _TRANSFORMERS, "Mistral 7B of On Fairness of LoRA", "Jiang et al. 2023", texts=True, options=_TEXT
        ),
    },
    place="backbone.name",
    families={
        "timm": _TIMM_FAMILY,
        "open_clip": BackboneEntry(
            _CLIP, "open_clip:MODEL/TAG: any image tower", "Ilharco et al. 2021", zero_shot=True, options=_IMAGE
        ),
        "transformers": BackboneEntry(
            _TRANSFORMERS,
            "transformers:NAME, or a folder: any language model that classifies sequences",
            "Wolf et al. 2020",
            texts=True,
            options=_TEXT,
        ),
    },
)


def within(name: str, modules: Iterable[str]) -> bool:
    """Whether the module or parameter `name` is one of `modules` or lies in one: `head.weight` is within `head`."""
    return f"{name}.".startswith(tuple(f"{module}." for module in modules))


def ending(name: str) -> str:
    """What a module is called in every block: `attn.qkv` of `blocks.3.attn.qkv`."""
    return ".".join(name.split(".")[-2:])


def find(name: str) -> BackboneEntry:
    """The table's entry of `name`; a bare name that is not in the table may be timm's.

    Raises: `UserError` where the name before the colon is not a family.
    """
    return BACKBONES[name] if ":" in name or name in BACKBONES else _TIMM_FAMILY


def shown(name: str) -> str:
    """The name without the place that a folder has on this machine."""
    family, colon, rest = name.partition(":")
    return f"{family}:{Path(rest).name}" if colon and Path(rest).expanduser().is_dir() else name


def check_kind(config: BackboneConfig, dataset: str, noun: str) -> None:
    """Raises: `UserError` where the examples of `dataset`, images or texts, are not what the backbone takes."""
    takes = "text" if find(config.name).texts else "image"
    if takes != noun:
        mend = "a language model, as transformers:NAME" if noun == "text" else "a model of images, as small-vit"
        raise UserError(f"data.name {dataset} has {noun}s, and backbone.name {config.name} takes {takes}s. Use {mend}.")


def size_of(config: BackboneConfig) -> int | None:
    """The side of the images that `config` asks for; None for the model's own."""
    size: int | None = getattr(config, "size", None)  # a bare name of timm's has no line that would declare it
    return size


def checkpoint(config: BackboneConfig, model: Any) -> None:
    """Let a model of images compute its activations again in the backward pass, block by block, where `config` says so.

    Raises:
        UserError: timm or open_clip cannot do so for this model.
    """
    if not getattr(config, "checkpointing", False):
        return
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, AttributeError, NotImplementedError, TypeError) as fault:
        raise UserError(
            f"backbone.checkpointing is true, and {config.name} cannot compute its activations again. Remove it; "
            "train.micro_batch needs less memory too."
        ) from fault


def load(config: BackboneConfig, *, classes: int, class_names: Sequence[str] = ()) -> Backbone:
    """The backbone of `config` with a fresh head of `classes` outputs, or a zero-shot one made of `class_names`.

    Raises:
        UserError: the name is not in the table, or its weights are not there.
    """
    entry = find(config.name)
    if config.head == "zero-shot" and not entry.zero_shot:
        raise UserError(f"backbone.head is 'zero-shot', but {config.name} has no text tower. Use 'random'.")
    names = {"class_names": class_names} if entry.zero_shot else {}
    backbone: Backbone = entry.load()(config, classes=classes, **names)
    return backbone


def skeleton(config: BackboneConfig) -> Backbone:
    """The backbone without any numbers, for a look at its layers: no weights are needed, and hardly any memory.

    Raises:
        UserError: as `load` does, but not for weights.
    """
    import torch

    with torch.device("meta"):
        return load(config.model_copy(update={"weights": "none", "head": "random"}), classes=2)
