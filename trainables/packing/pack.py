"""Fits that share data, backbone and batch size, trained at once: one pass of the frozen weights for all of them.

Each keeps its own weights, optimiser, objective, clipping, schedule, chance and state: a member of a pack is a fit like
any other, before and after, and can leave at any step. Only the last bits of its numbers are others than those of the
fit alone, since sums are added up in another order.

Shapes: K members, B examples of a batch, C classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.errors import FitError
from trainables.finetuning import FineTuning
from trainables.methods import METHODS
from trainables.packing import proof
from trainables.packing.chance import SlotStreams, state
from trainables.packing.together import Together, Unpackable, refuse_copies
from trainables.params import Params
from trainables.training.fit import Epoch, losses
from trainables.training.samples import Features


class Pack:
    """Fine-tunings of one `prepare`, each made by `another()`, that are trained together from where they stand.

    >>> tunings = [tuning, tuning.another()]                                 # doctest: +SKIP
    >>> for seed, each in enumerate(tunings): each.aim(params, seed)         # doctest: +SKIP
    >>> pack = Pack(tunings)                                                 # doctest: +SKIP
    >>> logs = pack.train_epoch()                                            # doctest: +SKIP
    """

    def __init__(self, tunings: Sequence[FineTuning]) -> None:
        """Of one or more, all aimed; a state may be loaded.

        Raises:
            Unpackable: they cannot be trained in one pass, with the reason.
            FitError: `out-of-memory`, while that was looked at.
        """
        self.tunings = list(tunings)
        self._faults: dict[int, FitError] = {}
        self._parts = len(self.tunings) > 1 and _proven(self.tunings)

    def train_epoch(self, between_steps: Callable[[], None] = lambda: None) -> list[dict[str, float] | FitError]:
        """Each member one epoch further: what `FineTuning.train_epoch` says of it, or the fault that ended it.

        Members that stand at one step, within an epoch or before one, go on together to the end of their epochs, which
        need not be the same. One that stands elsewhere does so alone, and is in step with the others next time. A
        member that has failed is not trained any more. `seconds` are a member's share of those of the pack.
        `between_steps` is called between two steps, and may raise: all can go on from there, as from their `state()`.

        Raises:
            FitError: `out-of-memory` of several at once: each can still go on from the step that it has reached.
            ValueError: a member has had all its epochs.
        """
        if any(each.done for at, each in enumerate(self.tunings) if at not in self._faults):
            raise ValueError("A member has had all its epochs. Make a Pack of those that have not.")
        standing: dict[int, list[int]] = {}
        for at, each in enumerate(self.tunings):
            if at not in self._faults:
                standing.setdefault(each.fit.step, []).append(at)
        logs: dict[int, dict[str, float]] = {}
        for step in sorted(standing, reverse=True):
            logs |= self._epoch(standing[step], between_steps)
        return [self._faults.get(at) or logs[at] for at in range(len(self.tunings))]

    def _epoch(self, members: Sequence[int], between_steps: Callable[[], None]) -> dict[int, dict[str, float]]:
        """Of members at one step."""
        for at in members:
            self.tunings[at].begin_epoch(len(members))
        if len(members) == 1:
            (at,) = members
            alone = functools.partial(self.tunings[at].fit.train_epoch, self.tunings[at].inputs, between_steps)
            return self._kept({at: alone})
        runtime = self.tunings[0].runtime
        with runtime.memory(f"training {len(members)} fits at once"), runtime.seeded(0):
            epochs = {at: self.tunings[at].fit.begin(self.tunings[at].inputs) for at in members}
            left = epochs[members[0]].steps - self.tunings[members[0]].fit.step
            alive, step = list(members), self.step(members)
            for last in reversed(range(left)):
                faults = step([epochs[at] for at in alive])
                if any(faults):
                    self._faults |= {at: fault for at, fault in zip(alive, faults, strict=True) if fault}
                    alive = [at for at in alive if at not in self._faults]
                    if not alive:
                        return {}
                    step = self.step(alive)
                if last:
                    between_steps()
        return self._kept({at: functools.partial(self.tunings[at].fit.end, epochs[at]) for at in alive})

    def _kept(self, ends: Mapping[int, Callable[[], dict[str, float]]]) -> dict[int, dict[str, float]]:
        """What each end of an epoch says; a fault is its member's own."""
        logs = {}
        for at, end in ends.items():
            try:
                logs[at] = self.tunings[at].end_epoch(end())
            except FitError as fault:
                self._faults[at] = fault
        return logs

    def step(self, members: Sequence[int]) -> JointStep:
        """What takes these members one step further, once their epochs are begun."""
        own = [self.tunings[at] for at in members]
        return JointStep(own, SlotStreams(len(own), own[0].runtime.device, parts=self._parts))


