"""The models of several fits as one: the frozen weights see all rows at once, what trains sees those of its own fit.

No copy is made, and no forward pass is written again. It is the first fit's model that runs; while it does, each of its
adapted layers, and its heads, take the rows of the first slot, of the second, ... and give each to the weights of that
slot's fit. All that lies between must keep the slots' rows together, one slot after the other; `proof` shows it.

Shapes: K slots, B rows of each (a layer's rows may be more than examples: windows of images), S = K * B; I and O
features in and out, R the rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora.layer import Conv2d, Linear, MultiheadAttention
from torch import Tensor, nn

from trainables import adapters
from trainables.backbones import within
from trainables.packing.chance import SlotStreams

_WRAP = "base_model.model."  # what peft puts before each name


class Unpackable(Exception):
    """Why fits cannot be trained in one pass: a clause that begins with a small letter."""


class Together:
    """The first of these wrapped models, as it takes the rows of all of them."""

    def __init__(self, models: Sequence[nn.Module], heads: Sequence[str], streams: SlotStreams) -> None:
        """`heads` are the names of what trains whole.

        Raises:
            Unpackable: something trains that is neither a plain adapter nor a head.
        """
        self.forwards: list[tuple[nn.Module, Callable[..., Tensor]]] = []
        trained = [trained_modules(model, heads) for model in models]
        layers = [_adapted(model) for model in models]
        _refuse_strangers(models, trained, layers)
        for name in layers[0]:
            own = [each[name] for each in layers]
            fused = isinstance(own[0], MultiheadAttention)  # its adapter adds to the weights, so that each has its own
            axis = 0 if fused and own[0].get_base_layer().batch_first else 1
            self.forwards.append((own[0], _Apart(own, streams, axis) if fused else Adapted(own, streams)))
        for name in trained[0]:
            self.forwards.append((trained[0][name], _Apart([each[name] for each in trained], streams)))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """In here the first model, or its tail, takes `[K * B, ...]` and answers `[K * B, C]`."""
        kept = [vars(module).get("forward") for module, _ in self.forwards]
        try:
            for module, forward in self.forwards:
                module.forward = forward
            yield
        finally:
            for (module, _), before in zip(self.forwards, kept, strict=True):
                vars(module).pop("forward", None)
                if before is not None:
                    module.forward = before


class _Apart:
    """One module for each slot, that takes tensors whose `axis` is the rows."""

    def __init__(self, modules: Sequence[nn.Module], streams: SlotStreams, axis: int = 0) -> None:
        # The first module's call will lead here; its forward pass of now is its own.
        self._each: list[Callable[..., Tensor]] = [modules[0].forward, *modules[1:]]
        self._streams, self._axis = streams, axis

    def __call__(self, rows_S: Tensor, *args: Any, **kwargs: Any) -> Any:
        parts = [self._parts(value, rows_S) for value in (rows_S, *args)]
        named = {name: self._parts(value, rows_S) for name, value in kwargs.items()}
        answers = []
        for slot, forward in enumerate(self._each):
            with self._streams.of(slot):
                own = {name: each[slot] for name, each in named.items()}
                answers.append(forward(*(each[slot] for each in parts), **own))
        if isinstance(answers[0], tuple):
            return tuple(self._joined(each) for each in zip(*answers, strict=True))
        return self._joined(answers)

    def _parts(self, value: Any, rows_S: Tensor) -> Sequence[Any]:
        """The slots' parts of whatever has their rows; of all else each has the whole."""
        axis = self._axis
        if isinstance(value, Tensor) and value.ndim == rows_S.ndim and value.shape[axis] == rows_S.shape[axis]:
            return self._streams.apart(value, axis)
        return [value] * len(self._each)

    def _joined(self, answers: Sequence[Any]) -> Any:
        return torch.cat(list(answers), self._axis) if isinstance(answers[0], Tensor) else answers[0]


@dataclass(frozen=True)
class _Slot:
    """The adapter of one layer in one fit."""

    down: nn.Linear | nn.Conv2d
    up: nn.Linear | nn.Conv2d
    dropout: nn.Module
    scaling: float


