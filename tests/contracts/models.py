"""Small configurations of the same classes as the papers' models, under names of their own, without weights.

`MODELS` has at least one of each file in trainables/backbones; a newcomer adds its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.tiny_vit import TinyVit
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from tests.backbones import language
from trainables.backbones import BackboneConfig

_IMAGES: dict[str, Any] = {"input_size": (3, 32, 32), "num_classes": 1000, "mean": (0.5,) * 3, "std": (0.5,) * 3}
default_cfgs = generate_default_cfgs(
    {
        "contract_vit": {**_IMAGES, "classifier": "head"},
        "contract_swinv2": {**_IMAGES, "classifier": "head.fc"},
        "contract_tinyvit": {**_IMAGES, "classifier": "head.fc"},
    }
)
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@register_model
def contract_vit(pretrained: bool = False, **more: Any) -> Any:
    """vit_tiny_patch16_224 at 32 pixels, two blocks deep."""
    sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}
    return build_model_with_cfg(VisionTransformer, "contract_vit", pretrained, **sizes, **more)


@register_model
def contract_swinv2(pretrained: bool = False, **more: Any) -> Any:
    """Swin-v2 at 32 pixels, windows of 2, one block in each stage.

    Its blocks end in norms of weight 0, so that an untrained one is deaf to its attention: here they are 1.
    """
    sizes = {"img_size": 32, "window_size": 2, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
    model = build_model_with_cfg(SwinTransformerV2, "contract_swinv2", pretrained, **sizes, **more)
    for part in model.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
    return model


@register_model
def contract_tinyvit(pretrained: bool = False, **more: Any) -> Any:
    """TinyViT at 32 pixels: convolutions with batch norms, whose statistics are buffers, before its attention."""
    sizes = {"embed_dims": (8, 16, 16, 32), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)}
    return build_model_with_cfg(TinyVit, "contract_tinyvit", pretrained, window_sizes=(2, 2, 2, 1), **sizes, **more)


def register_clip(folder: Path) -> None:
    """ViT-B-32 of open_clip cut down, as `open_clip:contract-clip`."""
    path = folder / "contract-clip.json"
    path.write_text(json.dumps(CLIP))
    open_clip.add_model_config(path)


def write_bert(folder: Path) -> BackboneConfig:
    """A BERT of two layers and its tokenizer."""
    return BackboneConfig(name="transformers:contract-bert", weights=str(language.bert(folder)), length=32)


MODELS: dict[str, BackboneConfig] = {
    "small": BackboneConfig(name="small-vit", weights="none"),
    "vit": BackboneConfig(name="timm:contract_vit", weights="none"),
    "swinv2": BackboneConfig(name="timm:contract_swinv2", weights="none"),
    "tinyvit": BackboneConfig(name="timm:contract_tinyvit", weights="none"),
    "clip": BackboneConfig(name="open_clip:contract-clip", weights="none"),
    "bert": BackboneConfig(name="transformers:contract-bert"),  # whose folder is written by `write_bert`
    "clip-zero-shot": BackboneConfig(name="open_clip:contract-clip", weights="none", head="zero-shot"),
}
