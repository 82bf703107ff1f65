"""Where a backbone's weights lie, and how they are read: never downloaded, never unpickled.

A fit must not wait for a network: weights come from a file, or from a hub cache that was filled before.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.backbones import within
from trainables.errors import UserError

UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError)  # what a bad file raises when read
TINY = 1e-3  # layer scales start below this, and would hide what lies behind them
_PICKLED = (".bin", ".pt", ".pth")


def locate(weights: str, repository: str | None, files: Sequence[str], *, name: str) -> Path | None:
    """The file that `backbone.weights` means: a path, the first of `files` in the hub cache, or None for `none`.

    Raises: `UserError` where there is no such file; says how to provide it.
    """
    if weights == "none":
        return None
    if weights != "pretrained":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"backbone.weights: {path} is not a file. Use a path, 'pretrained' (hub cache) or 'none'.")
        if path.suffix not in (".safetensors", *_PICKLED):
            raise UserError(
                f"backbone.weights: {path} ends in '{path.suffix}'. Use .safetensors (or {', '.join(_PICKLED)})."
            )
        return path
    for file in files if repository else ():
        cached = try_to_load_from_cache(str(repository), file)
        if isinstance(cached, str):  # else None, or the hub's note that it has no such file
            return Path(cached)
    if repository is None:
        raise UserError(
            f"backbone.weights: no weights are published for '{name}'. "
            "Set backbone.weights to the path of a .safetensors file, or to 'none' for an untrained model."
        )
    raise UserError(
        f"backbone.weights: {files[0]} of {repository} is not in the hub cache ({constants.HF_HUB_CACHE}). Either "
        "set backbone.weights to the path of a copy of that file, or fill the cache on a connected machine with\n"
        f"    hf download {repository} {files[0]}\n"
        "and copy it here (HF_HOME says where the cache is)."
    )


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; wrappers such as `state_dict` and `module.` are taken off.

    Raises: `UserError` where the file is damaged or holds anything but tensors.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except UNREADABLE as fault:
        raise UserError(
            f"backbone.weights: {path} cannot be read as tensors ({str(fault).splitlines()[0]}). "
            "It is damaged, or holds code besides tensors, which is never run: save it as .safetensors."
        ) from fault
    for wrapper in ("state_dict", "model"):
        state = state.get(wrapper, state)
    return {name.removeprefix("module."): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path, heads: Sequence[str], *, name: str) -> None:
    """Put all weights of `state` into `model` but the heads', which are for other classes.

    Raises: `UserError` where a weight is absent or of another shape.
    """
    body = {key: tensor for key, tensor in state.items() if not within(key, heads)}
    wanted = {key: weight.shape for key, weight in model.named_parameters() if not within(key, heads)}
    if misfits := [key for key, shape in wanted.items() if key not in body or body[key].shape != shape]:
        raise UserError(
            f"backbone.weights: {path} does not fit {name}: {len(misfits)} of {len(wanted)} tensors are absent or of "
            f"another shape, such as {misfits[0]}. Use a file of this very model, or 'pretrained'."
        )
    model.load_state_dict(body, strict=False)


@contextmanager
def fixed_draw(seed: int = 0) -> Iterator[None]:
    """Weights drawn inside are the same in each process: a resumed fit must get the same frozen ones again."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def digest(model: nn.Module, heads: Sequence[str]) -> str:
    """16 hex digits over every tensor but the heads': the same weights have the same, whatever file they came from."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not within(name, heads):
            found.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1e".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def origin(path: Path | None, repository: str | None, weights: str) -> str:
    """One phrase for reports and model cards."""
    if path is None:
        return "untrained weights, drawn from seed 0"
    return f"weights of {repository}" if repository and weights == "pretrained" else f"weights from {path.name}"


@torch.no_grad()
def reveal(model: nn.Module) -> None:
    """Give other numbers to weights that hide what lies behind them: zeros, and layer scales at their start."""
    noise = torch.Generator().manual_seed(0)
    for p in model.parameters():
        if not p.any():
            p.copy_(0.02 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
        elif p.numel() > 1 and p.abs().max() < TINY and p.eq(p.flatten()[0]).all():  # a layer scale at its start
            p.fill_(1.0)
