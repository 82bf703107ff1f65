"""The image towers of open_clip, with a linear head: drawn at random, or from the class names' text embeddings.

The model is `torch.nn.Sequential(visual, head)`, which anyone can rebuild without this package.
Source: open_clip, https://github.com/mlfoundations/open_clip; zero-shot head: Radford et al. 2021, section 3.1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from trainables.backbones import Backbone, BackboneConfig, checkpoint, size_of
from trainables.backbones.timm_family import CALL_LINEARS, call_linears, linear_targets
from trainables.backbones.weights import UNREADABLE, fixed_draw, locate, origin
from trainables.errors import UserError, unknown

_PROMPT = "a photo of a {}."
_RESIZE = {"shortest": "shorter", "squash": "squash"}
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def load(config: BackboneConfig, *, classes: int, class_names: Sequence[str] = ()) -> Backbone:
    """The image tower of `open_clip:MODEL/TAG` and a head of `classes` outputs.

    With `head: zero-shot` the untouched model classifies as CLIP does: its logits are the scaled cosines of the
    image with 'a photo of a {class}.' Without it, the head is linear on the raw features, and random.

    Raises: `UserError` for unknown names, missing or unfit weights, a zero-shot head without class names.
    """
    name, tag = _parse(config)
    card = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    repository = card.get("hf_hub", "").rstrip("/") or None
    path = locate(config.weights, repository, _FILES, name=config.name)
    with fixed_draw():
        clip = _build(name, card, path, size_of(config))
        if config.head == "zero-shot":
            head = _zero_shot(clip, name, classes, class_names)
        else:
            head = {"head": nn.Linear(open_clip.get_model_config(name)["embed_dim"], classes)}
    checkpoint(config, clip.visual)
    images = clip.visual.preprocess_cfg
    return Backbone(
        name=config.name,
        model=nn.Sequential(OrderedDict(visual=clip.visual, **head)),
        head="head",
        targets=_targets(clip.visual),
        size=images["size"] if isinstance(images["size"], int) else images["size"][0],
        mean=tuple(images["mean"]),
        std=tuple(images["std"]),
        interpolation=images["interpolation"],
        crop_pct=1.0,
        resize=_RESIZE.get(images["resize_mode"], "shorter"),
        parameters=sum(p.numel() for p in clip.visual.parameters()),
        source=f"open_clip {name}, {origin(path, repository, config.weights)}",
        recipe=_recipe(name, card, path, tag if config.weights == "pretrained" else "", head, size_of(config)),
        file=path,
        repository=(repository or "") if config.weights == "pretrained" else "",
    )


def _parse(config: BackboneConfig) -> tuple[str, str]:
    """`open_clip:MODEL/TAG` -> (MODEL, TAG); the tag may be left out where it names no weights that are used."""
    name, _, tag = config.name.removeprefix("open_clip:").partition("/")
    if open_clip.get_model_config(name) is None:
        raise UserError(unknown(f"backbone.name '{config.name}'", name, open_clip.list_models()))
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags and (tag or config.weights == "pretrained"):
        fault = unknown(f"backbone.name: tag '{tag}' of open_clip:{name}", tag, tags)
        raise UserError(f"{fault} Write open_clip:{name}/TAG.")
    return name, tag


def _build(name: str, card: dict[str, Any], path: Path | None, size: int | None) -> Any:
    images = {key: card[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in card}
    try:
        clip = open_clip.create_model(
            name,
            pretrained=None if path is None else str(path),
            load_weights=path is not None,
            pretrained_text=False,
            force_quick_gelu=card.get("quick_gelu", False),
            force_preprocess_cfg=images,
            force_image_size=size,
            device=torch.get_default_device(),
        )
    except (*UNREADABLE, AssertionError, KeyError, OSError) as fault:  # open_clip asserts that shapes agree
        raise UserError(
            f"backbone: open_clip cannot build {name} from {path or 'no weights'}: {str(fault).splitlines()[0]} "
            "Use the file of this very model, or a model whose text tower needs no files of its own."
        ) from fault
    patch = getattr(clip.visual, "patch_size", (1, 1))[0]
    if size is not None and size % patch:
        raise UserError(
            f"backbone.size is {size} for {name}, whose patches have {patch} pixels. Use a multiple of {patch}."
        )
    if getattr(clip.visual, "output_tokens", False):
        clip.visual.output_tokens = False  # CoCa: only the pooled feature goes to the head
    call_linears(clip.visual)
    return clip


@torch.no_grad()
def _zero_shot(clip: Any, name: str, classes: int, class_names: Sequence[str]) -> dict[str, nn.Module]:
    """The norm and the head. RMSNorm makes vectors of length sqrt(D); the head's weights are divided by that."""
    if len(class_names) != classes:
        given = f"gives {len(class_names)}" if class_names else "names no classes"
        raise UserError(f"backbone.head is 'zero-shot' for {classes} classes, but the dataset {given}. Use 'random'.")
    prompts = [_PROMPT.format(label.replace("_", " ")) for label in class_names]
    text_CD = clip.eval().encode_text(open_clip.get_tokenizer(name)(prompts), normalize=True)
    width = text_CD.shape[1]
    head = nn.Linear(width, len(prompts))
    head.weight.copy_(clip.logit_scale.exp() * text_CD / width**0.5)
    head.bias.fill_(0.0 if clip.logit_bias is None else float(clip.logit_bias))
    return {"norm": nn.RMSNorm(width, eps=1e-12, elementwise_affine=False), "head": head}


def _targets(visual: nn.Module) -> dict[str, list[str] | str]:
    """On torch's fused attention peft adapts all four projections together, so `qkv` and `attention` are one."""
    blocks = r".*\.resblocks\.\d+\."  # not CoCa's pooling attention: its widths differ, which peft refuses
    if any(isinstance(part, nn.MultiheadAttention) for part in visual.modules()):
        mlp = rf"{blocks}(attn|mlp\.c_fc|mlp\.c_proj)"
        return {"qkv": f"{blocks}attn", "attention": f"{blocks}attn", "attention+mlp": mlp}
    return linear_targets(visual)


def _recipe(
    name: str, card: dict[str, Any], path: Path | None, tag: str, head: dict[str, nn.Module], size: int | None
) -> str:
    weights = repr(tag or (path and str(path)))
    layers = {
        part: f"torch.nn.RMSNorm({layer.normalized_shape[0]}, eps=1e-12, elementwise_affine=False)"
        if isinstance(layer, nn.RMSNorm)
        else f"torch.nn.Linear({layer.in_features}, {layer.out_features})"
        for part, layer in head.items()
    }
    return (
        "import collections, open_clip, peft, safetensors.torch, torch\n"
        "torch.manual_seed(0)\n"
        f"clip = open_clip.create_model({name!r}, pretrained={weights}, "
        f"force_quick_gelu={card.get('quick_gelu', False)}{'' if size is None else f', force_image_size={size}'})\n"
        "clip.visual.output_tokens = False\n"
        f"{CALL_LINEARS.format(module='clip.visual')}\n"
        "model = torch.nn.Sequential(collections.OrderedDict(\n"
        f"    visual=clip.visual, {', '.join(f'{part}={text}' for part, text in layers.items())},\n"
        "))"
    )
