"""A stream of chance for each slot of a pack: what a fit draws is what it would draw alone.

torch draws from one state. Here there is one for each slot, as its own step has seeded it, and the rows of a slot are
drawn for with its state, in the order of the forward pass. `SlotStreams.parting` does so for whatever the model itself
draws (dropout, dropped paths), whose calls are met one by one.

Texts of one slot may be shorter than those of another, and all are padded to the longest. Behind the end of its own
longest text nothing is drawn for a slot: alone it would have no such places.

Shapes: K slots of B rows each, one slot after the other: K * B rows; L tokens of the longest text of all slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trainables.training.texts import NO_TOKEN

State = tuple[Tensor, ...]  # of the CPU, and of the GPU where there is one
_OF_ROWS: set[Any] = {
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    F.scaled_dot_product_attention,
    torch.dropout,
    torch.bernoulli,
    torch.rand_like,
    torch.randn_like,
    Tensor.bernoulli,
    Tensor.bernoulli_,
    Tensor.normal_,
    Tensor.uniform_,
}
_OF_SIZES: set[Any] = {torch.rand, torch.randn}


def state(device: torch.device) -> State:
    """Where torch's chance stands."""
    cuda = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return (torch.get_rng_state(), *cuda)


def go_to(to: State, device: torch.device) -> None:
    """Chance goes on from there."""
    torch.set_rng_state(to[0])
    for of_gpu in to[1:]:
        torch.cuda.set_rng_state(of_gpu, device)


class SlotStreams:
    """The chance of each slot in one step."""

    def __init__(self, slots: int, device: torch.device, *, parts: bool) -> None:
        """`parts`: the model itself draws while it trains."""
        self.slots, self._device, self._parts = slots, device, parts
        self.states: list[State] = []
        self.entered = False
        self._widths: list[int] = []  # of each slot's texts, where they differ

    def begin(self, states: Sequence[State], inputs: Sequence[Tensor]) -> Tensor:
        """A step in which chance goes on from these states, one a slot; the slots' `inputs` as one batch."""
        self.states, self._widths = list(states), []
        if not inputs[0].is_floating_point() and len({tokens_BL.shape[1] for tokens_BL in inputs}) > 1:
            self._widths = [tokens_BL.shape[1] for tokens_BL in inputs]
            L = max(self._widths)
            inputs = [F.pad(tokens_BL, (0, L - tokens_BL.shape[1]), value=NO_TOKEN) for tokens_BL in inputs]
        return torch.cat(list(inputs))

    @contextmanager
    def of(self, slot: int) -> Iterator[None]:
        """What is drawn in here is the slot's."""
        outside = state(self._device)
        go_to(self.states[slot], self._device)
        self.entered = True
        try:
            yield
        finally:
            self.states[slot] = state(self._device)
            go_to(outside, self._device)
            self.entered = False

    def drawn(self, slot: int, rows_B: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """`draw` of the slot's rows, `[B, L, ...]` or attention's `[B, H, L, L]`, as far as its texts reach."""
        own_B = self.narrowed(slot, rows_B)
        if own_B is rows_B:
            return draw(rows_B)
        answers_B = rows_B.clone()
        self.narrowed(slot, answers_B).copy_(draw(own_B.contiguous()))
        return answers_B

    def narrowed(self, slot: int, rows_B: Tensor) -> Tensor:
        """What is of the slot's own texts, not of longer ones of others."""
        if self._widths:
            L, own = max(self._widths), self._widths[slot]
            for axis in {3: (1,), 4: (2, 3)}.get(rows_B.ndim, ()):
                if own < L == rows_B.shape[axis]:
                    rows_B = rows_B.narrow(axis, 0, own)
        return rows_B

    def apart(self, rows_S: Tensor, axis: int = 0) -> Sequence[Tensor]:
        """The rows of each slot, `[B, ...]`.

        Raises:
            ValueError: there are not as many of each.
        """
        if rows_S.shape[axis] % self.slots:
            raise ValueError(f"{rows_S.shape[axis]} rows are not the same number for each of {self.slots} fits")
        return rows_S.chunk(self.slots, axis)

    def parting(self) -> AbstractContextManager[Any]:
        """The model's own draws are parted in here, where it has any."""
        return _Parting(self) if self._parts else nullcontext()


class _Parting(TorchFunctionMode):
    """Calls that draw for the rows of all slots become one call for each slot.

    What is not in the tables, or not of as many rows for each, stays one call: whoever proves a pack sees that chance
    was drawn from no slot's stream.
    """

    def __init__(self, streams: SlotStreams) -> None:
        super().__init__()
        self._streams = streams

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, K = kwargs or {}, self._streams.slots
        if self._streams.entered or not (func in _OF_ROWS or func in _OF_SIZES) or not _draws(func, args, kwargs):
            return func(*args, **kwargs)
        if func in _OF_SIZES:
            size = args[0] if args and isinstance(args[0], (tuple, list, torch.Size)) else args
            if not size or size[0] % K:
                return func(*args, **kwargs)
            return self._each(lambda _: func((size[0] // K, *size[1:]), **kwargs))
        first = args[0] if args else None
        if not isinstance(first, Tensor) or first.ndim == 0 or first.shape[0] % K:
            return func(*args, **kwargs)
        B = first.shape[0] // K

        def part(value: Any, slot: int) -> Any:
            """As a slice, which may be written to, unlike what `chunk` gives."""
            with_rows = isinstance(value, Tensor) and (value.ndim, value.shape[:1]) == (first.ndim, first.shape[:1])
            return value[slot * B : (slot + 1) * B] if with_rows else value

        def one(slot: int) -> Any:
            own = {name: part(value, slot) for name, value in kwargs.items()}
            rows_B, *more = (part(value, slot) for value in args)
            if func is F.scaled_dot_product_attention and first.ndim == 4:
                return self._attention(slot, (rows_B, *more), own)
            if in_place:
                return func(rows_B, *more, **own)
            return self._streams.drawn(slot, rows_B, lambda rows_B: func(rows_B, *more, **own))

        in_place = func.__name__.endswith("_")
        drawn = self._each(one)
        return first if in_place else drawn

    def _attention(self, slot: int, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        """Of queries, keys and values, `[B, H, L, D]`, and a mask those of the slot's own texts; zeros behind them."""

        def narrowed(value: Any) -> Any:
            return self._streams.narrowed(slot, value) if isinstance(value, Tensor) else value

        attention: Any = F.scaled_dot_product_attention
        L, width = args[0].shape[2], narrowed(args[0][..., :1]).shape[2]
        if width == L:
            return attention(*args, **kwargs)  # type: ignore[no-any-return]
        first = [each[:, :, :width] for each in args[:3]]
        own = {name: narrowed(each) for name, each in kwargs.items()}
        return F.pad(attention(*first, *map(narrowed, args[3:]), **own), (0, 0, 0, L - width))

    def _each(self, one: Callable[[int], Any]) -> Tensor:
        parts = []
        for slot in range(self._streams.slots):
            with self._streams.of(slot):
                parts.append(one(slot))
        return torch.cat(parts)


def _draws(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """False of a dropout that drops nothing: it need not be parted."""
    if func is F.scaled_dot_product_attention:
        return bool((args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)) > 0)
    if "dropout" in func.__name__:
        odds = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
        return bool(training and odds > 0)
    return True
