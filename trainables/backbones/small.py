"""small-vit: a vision transformer for 32 x 32 images, without a network. timm's `VisionTransformer`; 164,000 weights.

It knows ten digits, in hands that no split of digits-on-scenes holds, so that a fine-tuning has something to adapt. Its
weights come with the package; `pretraining` made them. Sweeps that began before go on with edition 1: each machine made
that for itself, of digits that stood still on flat colours.
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

from trainables.backbones import Backbone, BackboneConfig, within
from trainables.backbones.timm_family import linear_targets
from trainables.backbones.weights import fill, fixed_draw, locate, origin, read
from trainables.data.datasets import digits
from trainables.errors import UserError
from trainables.files import cache_root, whole

_LOG = logging.getLogger(__name__)
SHIPPED = Path(__file__).with_name("small-vit-2.safetensors")
SHIPPED_DIGEST = "c96f6f5e8ee478cb"  # the beginning of its SHA-256
MEAN, STD = 0.5, 0.25
_FLOOR = 0.9  # accuracy on the pre-training digits; below it the model has learnt nothing worth adapting
_ARCHITECTURE: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4}


@dataclass(frozen=True)
class FirstRecipe:
    """All that decides the weights of edition 1 on a given machine. Its hash is in their file's name."""

    data: str = digits.VERSION
    learning_rate: float = 1e-3
    batch_size: int = 60
    epochs: int = 80
    seed: int = 0

    @property
    def hash(self) -> str:
        """10 hex digits."""
        text = json.dumps([asdict(self), _ARCHITECTURE, MEAN, STD], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


_RECIPE = FirstRecipe()


def load(config: BackboneConfig, *, classes: int) -> Backbone:
    """The small ViT with a fresh head; the first use of edition 1 on a machine pre-trains it (about 15 s).

    Raises:
        UserError: `config.weights` names a file that is not there or does not fit; the shipped one is damaged.
        RuntimeError: pre-training did not reach an accuracy of 0.9.
    """
    if config.weights == "pretrained":
        path: Path | None = shipped() if config.edition == 2 else pretrained()
    else:
        path = locate(config.weights, None, (), name=config.name)
    with fixed_draw():
        model = untrained(classes)
    source = origin(path, None, config.weights)
    if path is not None:
        fill(model, read(path), path, ["head"], name="small-vit")
        source += f", SHA-256 {file_digest(path)}"
    return Backbone(
        name=config.name,
        model=model,
        head="head",
        targets=linear_targets(model),
        size=32,
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
        interpolation="bicubic",
        crop_pct=1.0,
        resize="squash",
        parameters=sum(p.numel() for name, p in model.named_parameters() if not within(name, ["head"])),
        source=source,
        recipe=_rebuild(classes, path),
        file=path,
    )


def shipped() -> Path:
    """The file of edition 2: the same on every machine.

    Raises:
        UserError: it is gone, or is another one.
    """
    if not SHIPPED.is_file() or file_digest(SHIPPED) != SHIPPED_DIGEST:
        raise UserError(f"{SHIPPED} is not the file that sweeper ships (SHA-256 {SHIPPED_DIGEST}). Install it again.")
    return SHIPPED


def file_digest(path: Path) -> str:
    """16 hex digits of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def pretrained(recipe: FirstRecipe = _RECIPE) -> Path:
    """The file of edition 1, made now if this machine has none; of several processes that ask at once, one makes it."""
    path = cache_root() / "backbones" / f"small-vit-{recipe.hash}.safetensors"
    if _sound(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not _sound(path):
            _LOG.info("pre-training small-vit on 600 digits, once on this machine")
            model, accuracy = pretrain(recipe)
            # One entry: safetensors writes several in random order, and a fit's identity has the bytes' hash.
            metadata = {"made": json.dumps({**asdict(recipe), "accuracy": round(accuracy, 4)})}
            with whole(path) as draft:
                save_file(model.state_dict(), draft, metadata=metadata)
    return path


def pretrain(recipe: FirstRecipe) -> tuple[VisionTransformer, float]:
    """Trains from scratch; returns the model and its accuracy on the digits it learnt.

    One thread and an own random stream: the same machine gives the same weights, bit for bit, whatever
    the caller has set or drawn.

    Raises:
        RuntimeError: the accuracy is not above 0.9.
    """
    images, labels = digits.pretraining_set()
    images_NCHW, labels_N = (torch.from_numpy(images).float() / 255 - MEAN) / STD, torch.from_numpy(labels)
    with one_thread(), fixed_draw(recipe.seed):
        model = untrained(10)
        _fit(model, images_NCHW, labels_N, recipe)
        with torch.no_grad():
            accuracy = float((model.eval()(images_NCHW).argmax(1) == labels_N).float().mean())
    if accuracy <= _FLOOR:
        raise RuntimeError(f"small-vit reached an accuracy of {accuracy:.3f} on its own digits, not above {_FLOOR}")
    return model, accuracy


def _fit(model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, recipe: FirstRecipe) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    model.train()
    for _ in range(recipe.epochs):
        for batch_B in torch.split(torch.randperm(len(labels_N)), recipe.batch_size):
            loss = F.cross_entropy(model(images_NCHW[batch_B]), labels_N[batch_B])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def untrained(classes: int) -> VisionTransformer:
    """The architecture with weights as drawn."""
    return VisionTransformer(**_ARCHITECTURE, num_classes=classes)


def _sound(path: Path) -> bool:
    """Whether a whole safetensors file is there: its header's lengths are checked against the file's."""
    try:
        with safe_open(path, "pt") as file:
            return "head.weight" in file.keys()  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError):
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums come in one order inside, whatever the caller has set."""
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
