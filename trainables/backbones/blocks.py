"""The blocks of a backbone, found by name: what is repeated in depth, with attention in each."""

from __future__ import annotations

import re

from torch import nn

from trainables.backbones import within

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)  # in a block's class or name, in every family of timm
_NUMBERED = re.compile(r"^(.*\.)?\d+(?=\.|$)")


def attention_blocks(model: nn.Module) -> list[str]:
    """The outermost modules of `model` that attend and have linear layers; attention that only pools is none."""
    blocks: list[str] = []
    for name, part in model.named_modules():
        kind = type(part).__name__
        attends = _ATTENTION.search(kind) or _ATTENTION.fullmatch(name.rpartition(".")[2])
        pools = "pool" in kind.lower() or "pool" in name
        if attends and not pools and not within(name, blocks) and any(isinstance(p, nn.Linear) for p in part.modules()):
            blocks.append(name)
    return blocks


def transformer_blocks(model: nn.Module) -> list[str]:
    """The blocks that attend, in their order: `blocks.0` of a ViT, `layers.2.blocks.1` of a Swin, whose stages follow
    one another. A block is what holds an attention and is numbered; attention outside any is a block by itself.
    """
    numbered = ((name, _NUMBERED.match(name)) for name in attention_blocks(model))
    return list(dict.fromkeys(found[0] if found else name for name, found in numbered))