class Adapted:
    """A frozen layer, and for each slot an adapter beside it."""

    def __init__(self, layers: Sequence[Any], streams: SlotStreams) -> None:
        self._base: nn.Module = layers[0].get_base_layer()
        self._streams = streams
        self._slots = []
        for layer in layers:
            (name,) = layer.active_adapters
            self._slots.append(
                _Slot(layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name], layer.scaling[name])
            )
        self._drops = any(not isinstance(slot.dropout, nn.Identity) for slot in self._slots)
        self._ranks = {slot.down.weight.shape[0] for slot in self._slots}
        scaling = [slot.scaling for slot in self._slots]  # made once: each copy to a GPU is a wait
        self._scaling_K11 = self._slots[0].down.weight.new_tensor(scaling).view(-1, 1, 1)
        self._linear = isinstance(layers[0], Linear)

    def __call__(self, rows_S: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        answers_S = self._base(rows_S, *args, **kwargs)
        # Zeros to fill up the ranks cost a CPU arithmetic, and a GPU less than many small products.
        if self._linear and (len(self._ranks) == 1 or rows_S.is_cuda):
            return self._batched(rows_S, answers_S)
        return self._one_by_one(rows_S, answers_S)

    def _one_by_one(self, rows_S: Tensor, answers_S: Tensor) -> Tensor:
        rows, answers = self._dropped(rows_S), self._streams.apart(answers_S)
        return torch.cat(
            [
                (answers_B + slot.up(slot.down(rows_B) * slot.scaling)).to(answers_S.dtype)
                for slot, rows_B, answers_B in zip(self._slots, rows, answers, strict=True)
            ]
        )

    def _batched(self, rows_S: Tensor, answers_S: Tensor) -> Tensor:
        K, rank = len(self._slots), max(self._ranks)
        if self._drops:
            rows_S = torch.cat(self._dropped(rows_S))
        down_KRI = torch.stack([_filled(slot.down.weight, rank, 0) for slot in self._slots])
        up_KOR = torch.stack([_filled(slot.up.weight, rank, 1) for slot in self._slots])
        inner_KBR = torch.bmm(rows_S.reshape(K, -1, rows_S.shape[-1]), down_KRI.mT) * self._scaling_K11
        answers_KBO = answers_S.reshape(K, -1, answers_S.shape[-1])
        return torch.baddbmm(answers_KBO, inner_KBR, up_KOR.mT).view(answers_S.shape).to(answers_S.dtype)

    def _dropped(self, rows_S: Tensor) -> list[Tensor]:
        parts = []
        for slot, rows_B in enumerate(self._streams.apart(rows_S)):
            dropout = self._slots[slot].dropout
            if isinstance(dropout, nn.Identity):
                parts.append(rows_B)
                continue
            with self._streams.of(slot):
                parts.append(self._streams.drawn(slot, rows_B, dropout))
        return parts


def _filled(weight: Tensor, rank: int, axis: int) -> Tensor:
    """With zeros up to the rank, which add nothing and learn nothing."""
    missing = rank - weight.shape[axis]
    if not missing:
        return weight
    return F.pad(weight, (0, 0, 0, missing) if axis == 0 else (0, missing))


def trained_modules(model: nn.Module, heads: Iterable[str]) -> dict[str, nn.Module]:
    """The `heads` that train, by their whole names in the wrapped model."""
    names = {part: name for name, part in model.named_modules()}
    return {names[part]: part for part in (adapters.trained_module(model, head) for head in heads)}


def _adapted(model: nn.Module) -> dict[str, Any]:
    """The outermost adapted layers, by their whole names."""
    layers = adapters.adapted_layers(model) if isinstance(model, PeftModel) else {}
    return {f"{_WRAP}{name}": layer for name, layer in layers.items()}


def _refuse_strangers(
    models: Sequence[nn.Module],
    trained: Sequence[dict[str, nn.Module]],
    layers: Sequence[dict[str, Any]],
) -> None:
    for model, heads, adapted in zip(models, trained, layers, strict=True):
        if adapted.keys() != layers[0].keys():
            raise Unpackable("their adapters are on other layers")
        for name, layer in adapted.items():
            if not isinstance(layer, (Linear, Conv2d, MultiheadAttention)):
                raise Unpackable(f"the adapter of {_short(name)} is a {type(layer).__name__}")
            more = layer.lora_variant or any(layer.lora_bias.values()) or len(layer.active_adapters) != 1
            if more or layer.merged or layer.disable_adapters:
                raise Unpackable(f"the adapter of {_short(name)} is no plain LoRA")
        own = [*heads, *adapted]
        strange = [name for name, p in model.named_parameters() if p.requires_grad and not within(name, own)]
        if strange:
            raise Unpackable(f"{_short(strange[0])} trains, and is neither of an adapter nor of the head")


def refuse_copies(models: Sequence[nn.Module], heads: Iterable[str]) -> None:
    """Raises: `Unpackable` where the models do not share what is frozen, but for the `heads` that peft has replaced."""
    places = [{name: p.data_ptr() for name, p in model.named_parameters() if not p.requires_grad} for model in models]
    replaced = [f"{_WRAP}{head}" for head in heads]
    for name, place in places[0].items():
        if not within(name, replaced) and any(each.get(name) != place for each in places):
            raise Unpackable(f"they do not share the frozen weights ({_short(name)})")


def _short(name: str) -> str:
    return name.removeprefix(_WRAP)
