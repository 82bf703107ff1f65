"""The frozen beginning of a wrapped model: what comes before the first weight that trains, and the model without it.

No family's forward pass is written again here. A trace of one pass tells which modules have returned by the time the
first adapted block is entered. In the `Tail` these give zeros of their shape, which cost nothing, and that block gets
what the real ones had computed. `agrees` shows that nothing else of them was used.

Shapes: B examples of a batch; what follows is the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from trainables.backbones import within
from trainables.backbones.blocks import transformer_blocks
from trainables.training.runtime import Runtime

TOLERANCE = {"fp32": 1e-4, "bf16": 2.0**-6}  # of the largest number, on a GPU; on a CPU fp32 must agree bit for bit


class Unfit(Exception):
    """Why outputs of the frozen part cannot stand for it: a clause that begins with a small letter."""


class _Reached(Exception):
    """The pass is at the module whose input is wanted."""


@dataclass(frozen=True)
class Cut:
    """Where the frozen beginning ends: at the input of the module `at`.

    `below` are the outermost modules that have returned by then, with the shape of what each gives for one example and
    its type; None for one that gives no such tensor. `blocks` of them are transformer blocks, of `of` in all.
    """

    at: str
    below: Mapping[str, tuple[tuple[int, ...], torch.dtype] | None]
    blocks: int
    of: int

    @classmethod
    def find(cls, model: nn.Module, images_BCHW: Tensor, *, behind_blocks: bool = False) -> Cut | None:
        """Of a model in which something is frozen; None where the first thing that trains is met at once.

        It is met at the first module with weights that train, or the block that holds it; or earlier, `behind_blocks`.
        """
        blocks = transformer_blocks(model)
        trains = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        goals = {next((block for block in blocks if within(name, [block])), name) for name in trains}
        below: dict[str, tuple[tuple[int, ...], torch.dtype] | None] = {}
        met: list[str] = []

        def enter(name: str) -> None:
            through = behind_blocks and bool(blocks) and all(within(block, below) for block in blocks)
            if not met and (name in goals or through):
                met.append(name)
            elif met:
                below.pop(name, None)  # it is called again above the cut, so that it must stay

        def leave(name: str, given: object) -> None:
            if met:
                return
            for inner in [inner for inner in below if within(inner, [name])]:
                del below[inner]
            batched = isinstance(given, Tensor) and given.shape[:1] == images_BCHW.shape[:1]
            below[name] = (tuple(given.shape[1:]), given.dtype) if batched else None  # type: ignore[attr-defined]

        handles = []
        for name, part in model.named_modules():
            if name:
                handles += [
                    part.register_forward_pre_hook(lambda *_, name=name: enter(name)),
                    part.register_forward_hook(lambda *told, name=name: leave(name, told[-1])),
                ]
        try:
            with torch.no_grad():
                model(images_BCHW)
        finally:
            for handle in handles:
                handle.remove()
        if not met or not below:
            return None
        return cls(met[0], below, sum(within(block, below) for block in blocks), len(blocks))

    def parts(self, model: nn.Module) -> list[nn.Module]:
        """The modules below."""
        return [model.get_submodule(name) for name in self.below]

    @torch.no_grad()
    def hidden(self, model: nn.Module, images_BCHW: Tensor) -> Tensor:
        """What enters the module `at`, `[B, ...]`.

        Raises:
            Unfit: that is not one tensor.
        """
        found: list[Tensor] = []

        def take(_: nn.Module, args: tuple[Any, ...]) -> None:
            found.extend(args[:1])
            raise _Reached

        handle = model.get_submodule(self.at).register_forward_pre_hook(take)
        try:
            model(images_BCHW)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not found or not isinstance(found[0], Tensor) or found[0].shape[0] != images_BCHW.shape[0]:
            raise Unfit(f"what enters {self.at} is not one tensor")
        return found[0]

    def restless(self, model: nn.Module) -> str | None:
        """The first module below that in its present mode depends on chance or on the batch; None: none does."""
        for name in self.below:
            for inner, part in model.get_submodule(name).named_modules(prefix=name):
                kind = type(part).__name__
                odds = [getattr(part, field, 0) for field in ("p", "drop_prob", "prob", "dropout")]
                by_chance = ("drop" in kind.lower() or isinstance(part, nn.MultiheadAttention)) and any(
                    isinstance(value, float) and value > 0 for value in odds
                )
                if part.training and (by_chance or (isinstance(part, _NormBase) and part.track_running_stats)):
                    return f"{inner.removeprefix('base_model.model.')} ({kind})"
        return None


class Tail(nn.Module):
    """A wrapped model from the cut on: hidden `[B, ...]` in, logits out. Its weights are the model's, not copies."""

    def __init__(self, model: nn.Module, cut: Cut, image: torch.Size) -> None:
        super().__init__()
        self._entry = _Entry(model.get_submodule(cut.at))
        given = {name: _Given(model.get_submodule(name), *shape) for name, shape in cut.below.items() if shape}
        self._net = _grafted(model, {**given, cut.at: self._entry})
        self._image = image

    def forward(self, hidden_B: Tensor) -> Any:
        """What the model would answer to the images that `hidden_B` came from."""
        self._entry.hidden_B = hidden_B
        try:
            return self._net(torch.zeros((), device=hidden_B.device).expand(len(hidden_B), *self._image))
        finally:
            self._entry.hidden_B = None


