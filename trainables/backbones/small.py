"""small-vit: a vision transformer for 32 x 32 images, pre-trained here, once per machine, without a network.

It learns the ten digits of `trainables.data.datasets.digits.pretraining_set`, none of which any split holds, so that
a fine-tuning has something to adapt. timm's `VisionTransformer`; 164,000 weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones import Backbone
from trainables.backbones.timm_family import linear_targets
from trainables.backbones.weights import fixed_draw, locate, read
from trainables.data.datasets import digits
from trainables.errors import UserError
from trainables.files import whole
from trainables.task import BackboneConfig, cache_root

_LOG = logging.getLogger(__name__)
_MEAN, _STD = 0.5, 0.25
_FLOOR = 0.9  # accuracy on the pre-training digits; below it the model has learnt nothing worth adapting
_ARCHITECTURE: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4}


@dataclass(frozen=True)
class Recipe:
    """All that decides the pre-trained weights on a given machine. Its hash is in their file's name."""

    data: str = digits.VERSION
    learning_rate: float = 1e-3
    batch_size: int = 60
    epochs: int = 80
    seed: int = 0

    @property
    def hash(self) -> str:
        """10 hex digits."""
        text = json.dumps([asdict(self), _ARCHITECTURE, _MEAN, _STD], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


_RECIPE = Recipe()


def load(config: BackboneConfig, *, classes: int, layers: str | None = None) -> Backbone:
    """The small ViT with a fresh head; its first use on a machine pre-trains it (about 15 s).

    Raises:
        UserError: `config.weights` names a file that is not there or does not fit.
        RuntimeError: pre-training did not reach an accuracy of 0.9.
    """
    path = pretrained() if config.weights == "pretrained" else locate(config.weights, None, (), name=config.name)
    with fixed_draw():
        model = _untrained(classes)
    source = "untrained weights, drawn from seed 0"
    if path is not None:
        _fill(model, path)
        source = f"weights from {path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    return Backbone(
        name=config.name,
        model=model,
        head="head",
        targets=linear_targets(model),
        size=32,
        mean=(_MEAN,) * 3,
        std=(_STD,) * 3,
        interpolation="bicubic",
        crop_pct=1.0,
        resize="squash",
        parameters=sum(p.numel() for name, p in model.named_parameters() if not name.startswith("head.")),
        source=source,
        recipe=_rebuild(classes, path),
        file=path,
    )


def pretrained(recipe: Recipe = _RECIPE) -> Path:
    """The weights' file, made now if this machine has none; several processes may ask at once, and one works."""
    path = cache_root() / "backbones" / f"small-vit-{recipe.hash}.safetensors"
    if _sound(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not _sound(path):
            _LOG.info("pre-training small-vit on 600 digits, once on this machine")
            model, accuracy = pretrain(recipe)
            _save(model, path, {**asdict(recipe), "accuracy": round(accuracy, 4)})
    return path


def pretrain(recipe: Recipe) -> tuple[VisionTransformer, float]:
    """Trains from scratch; returns the model and its accuracy on the digits it learnt.

    One thread and an own random stream: the same machine gives the same weights, bit for bit, whatever
    the caller has set or drawn.

    Raises:
        RuntimeError: the accuracy is not above 0.9.
    """
    images, labels = digits.pretraining_set()
    images_NCHW, labels_N = _normalised(torch.from_numpy(images)), torch.from_numpy(labels)
    with _one_thread(), fixed_draw(recipe.seed):
        model = _untrained(10)
        _fit(model, images_NCHW, labels_N, recipe)
        accuracy = _accuracy(model, images_NCHW, labels_N)
    if accuracy <= _FLOOR:
        raise RuntimeError(f"small-vit reached an accuracy of {accuracy:.3f} on its own digits, not above {_FLOOR}")
    return model, accuracy


def _fit(model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, recipe: Recipe) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    model.train()
    for _ in range(recipe.epochs):
        for batch_B in torch.split(torch.randperm(len(labels_N)), recipe.batch_size):
            loss = F.cross_entropy(model(images_NCHW[batch_B]), labels_N[batch_B])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@torch.no_grad()
def _accuracy(model: nn.Module, images_NCHW: Tensor, labels_N: Tensor) -> float:
    model.eval()
    return float((model(images_NCHW).argmax(1) == labels_N).float().mean())


def _normalised(images_NCHW: Tensor) -> Tensor:
    return (images_NCHW.float() / 255 - _MEAN) / _STD


def _untrained(classes: int) -> VisionTransformer:
    return VisionTransformer(**_ARCHITECTURE, num_classes=classes)


def _fill(model: nn.Module, path: Path) -> None:
    """All weights but the head's, whose classes are others."""
    given = read(path)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    if odd := [name for name, shape in wanted.items() if name not in given or given[name].shape != shape]:
        raise UserError(
            f"backbone.weights: {path} does not fit small-vit: {len(odd)} of {len(wanted)} tensors are absent or "
            f"of another shape, such as {odd[0]}. Use weights of small-vit, or 'pretrained'."
        )
    model.load_state_dict({name: given[name] for name in wanted}, strict=False)


def _save(model: nn.Module, path: Path, told: dict[str, Any]) -> None:
    metadata = {"made": json.dumps(told)}  # one entry: safetensors writes several in random order, and bytes are hashed
    with whole(path) as draft:
        save_file(model.state_dict(), draft, metadata=metadata)


def _sound(path: Path) -> bool:
    """Whether a whole safetensors file is there: its header's lengths are checked against the file's."""
    try:
        with safe_open(path, "pt") as file:
            return "head.weight" in file.keys()  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError):
        return False


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rebuild(classes: int, path: Path | None) -> str:
    """Python that builds the base model with plain libraries, for the note beside saved adapters."""
    arguments = ", ".join(f"{name}={value}" for name, value in _ARCHITECTURE.items())
    lines = [
        "import peft, safetensors.torch, torch",
        "from timm.models.vision_transformer import VisionTransformer",
        "torch.manual_seed(0)",
        f"model = VisionTransformer({arguments}, num_classes={classes})",
    ]
    if path is not None:
        lines += [
            f"state = safetensors.torch.load_file({str(path)!r})",
            "body = {name: tensor for name, tensor in state.items() if not name.startswith('head.')}",
            "model.load_state_dict(body, strict=False)",
        ]
    return "\n".join(lines)
