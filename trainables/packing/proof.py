"""Proof, when a pack of a kind is first met, that each fit gets the losses and gradients that it would get alone.

In float64, on copies, with a few examples, as in training: rows that a layer mixes, chance that no slot owns or a mask
that is not of its own fit show at once, and rounding does not.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables import adapters
from trainables.backbones import weights
from trainables.packing.chance import SlotStreams, State, go_to, state
from trainables.packing.together import Together, Unpackable, trained_modules
from trainables.training.fit import Fit, keep_still
from trainables.training.runtime import Runtime

SLOTS, EXAMPLES = 3, 3  # at most; numbers that the axes of a model seldom have
EXACT = 1e-10  # of the largest number
_Answer = tuple[Tensor, list[Tensor]]  # losses of the examples, and gradients of what trains


def prove(fits: Sequence[Fit], heads: Sequence[str], examples_N: Tensor, runtime: Runtime) -> bool:
    """Whether the model itself draws chance while it trains, so that its draws must be parted.

    Weights, gradients, modes and random states of the fits stay as they are.

    Raises:
        Unpackable: one pass gives other numbers than one for each fit.
        FitError: `out-of-memory`.
    """
    with runtime.memory("proving that fits can be trained in one pass"), runtime.seeded(0):
        models, stills = copy.deepcopy(([fit.model for fit in fits], [fit.still for fit in fits]))
        for slot, (model, still) in enumerate(zip(models, stills, strict=True)):
            _make_ready(model, heads, slot)
            adapters.train(model)
            keep_still(still)
        examples_N = examples_N[:EXAMPLES]
        if examples_N.is_floating_point():  # tokens are not
            examples_N = examples_N.double()
        inputs = [examples_N.roll(slot, 0) for slot in range(len(models))]
        if not examples_N.is_floating_point():  # texts of one fit may be shorter than those of another
            inputs = [tokens_BL[:, : max(1, tokens_BL.shape[1] - slot)] for slot, tokens_BL in enumerate(inputs)]
        alone = [
            _alone(model, rows, slot, runtime) for slot, (model, rows) in enumerate(zip(models, inputs, strict=True))
        ]
        ends = [end for _, end in alone]
        for parts in (False, True):
            streams = SlotStreams(len(models), runtime.device, parts=parts)
            outside = state(runtime.device)
            answers = _packed(models, heads, inputs, streams)
            if _same(outside, state(runtime.device)):
                break
            go_to(outside, runtime.device)
        else:
            raise Unpackable("a module of the model draws chance that cannot be drawn for each fit apart")
        error = max(_error(one, other) for one, (other, _) in zip(answers, alone, strict=True))
        if not error <= EXACT:
            raise Unpackable(f"in one pass the gradients are others, by {error:.0e} of their size")
        if not all(_same(*pair) for pair in zip(streams.states, ends, strict=True)):
            raise Unpackable("a module of the model draws more or less chance for several fits than for one")
    return parts


def _make_ready(model: nn.Module, heads: Sequence[str], slot: int) -> None:
    """In float64, with nothing hidden, and with numbers of its own in what trains."""
    for head in trained_modules(model, heads).values():
        vars(head).pop("forward", None)  # that of the model that this is a copy of
    model.double()
    weights.reveal(model)
    noise = torch.Generator().manual_seed(slot + 1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn(p.shape, generator=noise, dtype=p.dtype).to(p.device))


def _alone(model: nn.Module, inputs_B: Tensor, slot: int, runtime: Runtime) -> tuple[_Answer, State]:
    torch.manual_seed(slot)
    (answer,) = _answers([model], model(inputs_B))
    return answer, state(runtime.device)


def _packed(
    models: Sequence[nn.Module], heads: Sequence[str], inputs: Sequence[Tensor], streams: SlotStreams
) -> list[_Answer]:
    outside, states = state(inputs[0].device), []
    for slot in range(len(models)):
        torch.manual_seed(slot)
        states.append(state(inputs[0].device))
    go_to(outside, inputs[0].device)
    together, rows_S = Together(models, heads, streams), streams.begin(states, inputs)
    try:
        with together(), streams.parting():
            return _answers(models, models[0](rows_S))
    except torch.OutOfMemoryError:
        raise
    except Exception as fault:  # a forward pass that is given more rows than it expects can raise anything
        first = (str(fault).splitlines() or [""])[0]
        raise Unpackable(f"the model does not take several fits' rows ({type(fault).__name__}: {first})") from fault


def _answers(models: Sequence[nn.Module], logits_SC: Tensor) -> list[_Answer]:
    """Of each model, from the rows that are its own."""
    answers = []
    for logits_BC in logits_SC.chunk(len(models)):
        labels_B = torch.arange(len(logits_BC), device=logits_BC.device) % logits_BC.shape[1]
        answers.append(F.cross_entropy(logits_BC, labels_B, reduction="none"))
    trained = [[p for p in model.parameters() if p.requires_grad] for model in models]
    uneven = [loss_B @ torch.arange(1.0, len(loss_B) + 1).to(loss_B) for loss_B in answers]
    gradients = torch.autograd.grad(
        uneven, [p for own in trained for p in own], materialize_grads=True, allow_unused=True
    )
    parts = iter(gradients)
    return [(loss_B.detach(), [next(parts) for _ in own]) for loss_B, own in zip(answers, trained, strict=True)]


def _error(one: _Answer, other: _Answer) -> float:
    """The largest difference, as a share of the largest loss or the largest gradient."""
    size = max(float(gradient.abs().max()) for gradient in other[1])
    of_gradients = max(float((a - b).abs().max()) for a, b in zip(one[1], other[1], strict=True)) / size
    of_losses = float((one[0] - other[0]).abs().max() / other[0].abs().max())
    return max(of_gradients, of_losses)


def _same(one: State, other: State) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