class _Given(nn.Module):
    """In the place of a module below the cut: zeros of its shape."""

    def __init__(self, real: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.__dict__["real"] = real  # for whoever asks for its attributes; not a part of the tail
        self._shape, self._dtype = shape, dtype

    def forward(self, first_B: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.zeros((), dtype=self._dtype, device=first_B.device).expand(len(first_B), *self._shape)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["real"], name)


class _Entry(nn.Module):
    """The module at the cut, which is given what was computed before."""

    hidden_B: Tensor | None = None

    def __init__(self, real: nn.Module) -> None:
        super().__init__()
        self.real = real

    def forward(self, _: object, *args: Any, **kwargs: Any) -> Any:
        return self.real(self.hidden_B, *args, **kwargs)


def _grafted(model: nn.Module, replaced: Mapping[str, nn.Module]) -> nn.Module:
    """The same modules, but for `replaced` and those that hold them."""
    if "" in replaced:
        return replaced[""]
    twin: nn.Module = object.__new__(type(model))
    twin.__dict__ = {**vars(model), "_modules": dict(model._modules)}
    inner: dict[str, dict[str, nn.Module]] = {}
    for name, module in replaced.items():
        child, _, rest = name.partition(".")
        inner.setdefault(child, {})[rest] = module
    for child, those in inner.items():
        twin._modules[child] = _grafted(model.get_submodule(child), those)
    return twin


def agrees(
    model: nn.Module, cut: Cut, tail: nn.Module, runtime: Runtime, images_BCHW: Tensor, training: Callable[[], object]
) -> bool:
    """Whether the tail answers what the model does, while training, which sets their modes, and while evaluating."""

    def evaluating() -> None:
        model.eval()
        tail.eval()

    for set_modes in (training, evaluating):
        set_modes()
        with runtime.autocast(), torch.no_grad():  # from one seed each: chance must be drawn alike
            with runtime.seeded(0):
                whole_BC = model(images_BCHW)
            hidden_B = cut.hidden(model, images_BCHW)
            try:
                with runtime.seeded(0):
                    parted_BC = tail(hidden_B)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # a forward pass that wants more of a module than its outputs can raise anything
                return False
        if whole_BC.shape != parted_BC.shape or not same(whole_BC, parted_BC, runtime):
            return False
    return True


def same(one: Tensor, other: Tensor, runtime: Runtime) -> bool:
    """Bit for bit on a CPU in fp32; else within the noise of the precision."""
    if runtime.device.type == "cpu" and runtime.precision == "fp32":
        return torch.equal(one, other)
    scale = float(other.abs().max())
    return bool(float((one.float() - other.float()).abs().max()) <= TOLERANCE[runtime.precision] * scale)
