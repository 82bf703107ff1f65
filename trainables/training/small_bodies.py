"""Models whose frozen weights have less than 32 bits: has the adapter an effect, where there is no room for a copy?"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from trainables import adapters
from trainables.errors import FitError


def kept_small(model: nn.Module) -> bool:
    """Whether any weight has other than 32 bits."""
    return any(p.dtype != torch.float32 for p in model.parameters())


@torch.no_grad()
def check_effect(model: Any, examples_N: Tensor) -> None:
    """As `adapters.check_effect`, but without its copy in float64, and so without a look at what merging gives.

    The adapter's second matrices hold noise meanwhile; mode, weights and random state are as before in the end.

    Raises: `FitError` with the reason `dead-adapter`.
    """
    if not isinstance(model, PeftModel):
        return
    seconds = [weight for name, weight in model.named_parameters() if ".lora_B." in name]
    kept, training = [weight.clone() for weight in seconds], model.training
    noise = torch.Generator().manual_seed(0)
    answers = []
    model.eval()
    with torch.autocast(examples_N.device.type, torch.bfloat16):
        for weight in seconds:
            weight.copy_(torch.randn(weight.shape, generator=noise))
        for on in (False, True):
            for layer in adapters.adapted_layers(model).values():
                layer.enable_adapters(on)
            answers.append(model(examples_N))
    for weight, before in zip(seconds, kept, strict=True):
        weight.copy_(before)
    model.train(training)
    if torch.equal(*answers):
        raise FitError("dead-adapter", f"adapter on and off give the same answers. {adapters.MEND}")
