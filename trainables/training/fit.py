"""One fit: a model, its objective and its optimiser, trained epoch by epoch.

Chance is derived from (seed, epoch, step), never carried: a fit stopped after any step and continued from
`state()` ends with the same bits (on a CPU).

Shapes: N examples, B of a batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables import adapters
from trainables.arrays import Floats, Ints
from trainables.errors import FitError
from trainables.methods import METHODS
from trainables.methods.base import Objective
from trainables.params import Params
from trainables.task import TrainConfig
from trainables.training import compiled
from trainables.training.augment import Augmentation
from trainables.training.batches import BATCH_SAMPLERS, derived, epoch_log, shuffle
from trainables.training.runtime import Runtime, out_of_memory
from trainables.training.samples import Features, Samples

EVALUATION_PIXELS = {"cpu": 2**17, "cuda": 2**24}  # in one batch without gradients; measured: more is slower on a CPU
FIRST_RATE, LAST_RATE = 1 / 25, 1 / 25 / 1e4  # of the one-cycle schedule, as shares of its peak


@dataclass(frozen=True)
class Epoch:
    """What one epoch goes through, N examples in the order of training, as (seed, epoch) drew it."""

    samples: Samples
    order_N: Ints
    index_N: Tensor  # the same where the images lie
    labels_N: Tensor
    groups_N: Tensor
    augment: Augmentation
    steps: int


class Fit:
    """One training of one wrapped model. `epoch` counts the finished ones, `step` the finished steps of the next."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        params: Params,
        seed: int,
        train: TrainConfig,
        runtime: Runtime,
        *,
        tail: nn.Module | None = None,
        still: Sequence[nn.Module] = (),
    ) -> None:
        """`tail` is the model for `Features`; the modules `still` evaluate also while the rest trains."""
        self.model = model
        self.tail, self.still = tail, still
        self.objective = objective
        self.params = params
        self.seed = seed
        self.epoch = self.step = 0
        self._losses: list[Tensor] = []  # of the epoch in flight, step by step, as are the logs
        self._logs: list[dict[str, Tensor]] = []
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self.weights.values(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
        )
        self._train = train
        self._runtime = runtime
        self._sampler = BATCH_SAMPLERS[METHODS[params.method].sampler or train.sampler]
        if train.compile:
            compiled.compile_blocks(model)
        self.at_once = train.micro_batch if isinstance(train.micro_batch, int) else None
        self._proven = False

    @property
    def name(self) -> str:
        """The parameters in words, for messages."""
        return ", ".join(f"{key} {value}" for key, value in self.params.to_flat().items())

    def train_epoch(self, samples: Samples, between_steps: Callable[[], None] = lambda: None) -> dict[str, float]:
        """One pass over `samples`, or what is left of it, with one wait for the device, at its end.

        `between_steps` is called between two steps. It may read `state()`, or raise: the epoch then goes on from there.

        Returns:
            `learning_rate` of the last step, `gradient_norm` (mean, before clipping), what
            `batches.epoch_log` says of the losses, and what the method itself logs (means over batches).

        Raises:
            FitError: `diverged` where a loss is not finite; `dead-adapter`; `out-of-memory`.
        """
        with self._runtime.memory(f"training {self.name}"), self._runtime.seeded(0):
            epoch = self.begin(samples)
            while self.step < epoch.steps:
                self.advance(epoch)
                if self.step < epoch.steps:
                    between_steps()
            return self.end(epoch)

    @torch.inference_mode()
    def log_probs(self, samples: Samples) -> Floats:
        """Log-probabilities of the classes, `[N, C]`, without dropout.

        Raises:
            FitError: `diverged` where the answers are not numbers; `out-of-memory`.
        """
        for each in self.nets:
            each.eval()
        net = self.tail if self.tail and isinstance(samples, Features) else self.model
        size = evaluation_batch(self._runtime.device, samples)
        parts = []
        with self._runtime.memory(f"evaluating {self.name}"), compiled.uncompiled(self._train):
            for start in range(0, len(samples), size):
                with self._runtime.autocast():
                    logits_BC = net(samples.take(slice(start, start + size)))
                parts.append(logits_BC.double().log_softmax(1))
            log_probs_NC: Floats = torch.cat(parts).cpu().numpy()
        if not np.isfinite(log_probs_NC).all():
            raise FitError("diverged", f"the model's answers are not finite after epoch {self.epoch}. {self._mend}")
        return log_probs_NC

    def state(self) -> dict[str, Tensor]:
        """Trained weights, AdamW's moments, the method's own memory, and what an epoch in flight has logged.

        With `epoch` and `step` that is all that is needed to go on.
        """
        # AdamW's moments go by name: indices would change with the order of the weights.
        tensors = {f"weights.{name}": tensor for name, tensor in adapters.trainable_state(self.model).items()}
        tensors |= {f"objective.{name}": tensor for name, tensor in self.objective.state().items()}
        moments = self._optimizer.state_dict()["state"]
        for index, name in enumerate(self.weights):
            tensors |= {f"adamw.{key}.{name}": tensor for key, tensor in moments.get(index, {}).items()}
        if self.step:
            tensors["losses"] = torch.cat(self._losses)
            tensors |= {f"logs.{name}": torch.stack([log[name] for log in self._logs]) for name in self._logs[0]}
        return {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}

    def load_state(self, tensors: Mapping[str, Tensor], epoch: int, step: int = 0) -> None:
        """Go on from `state()` as it was after `epoch` epochs and `step` steps."""
        adapters.load_trainable_state(self.model, _under("weights.", tensors))
        self.objective.load_state(_under("objective.", tensors))
        moments = {
            index: {key: tensors[f"adamw.{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")}
            for index, name in enumerate(self.weights)
            if f"adamw.step.{name}" in tensors
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
        self._begin_at(epoch, step)
        if step:
            self._losses = [tensors["losses"].to(self._runtime.device)]
            logs = {name: values_T.to(self._runtime.device) for name, values_T in _under("logs.", tensors).items()}
            self._logs = [{name: values_T[i] for name, values_T in logs.items()} for i in range(step)]

    # --- an epoch in its steps; `begin`, `batch`, `update` and `end` also serve whoever trains several fits in one pass

    def begin(self, samples: Samples) -> Epoch:
        """Draw the epoch, of which `step` steps may be done, and set the modes of the model."""
        for net in self.nets:
            adapters.train(net)
        keep_still(self.still)
        generator = np.random.default_rng(derived(self.seed, self.epoch, "order"))
        order_N = self._sampler(samples.groups.index_N, len(samples.groups.names), generator)
        if self._sampler is shuffle:  # what is balanced would not stay so
            order_N = samples.by_length(order_N, self.params.batch_size, generator)
        order_on_device_N = torch.from_numpy(order_N).to(self._runtime.device)
        return Epoch(
            samples,
            order_N,
            torch.from_numpy(order_N).to(samples.images_device),
            samples.labels_N[order_on_device_N],
            samples.groups_N[order_on_device_N],
            Augmentation.draw(
                self._train, len(order_N), seed=self.seed, epoch=self.epoch, device=samples.augment_device
            ),
            -(-len(order_N) // self.params.batch_size),
        )

    def advance(self, epoch: Epoch) -> None:
        """The next step of this fit alone."""
        self._step(*self.batch(epoch), self.tail if isinstance(epoch.samples, Features) else None)

    def batch(self, epoch: Epoch) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels and groups of the next step, `[B, ...]`, with its rate and its chance set."""
        self._runtime.seed(derived(self.seed, self.epoch, "dropout", self.step))
        # Of the step alone: a scheduler would have a state to save.
        peak, total = self.params.learning_rate, epoch.steps * self.params.epochs
        rate = one_cycle(self.epoch * epoch.steps + self.step, total, peak, self._train.warmup)
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        rows = slice(self.step * self.params.batch_size, (self.step + 1) * self.params.batch_size)
        inputs_B = epoch.samples.augmented(epoch.index_N[rows], epoch.augment, rows)
        return inputs_B, epoch.labels_N[rows], epoch.groups_N[rows]

    def update(self, loss_B: Tensor, logs: Mapping[str, Tensor]) -> None:
        """Clip the gradients, which are there, and move the weights: the step is done. Nothing waits for the device.

        Raises:
            FitError: `dead-adapter`.
        """
        if not self._proven:  # once: which weights get a gradient does not change from step to step
            adapters.check_gradients(self.model)
            self._proven = True
        # Without a bound nothing is clipped, but the norm is still measured for the log.
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self._train.clip_norm or float("inf"))
        self._optimizer.step()
        self._losses.append(loss_B.detach())
        self._logs.append({"gradient_norm": norm, **logs})
        self.step += 1

    def end(self, epoch: Epoch) -> dict[str, float]:
        """What the epoch, whose steps are done, says of itself; the next one begins.

        Raises:
            FitError: `diverged` where a loss is not finite.
        """
        loss_N: Floats = torch.cat(self._losses).double().cpu().numpy()
        means = {name: float(torch.stack([log[name] for log in self._logs]).mean()) for name in self._logs[0]}
        broken = np.flatnonzero(~np.isfinite(loss_N))
        if len(broken):
            place = f"epoch {self.epoch + 1}, step {broken[0] // self.params.batch_size + 1}"
            raise FitError("diverged", f"the loss became {loss_N[broken[0]]} in {place}. {self._mend}")
        self._begin_at(self.epoch + 1)
        return {
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            **epoch_log(loss_N, epoch.samples.groups.part(epoch.order_N), self.params.batch_size),
            **means,
        }

    def _begin_at(self, epoch: int, step: int = 0) -> None:
        self.epoch, self.step, self._losses, self._logs = epoch, step, [], []

    def _step(
        self, inputs_B: Tensor, labels_B: Tensor, groups_B: Tensor, through: Callable[..., Any] | None = None
    ) -> None:
        """Forward, backward, update. Nothing here may wait for the device, but where memory ends."""
        self.update(*self._gradients(through or self.model, inputs_B, labels_B, groups_B))

    def _gradients(
        self, forward: Callable[..., Any], inputs_B: Tensor, labels_B: Tensor, groups_B: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Those of the whole batch, `at_once` examples at a time; half as many from then on, where memory ends."""
        while True:
            size = min(self.at_once or len(labels_B), len(labels_B))
            before = self.remembered() if self._train.micro_batch == "auto" else {}
            try:
                if size < len(labels_B):
                    return self._in_parts(forward, inputs_B, labels_B, groups_B, size)
                loss_B = self._losses_of(forward, inputs_B, labels_B)
                loss, logs = self.objective(loss_B, groups_B)
                torch.autograd.backward(loss)
                return loss_B, logs
            except RuntimeError as error:
                if self._train.micro_batch != "auto" or size == 1 or not out_of_memory(error):
                    raise
            # Behind the handler, which would keep what the step has made so far.
            self.at_once = -(-size // 2)
            self.objective.load_state(before)
            self._optimizer.zero_grad(set_to_none=True)
            self._runtime.give_back()

    def remembered(self) -> dict[str, Tensor]:
        """A copy of the method's own memory, for who may have to do a step again."""
        return {name: tensor.clone() for name, tensor in self.objective.state().items()}

    def _losses_of(self, forward: Callable[..., Any], inputs_B: Tensor, labels_B: Tensor) -> Tensor:
        with self._runtime.autocast():
            logits_BC = forward(inputs_B)
        return losses(logits_BC, labels_B)  # outside autocast

    def _in_parts(
        self, forward: Callable[..., Any], inputs_B: Tensor, labels_B: Tensor, groups_B: Tensor, size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The gradient of the whole batch, with the activations of `size` examples at a time.

        A penalty sees all losses of a batch: a first pass without gradients gives them, the objective's own gradient
        says how much each one weighs, and a second pass, with the same dropout, sends that back.
        """

        def parts() -> Iterator[tuple[int, Tensor]]:
            for start in range(0, len(labels_B), size):
                self._runtime.seed(derived(self.seed, self.epoch, "dropout", self.step, start))
                rows = slice(start, start + size)
                yield start, self._losses_of(forward, inputs_B[rows], labels_B[rows])

        with torch.no_grad():
            loss_B = torch.cat([part for _, part in parts()])
        loss, logs = self.objective(loss_B.requires_grad_(), groups_B)
        (weight_B,) = torch.autograd.grad(loss, loss_B)
        for start, part in parts():
            torch.autograd.backward(part, weight_B[start : start + size])
        return loss_B, logs

    @property
    def nets(self) -> tuple[nn.Module, ...]:
        """All modules of which the fit is made."""
        return (self.model, self.tail) if self.tail else (self.model,)

    @property
    def _mend(self) -> str:
        return f"The settings were {self.name}; a smaller learning rate or lambda may hold."


def losses(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of each example, as the method decides how losses are weighed; in 32 bits or more."""
    wide_BC = logits_BC if logits_BC.dtype == torch.float64 else logits_BC.float()
    return F.cross_entropy(wide_BC, labels_B, reduction="none")


def keep_still(parts: Iterable[nn.Module]) -> None:
    """These modules as in evaluation: nothing of them is left to chance, and no statistic moves.

    Fused attention without dropout computes in another way when it evaluates, whose bits depend on the batch: it keeps
    the way in which it trains.
    """
    for part in parts:
        part.eval()
        for inner in part.modules():
            if isinstance(inner, nn.MultiheadAttention) and not inner.dropout:
                inner.train()


def evaluation_batch(device: torch.device, samples: Samples) -> int:
    """How many examples are evaluated at once."""
    return max(16, EVALUATION_PIXELS[device.type] // samples.pixels)


def _under(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def one_cycle(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of step 0, 1, ..., steps - 1: cosine up from peak / 25, then cosine down to peak / 250,000.

    The rate of `torch.optim.lr_scheduler.OneCycleLR` with its defaults, without its cycle of the
    momentum: AdamW's betas stay.

    Args:
        warmup: share of the steps on the way up.

    Source:
        Smith and Topin 2019; "On Fairness of LoRA", appendix, with warm-up 0.01.
    """
    top = warmup * steps - 1
    if step < top:
        return _cosine(peak * FIRST_RATE, peak, step / top)
    return _cosine(peak, peak * LAST_RATE, (step - top) / (steps - 1 - top))


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * way))
