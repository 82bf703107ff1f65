"""Every transformer of timm: its layers found by name, its images as its own data config says.

Source: timm, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from torch import nn

from trainables.backbones import BACKBONES, Backbone, BackboneConfig, checkpoint, ending, size_of, within
from trainables.backbones.weights import fill, fixed_draw, locate, origin, read
from trainables.errors import UserError, unknown

# Name endings under which timm's families keep these parts; of each, the first that the model has as linear layers.
_QKV = (
    ("attn.qkv",),
    ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    ("attn.q", "attn.k", "attn.v"),
    ("attn.q", "attn.kv"),
)
_OUT = (("attn.proj",),)  # not `proj`: that is the patch embedding's name too
_MLP = (
    ("mlp.fc1", "mlp.fc2"),
    ("mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"),
    ("mlp.w12", "mlp.w3"),
    ("mlp.w1", "mlp.w2", "mlp.w3"),
)

# What `call_linears` does, for recipes.
CALL_LINEARS = (
    "for part in {module}.modules():\n    if hasattr(part, 'qkv_bias_separate'):\n        part.qkv_bias_separate = True"
)


def load(config: BackboneConfig, *, classes: int) -> Backbone:
    """The timm model `config.name` (`timm:` in front is optional) with a fresh head of `classes` outputs.

    Raises: `UserError` for an unknown name, for a size that the model cannot have, and for weights that are missing or
    do not fit.
    """
    name = config.name.removeprefix("timm:")
    repository, files = _published(name)
    path = locate(config.weights, repository, files, name=name)
    size = size_of(config)
    with fixed_draw():
        model = _created(name, classes, size)
    heads = _heads(model, name)
    if path is not None:
        # A checkpoint may be in the authors' own format; the family's module then knows how to read it.
        state, adapt = read(path), getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        called = model.pretrained_cfg["architecture"] + (f" at backbone.size {size}" if size else "")
        fill(model, adapt(state, model) if adapt else state, path, heads, name=called)
    call_linears(model)
    checkpoint(config, model)
    images: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return Backbone(
        name=config.name,
        model=model,
        head=heads[0],
        targets=linear_targets(model),
        size=size or images["input_size"][1],
        mean=images["mean"],
        std=images["std"],
        interpolation=images["interpolation"],
        crop_pct=images["crop_pct"],
        resize="squash" if images["crop_mode"] == "squash" else "shorter",
        parameters=sum(p.numel() for n, p in model.named_parameters() if not within(n, heads)),
        source=f"timm {name}, {origin(path, repository, config.weights)}",
        recipe=_recipe(name, classes, config.weights, path, size),
        file=path,
        repository=(repository or "") if config.weights == "pretrained" else "",
        more_heads=heads[1:],
    )


def _created(name: str, classes: int, size: int | None) -> Any:
    """The model without weights, for images of `size` where that is not its own."""
    if size is None:
        return timm.create_model(name, pretrained=False, num_classes=classes)
    try:
        model: Any = timm.create_model(name, pretrained=False, num_classes=classes, img_size=size)
    except TypeError:
        problem = "which is built for one size, or for any: timm takes none for it. Remove it"
    except (AssertionError, ValueError) as error:
        problem = f"which cannot have it ({error}). Use another size"
    else:
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1))[0]
        if size % patch == 0:
            return model
        problem = (
            f"whose patches have {patch} pixels a side: {size % patch} would be cut off. Use a multiple of {patch}"
        )
    raise UserError(f"backbone.size is {size} for {name}, {problem}.")


def linear_targets(model: nn.Module) -> dict[str, list[str] | str]:
    """The layers of `model` that can carry an adapter, for each `layers` option that its structure allows."""
    linear = {ending(name) for name, part in model.named_modules() if isinstance(part, nn.Linear)}

    def first(options: tuple[tuple[str, ...], ...]) -> list[str]:
        return next((list(option) for option in options if linear.issuperset(option)), [])

    qkv, out, mlp = first(_QKV), first(_OUT), first(_MLP)
    targets: dict[str, list[str] | str] = {"qkv": qkv} if qkv else {}
    if qkv and out:
        targets["attention"] = qkv + out
    if qkv and out and mlp:
        targets["attention+mlp"] = qkv + out + mlp
    return targets


def call_linears(model: nn.Module) -> None:
    """Swin-v2, BEiT and EVA read `qkv.weight` without calling `qkv`, so that an adapter on it would have no effect.

    This is their own switch for calling it; the outputs are the same.
    """
    for part in model.modules():
        if hasattr(part, "qkv_bias_separate"):
            part.qkv_bias_separate = True  # type: ignore[assignment]  # a plain attribute of timm's attention


def _published(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The hub repository of a name and the files that may hold its weights."""
    try:
        card: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        tagged = timm.list_models(f"{name.partition('.')[0]}*", pretrained=True)
        known = {*BACKBONES, *(tagged or timm.list_models("vit_*"))}
        raise UserError(unknown(f"backbone.name '{name}'", name, known)) from None
    named = getattr(card, "hf_hub_filename", None)
    return card.hf_hub_id or None, (named,) if named else ("model.safetensors", "pytorch_model.bin")


def _heads(model: Any, name: str) -> tuple[str, ...]:
    """The head, and those beside it that a distilled model has."""
    named = model.pretrained_cfg.get("classifier")
    heads: tuple[str, ...] = (named,) if isinstance(named, str) else tuple(named or ())
    if not heads:
        raise UserError(f"backbone.name: '{name}' has no head to replace. Use a model that classifies.")
    return heads


def _recipe(name: str, classes: int, weights: str, path: Path | None, size: int | None) -> str:
    load = {"none": "pretrained=False", "pretrained": "pretrained=True"}.get(
        weights, f"pretrained=True, pretrained_cfg_overlay=dict(file={str(path)!r})"
    )
    sized = "" if size is None else f", img_size={size}"
    return (
        "import peft, safetensors.torch, timm, torch\n"
        "torch.manual_seed(0)\n"
        f"model = timm.create_model({name!r}, {load}, num_classes={classes}{sized})\n"
        f"{CALL_LINEARS.format(module='model')}"
    )
