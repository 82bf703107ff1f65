"""`train.compile`: a model's blocks are compiled for each shape of their inputs, not for each rank of an adapter."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from trainables.backbones.blocks import transformer_blocks
from trainables.task import TrainConfig

VERSIONS = 64  # of one block: those of a Swin differ by stage and shift, and each trains on full and on last batches


def compile_blocks(model: nn.Module) -> None:
    """Compile each block of `model`, or all of it where it has none: at its first call, while it trains.

    Blocks of one shape share one graph, and so do the fits of a process: torch compares what it compiled for with what
    it is given, not whose it is. From the second rank on the sizes of weights are inputs of the graph.
    """
    import torch._dynamo  # seconds, and for those who compile alone

    config: Any = torch._dynamo.config
    config.force_parameter_static_shapes = config.force_nn_module_property_static_shapes = False
    config.recompile_limit, config.accumulated_recompile_limit = VERSIONS, 4 * VERSIONS
    for part in [model.get_submodule(name) for name in transformer_blocks(model)] or [model]:
        part.compile()


def uncompiled(train: TrainConfig) -> AbstractContextManager[Any]:
    """Inside, what is compiled is not used: evaluations are of the model as it is written."""
    return torch.compiler.set_stance("force_eager") if train.compile else nullcontext()
