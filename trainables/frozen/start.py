"""How each fit begins: which part of its model is frozen, and whether what that part gives can be taken from the disk.

Shapes: N examples of a split, B of a batch, V views of each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from trainables import adapters
from trainables.backbones import Backbone
from trainables.frozen import prefix
from trainables.frozen.kept import Hidden
from trainables.frozen.prefix import Cut, Tail, Unfit
from trainables.methods import METHODS
from trainables.params import Params
from trainables.task import TrainConfig
from trainables.training.fit import evaluation_batch, keep_still
from trainables.training.runtime import Runtime
from trainables.training.samples import Features, Samples
from trainables.training.texts import Texts

Mode = Literal["auto", "off"]
SPLITS = ("train", "val")  # each epoch goes through both; a test split is measured once
_LOOK = 3  # examples: a number that leading axes seldom have by chance


@dataclass(frozen=True)
class Start:
    """What a fit's model has below the first weight that trains.

    `still` stay in evaluation mode while the fit trains. With a `tail`, the model without its frozen beginning,
    `features` has the splits that are through that already, `nbytes` on the disk. `told` says it, if a block is frozen.
    """

    still: tuple[nn.Module, ...] = ()
    tail: nn.Module | None = None
    features: Mapping[str, Features] = field(default_factory=dict)
    told: str = ""
    nbytes: int = 0


class Frozen:
    """The frozen beginnings of all fits of one task; each is looked at once."""

    def __init__(
        self,
        backbone: Backbone,
        digest: str,
        split: Callable[[str], Samples],
        content: Mapping[str, str],
        train: TrainConfig,
        runtime: Runtime,
        mode: Mode,
    ) -> None:
        """`digest` is of the backbone's weights, `content` of the images of each split."""
        self._backbone, self._digest, self._split, self._content = backbone, digest, split, content
        self._train, self._runtime, self._mode = train, runtime, mode
        self._found: dict[tuple[object, ...], list[Cut]] = {}
        self._sound: set[tuple[object, ...]] = set()  # what was seen to be exact
        self._unfit: dict[tuple[object, ...], list[str]] = {}  # and why not

    def start(self, model: nn.Module, params: Params, *, whole: bool = True) -> Start:
        """For a model that is wrapped for `params`, and trains on the `whole` split or else on rows of its own."""
        cuts = self._cuts(model, params)
        if not cuts:
            return Start()
        cut, lora = cuts[0], METHODS[params.method].adapter == "lora"
        # Where nobody speaks of blocks all is as it was before one could: with dropout where the model has it.
        still = tuple(cut.parts(model)) if lora and params.blocks not in (None, cut.of) else ()
        if lora and not cut.blocks:
            return Start(still)  # what comes before the blocks costs too little
        what = f"{cut.blocks} of {cut.of} blocks are frozen" if lora else "all but the head is frozen"
        fit = (*_wiring(params), params.batch_size)
        reasons = list(filter(None, [self._obstacle(whole)])) or self._unfit.get(fit, [])
        if not reasons:
            for cut in cuts:
                try:
                    tail = self._tail(model, cut, still, _wiring(params))
                    features = self._features(model, cut, tail, still, params.batch_size)
                except Unfit as fault:
                    reasons.append(str(fault))
                else:
                    size = sum(each.nbytes for each in features.values())
                    return Start(still, tail, features, f"{what}, and computed once: {size / 1e9:.3g} GB", size)
            self._unfit[fit] = reasons
        return Start(still, told=f"{what}, and computed in every step: {reasons[0]}")

    def nbytes(self, model: nn.Module, params: Params) -> int:
        """What would be kept for such a fit, if nothing speaks against it."""
        cuts = self._cuts(model, params)
        if not cuts or self._obstacle(whole=True) or (METHODS[params.method].adapter == "lora" and not cuts[0].blocks):
            return 0
        like_B = self._like(model, cuts[0])
        return sum(self._hidden(name, cuts[0], like_B).nbytes for name in SPLITS)

    def _cuts(self, model: nn.Module, params: Params) -> list[Cut]:
        """Where the frozen beginning may end, the best place first; empty where nothing is frozen.

        A head may want the rows that the last projection before it makes of a batch of its own size: the bits of a
        product of few rows depend on their number. What leaves the blocks has many rows for each image.
        """
        if METHODS[params.method].adapter == "full":
            return []
        wiring = _wiring(params)
        if wiring not in self._found:
            earlier = (False, True) if METHODS[params.method].adapter == "head" else (False,)
            with self._runtime.seeded(0), self._runtime.autocast():
                places = [Cut.find(model.eval(), self._few_B3HW, behind_blocks=each) for each in earlier]
            self._found[wiring] = list({cut.at: cut for cut in places if cut is not None}.values())
        return self._found[wiring]

    def _like(self, model: nn.Module, cut: Cut) -> Tensor:
        """What enters the tail, of a few images."""
        with self._runtime.autocast():
            return cut.hidden(model.eval(), self._few_B3HW)

    def _obstacle(self, whole: bool) -> str:
        """Why nothing is kept, whatever the model; empty where there is no reason."""
        if self._mode == "off":
            return "resources.prefix is off"
        if isinstance(self._split("train"), Texts):
            return "texts differ in length, and batches of them in width"
        if self._train.crop is not None:
            return "random crops give other images in every epoch"
        if self._train.compile:
            return "compiled blocks round otherwise"
        return "" if whole else "the fit sees rows of its own"

    @property
    def _few_B3HW(self) -> Tensor:
        return self._split("train").take(slice(0, _LOOK))

    def _tail(self, model: nn.Module, cut: Cut, still: tuple[nn.Module, ...], wiring: tuple[object, ...]) -> nn.Module:
        """The model without its frozen beginning: its head alone, where that gives the same, or a `Tail`.

        Raises:
            Unfit: what is frozen is not the same in every step, or more of it is used than enters the tail.
        """
        image = self._few_B3HW.shape[1:]
        alone = cut.at in self._backbone.heads
        tails: list[nn.Module] = [model.get_submodule(cut.at)] if alone else []
        for tail in (*tails, Tail(model, cut, image)):
            if (wiring, cut.at, type(tail)) in self._sound:
                return tail
            training = functools.partial(_as_in_training, model, tail, still)
            training()
            if restless := cut.restless(model):
                raise Unfit(f"{restless} depends on chance or on the batch while it trains")
            if prefix.agrees(model, cut, tail, self._runtime, self._few_B3HW, training):
                self._sound.add((wiring, cut.at, type(tail)))
                return tail
        raise Unfit("the rest of the model uses more of it than what enters the first thing that trains")

    def _features(
        self, model: nn.Module, cut: Cut, tail: nn.Module, still: tuple[nn.Module, ...], batch_size: int
    ) -> dict[str, Features]:
        """The splits through the frozen part, which is computed if nobody has.

        Raises:
            Unfit: there is no room, or a batch of the fit's size would give other bits.
        """
        like_B, found = self._like(model, cut), {}
        for name in SPLITS:
            samples, hidden = self._split(name), self._hidden(name, cut, like_B)
            if name == "train":  # some modules go another way while they train, and round otherwise
                _as_in_training(model, tail, still)
            else:
                model.eval()
            compute = functools.partial(self._computed, model, cut, samples, hidden)
            found[name] = Features(samples, hidden.read(compute, f"{self._backbone.name}, {name}"), like_B.dtype)
            at_once = evaluation_batch(self._runtime.device, samples)
            if name == "train":
                micro = self._train.micro_batch
                sizes = _sizes(len(samples), batch_size, micro if isinstance(micro, int) else batch_size)
            else:
                sizes = _sizes(len(samples), at_once, at_once)
            for size in sizes:
                if (hidden.folder, size) not in self._sound:
                    self._compare(model, cut, found[name], size)
                    self._sound.add((hidden.folder, size))
        return found

    def _hidden(self, name: str, cut: Cut, like_B: Tensor) -> Hidden:
        samples, bf16 = self._split(name), self._runtime.precision == "bf16" and like_B.dim() > 2
        machine = {key: self._runtime.provenance()[key] for key in ("device", "device_type", "precision", "versions")}
        key = {
            "backbone": self._backbone.name,
            "weights": self._digest,
            "mean": self._backbone.mean,
            "std": self._backbone.std,
            "cut": cut.at,
            "training": name == "train",
            "split": self._content[name],  # the bytes of the images, and the transform
            "cpu": torch.backends.cpu.get_cpu_capability(),
            **machine,
        }
        views = 2 if self._train.flip and name == "train" else 1
        return Hidden(key, (len(samples), views, *like_B.shape[1:]), torch.bfloat16 if bf16 else like_B.dtype)

    def _computed(self, model: nn.Module, cut: Cut, samples: Samples, hidden: Hidden) -> Iterator[Tensor]:
        size = evaluation_batch(self._runtime.device, samples)
        for start in range(0, len(samples), size):
            images_B3HW = samples.take(slice(start, start + size))
            views = (images_B3HW, images_B3HW.flip(3))[: hidden.shape[1]]
            with self._runtime.autocast():
                yield torch.stack([cut.hidden(model, view_B3HW) for view_B3HW in views], dim=1).to(hidden.dtype)

    def _compare(self, model: nn.Module, cut: Cut, kept: Features, size: int) -> None:
        """What was kept of the first `size` images, with what a pass over them as one batch gives.

        Raises:
            Unfit: they differ.
        """
        images_B3HW = Samples.take(kept, slice(0, size))
        for view in range(kept.views):
            with self._runtime.autocast():
                wanted_B = cut.hidden(model, images_B3HW.flip(3) if view else images_B3HW)
            if not prefix.same(kept.view(slice(0, size), view), wanted_B, self._runtime):
                raise Unfit(f"on this machine a batch of {size} images gives other bits than one of another size")


def _sizes(N: int, batch_size: int, part: int) -> list[int]:
    """Of all passes over N examples, in batches that are cut into parts."""
    batches = (min(batch_size, N), N % batch_size)
    return sorted({size for batch in batches for size in (min(part, batch), batch % part)} - {0}, reverse=True)


def _wiring(params: Params) -> tuple[object, ...]:
    """All that decides where the first weight that trains is."""
    lora = METHODS[params.method].adapter == "lora"
    return (params.layers, params.blocks, params.variant) if lora else ("head",)


def _as_in_training(model: nn.Module, tail: nn.Module, still: tuple[nn.Module, ...]) -> None:
    for net in (model, tail):
        adapters.train(net)
    keep_still(still)