class JointStep:
    """One step of several fits."""

    def __init__(self, tunings: Sequence[FineTuning], streams: SlotStreams) -> None:
        first = tunings[0]
        self._fits = [each.fit for each in tunings]
        self._runtime, self._streams = first.runtime, streams
        self._together = Together([fit.model for fit in self._fits], first.backbone.heads, streams)
        through = first.fit.tail if isinstance(first.inputs, Features) else None
        self._forward: Callable[..., Any] = through or first.fit.model

    def __call__(self, epochs: Sequence[Epoch]) -> list[FitError | None]:
        """The next step of each; a member's own fault, found before its weights move, is its entry."""
        before = [fit.remembered() for fit in self._fits]
        try:
            found = self._backward(epochs)
        except BaseException:  # whoever goes on does this step again
            for fit, kept in zip(self._fits, before, strict=True):
                if kept:
                    fit.objective.load_state(kept)
            raise
        faults: list[FitError | None] = []
        for fit, (loss_B, logs) in zip(self._fits, found, strict=True):
            try:
                fit.update(loss_B, logs)
            except FitError as fault:
                faults.append(fault)
            else:
                faults.append(None)
        return faults

    def _backward(self, epochs: Sequence[Epoch]) -> list[tuple[Tensor, Mapping[str, Tensor]]]:
        """Losses, and what the methods log; the gradients are with the weights."""
        inputs, labels, groups, chances = [], [], [], []
        for fit, epoch in zip(self._fits, epochs, strict=True):
            inputs_B, labels_B, groups_B = fit.batch(epoch)
            inputs.append(inputs_B)
            labels.append(labels_B)
            groups.append(groups_B)
            chances.append(state(self._runtime.device))
        rows_S = self._streams.begin(chances, inputs)
        found: list[tuple[Tensor, Mapping[str, Tensor]]] = []
        descended = []
        with self._together(), self._streams.parting():
            with self._runtime.autocast():
                logits_SC = self._forward(rows_S)
            for slot, (fit, logits_BC) in enumerate(zip(self._fits, self._streams.apart(logits_SC), strict=True)):
                with self._streams.of(slot):
                    loss_B = losses(logits_BC, labels[slot])
                    loss, logs = fit.objective(loss_B, groups[slot])
                descended.append(loss)
                found.append((loss_B, logs))
            torch.autograd.backward(descended)
        return found


def _proven(tunings: Sequence[FineTuning]) -> bool:
    """Whether the model's own draws must be parted.

    Raises:
        Unpackable: as it says.
    """
    first = tunings[0]
    _refuse(tunings)
    refuse_copies([each.fit.model for each in tunings], first.backbone.heads)
    params = [each.fit.params for each in tunings]
    kind = (_wiring(params[0]), _drops(params))
    if kind not in first.packs:
        try:
            few = [each.fit for each in tunings[: proof.SLOTS]]
            first.packs[kind] = proof.prove(few, first.backbone.heads, first.examples, first.runtime)
        except Unpackable as fault:
            first.packs[kind] = fault
    found = first.packs[kind]
    if isinstance(found, Unpackable):
        raise found
    return bool(found)


def _refuse(tunings: Sequence[FineTuning]) -> None:
    """What can be told without a look at numbers."""
    first, train = tunings[0], tunings[0].task.train
    params = [each.fit.params for each in tunings]
    if any(METHODS[each.method].adapter == "full" for each in params):
        raise Unpackable("full fine-tuning leaves nothing frozen to share")
    if any(each.backbone is not first.backbone or each.runtime is not first.runtime for each in tunings):
        raise Unpackable("they were prepared apart; make each by another() of the first")
    if len({each.batch_size for each in params}) > 1:
        raise Unpackable("their batches differ in size")
    if len({_wiring(each) for each in params}) > 1:
        raise Unpackable("their adapters are on other layers")
    if any(getattr(each, "variant", None) == "dora" for each in params):
        raise Unpackable("DoRA scales the frozen weights, to each fit its own")
    if train.compile:
        raise Unpackable("train.compile compiles the model of one fit")
    if any(each.fit.at_once and each.fit.at_once < params[0].batch_size for each in tunings):
        raise Unpackable("train.micro_batch trains a batch in parts")
    if len({(len(each.inputs), type(each.inputs)) for each in tunings}) > 1:
        raise Unpackable("they are trained on other numbers of examples")
    if any(p.dtype.itemsize < 4 for p in first.fit.model.parameters()):
        raise Unpackable("frozen weights of fewer than 32 bits leave no room for the proof in 64")


def _drops(params: Sequence[Params]) -> bool:
    return any(getattr(each, "dropout", 0) for each in params)


def _wiring(params: Params) -> tuple[object, ...]:
    """All that decides where an adapter is."""
    lora = METHODS[params.method].adapter == "lora"
    return (params.layers, params.blocks) if lora else ("head",)
