"""The recipe of a fit, held to a plain loop over torch's own parts: the same weights, rates and norms, step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.data.base import Groups
from trainables.data.splitting import half_of_each_cell
from trainables.errors import FitError
from trainables.methods import METHODS, dfr
from trainables.methods.base import GroupInfo
from trainables.params import Params
from trainables.task import TrainConfig
from trainables.training.batches import derived
from trainables.training.fit import Fit
from trainables.training.refit import refit_head
from trainables.training.runtime import Runtime
from trainables.training.samples import Samples

N, SIDE, C, G = 22, 4, 3, 2
EPOCHS, BATCH, RATE, DECAY = 3, 4, 0.02, 0.3  # six steps an epoch, the last of two examples
WARMUP = 0.4  # the way up ends in the second epoch
SEED = 11
CPU = Runtime.choose("cpu", "fp32")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 256, (N, 3, SIDE, SIDE), dtype=np.uint8)
LABELS, GROUPS = CHANCE.integers(0, C, N), CHANCE.integers(0, G, N)
TABLES = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
IMAGES = (torch.from_numpy(PIXELS) / 255 - TABLES[0]) / TABLES[1]


def samples() -> Samples:
    groups = Groups("attribute", ("a", "b"), GROUPS)
    return Samples(PIXELS, LABELS, groups, mean=MEAN, std=STD, device=CPU.device)


def model() -> nn.Sequential:
    """With a frozen layer and with dropout; its answers depend on which side of an image is left."""
    with CPU.seeded(1):
        made = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 8), nn.GELU(), nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, C)
        )
    made[1].requires_grad_(False)
    return made


def fit(method: str = "fft", *, runtime: Runtime = CPU, own: dict[str, float] | None = None, **train: Any) -> Fit:
    """One fit of `model()`; `own` are the method's own parameters."""
    shared = {"learning_rate": RATE, "weight_decay": DECAY, "epochs": EPOCHS, "batch_size": BATCH}
    params = Params.from_flat({"method": method, **shared, **(own or {})})
    objective = METHODS[method].objective.load()(
        params=params, groups=GroupInfo(("a", "b"), tuple(np.bincount(GROUPS).tolist())), reduction="sum"
    )
    config = TrainConfig(**({"warmup": WARMUP, "clip_norm": None} | train))
    return Fit(model(), objective, params, SEED, config, runtime)


@dataclass
class Loop:
    """A training loop as one would write it by hand, and what it saw, epoch by epoch."""

    clip_norm: float | None = None
    flip: bool = False
    penalty: Callable[[Tensor, Tensor], Tensor] = lambda loss_B, groups_B: torch.zeros(())
    rates: list[list[float]] = field(default_factory=list)
    norms: list[list[float]] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)

    def run(self) -> nn.Sequential:
        """The trained model."""
        net = model()
        weights = [weight for weight in net.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY)
        steps = EPOCHS * -(-N // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, RATE, total_steps=steps, pct_start=WARMUP, cycle_momentum=False
        )
        net.train()
        for epoch in range(EPOCHS):
            order_N = torch.from_numpy(np.random.default_rng(derived(SEED, epoch, "order")).permutation(N))
            images = IMAGES[order_N]
            if self.flip:
                flipped_N = np.random.default_rng(derived(SEED, epoch, "flip")).random(N) < 0.5
                images[flipped_N] = images[flipped_N].flip(3)
            for seen in (self.rates, self.norms, self.losses):
                seen.append([])
            for step, rows in enumerate(torch.arange(N).split(BATCH)):
                torch.manual_seed(derived(SEED, epoch, "dropout", step))
                loss_B = F.cross_entropy(net(images[rows]), torch.from_numpy(LABELS)[order_N[rows]], reduction="none")
                loss = loss_B.mean() + self.penalty(loss_B, torch.from_numpy(GROUPS)[order_N[rows]])
                optimizer.zero_grad()
                loss.backward()
                self.norms[-1].append(float(torch.cat([weight.grad.flatten() for weight in weights]).norm()))
                if self.clip_norm is not None:
                    nn.utils.clip_grad_norm_(weights, self.clip_norm)
                self.rates[-1].append(optimizer.param_groups[0]["lr"])
                self.losses[-1] += loss_B.tolist()
                optimizer.step()
                if optimizer.state[weights[0]]["step"] < steps:
                    schedule.step()
        return net


def held_to(loop: Loop, made: Fit) -> None:
    """The fit ends with the loop's weights, and its log says what the loop saw."""
    with torch.random.fork_rng():
        expected = loop.run()
    logs = [made.train_epoch(samples()) for _ in range(EPOCHS)]
    for name, weight in expected.named_parameters():
        torch.testing.assert_close(made.model.get_parameter(name), weight, rtol=1e-4, atol=1e-6)
    for log, rates, norms, losses in zip(logs, loop.rates, loop.norms, loop.losses, strict=True):
        assert log["learning_rate"] == pytest.approx(rates[-1])
        assert log["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-4)
        assert log["train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_fit_is_adamw_under_one_cycle_over_all_its_epochs_with_dropout_and_decay() -> None:
    held_to(Loop(), fit())


@pytest.mark.parametrize("bound", [0.05, 1.0])
def test_gradients_are_clipped_to_their_common_norm_and_logged_as_they_were_before(bound: float) -> None:
    loop = Loop(clip_norm=bound)
    held_to(loop, fit(clip_norm=bound))
    clipped = np.array(loop.norms) > bound
    assert clipped.all() if bound == 0.05 else clipped.any() and not clipped.all()


def test_each_image_is_flipped_as_its_epoch_drew_it() -> None:
    held_to(Loop(flip=True), fit(flip=True))


def test_the_penalty_is_of_the_groups_of_each_batch_and_lambda_weighs_it() -> None:
    def penalty(loss_B: Tensor, groups_B: Tensor) -> Tensor:
        means = torch.stack([loss_B[groups_B == g].mean() for g in groups_B.unique()])
        return 2.5 * ((means - means.mean()) ** 2).sum()

    held_to(Loop(penalty=penalty), fit("fairfft", own={"lambda": 2.5}))


@pytest.mark.parametrize("method", ["fairfft", "fft-groupdro", "fft"])
def test_micro_batches_give_the_gradient_of_the_whole_batch(method: str) -> None:
    own = {"lambda": 3.0} if method == "fairfft" else {}
    whole, parts = (fit(method, own=own, micro_batch=size) for size in (None, 3))
    for each in (whole, parts):
        each.model[4].p = 0.0  # of each part the dropout is another
        logs = [each.train_epoch(samples()) for _ in range(2)]
        each.last_log = logs[-1]
    for name, weight in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], weight, atol=1e-6, rtol=1e-5)
    assert parts.last_log == pytest.approx(whole.last_log, rel=1e-4)


def test_micro_batches_see_the_same_dropout_twice_and_another_in_each_step() -> None:
    seen: list[Tensor] = []
    small = fit(micro_batch=2)
    small.model[4].register_forward_hook(lambda _, given, made: seen.append((made == 0) & (given[0] != 0)))
    small.train_epoch(samples())
    first, again, later = torch.cat(seen[:2]), torch.cat(seen[2:4]), torch.cat(seen[4:6])
    assert first.any()
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


class Small:
    """A machine whose memory ends with more than so many examples at a time; with `behind`, in the backward pass."""

    def __init__(self, made: Fit, most: int, *, behind: bool = False) -> None:
        self.most, self.behind, self.refused = most, behind, 0
        made.model[5].register_forward_hook(self._look)

    def _look(self, _: nn.Module, __: object, logits_BC: Tensor) -> None:
        if not self.behind:
            self._end(logits_BC)
        elif logits_BC.requires_grad:
            logits_BC.register_hook(self._end)

    def _end(self, of_B: Tensor) -> None:
        if len(of_B) > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("method", ["fairfft", "fft-groupdro"])
def test_where_memory_ends_a_step_is_done_again_in_halves_as_if_it_had_begun_so(method: str, behind: bool) -> None:
    halved, asked = fit(method, micro_batch="auto"), fit(method, micro_batch=1)
    machine = Small(halved, 1, behind=behind)
    logs = [[each.train_epoch(samples()) for _ in range(2)] for each in (halved, asked)]
    assert logs[0] == logs[1]
    assert all(torch.equal(tensor, asked.state()[name]) for name, tensor in halved.state().items())
    assert (halved.at_once, machine.refused) == (1, 2)  # four examples, two, and from then on one


def test_a_batch_for_which_there_is_room_is_not_cut() -> None:
    assert fit(micro_batch="auto").train_epoch(samples()) == fit().train_epoch(samples())


def test_memory_that_ends_with_one_example_ends_the_fit_and_so_does_one_that_may_not_be_cut() -> None:
    for most, micro_batch in ((0, "auto"), (1, None), (1, 2)):
        made = fit(micro_batch=micro_batch)
        machine = Small(made, most)
        with pytest.raises(FitError, match="ran out of memory training"):
            made.train_epoch(samples())
        assert machine.refused == (3 if micro_batch == "auto" else 1)


def test_what_is_frozen_stays_as_it_was_though_weights_decay() -> None:
    made, before = fit(), copy.deepcopy(model()[1])
    made.train_epoch(samples())
    assert torch.equal(made.model[1].weight, before.weight)
    assert not any(name.startswith("1.") for name in made.weights)


def test_answers_are_given_without_dropout_and_dropout_comes_back_after_them() -> None:
    made, plain = fit(), fit()
    for _ in range(EPOCHS):
        made.log_probs(samples())
        assert made.train_epoch(samples()) == plain.train_epoch(samples())
    still = made.model.eval()
    expected = still(IMAGES).double().log_softmax(1).detach().numpy()
    np.testing.assert_allclose(made.log_probs(samples()), expected, rtol=1e-6)


def test_an_answer_that_is_nearly_sure_is_not_called_sure() -> None:
    """A lead of 20 in the logits leaves e^-20 to the others, which float32 does not tell from nothing."""
    made = fit()
    with torch.no_grad():
        made.model[5].weight.zero_()
        made.model[5].bias.copy_(torch.tensor([20.0, 0.0, -20.0]))
    log_probs_NC = made.log_probs(samples())
    assert log_probs_NC[:, 0] == pytest.approx(np.full(N, -np.exp(-20.0)), rel=1e-6, abs=0)
    assert log_probs_NC[:, 1] == pytest.approx(np.full(N, -20.0))


def test_in_bfloat16_the_losses_are_those_of_the_logits_in_float32() -> None:
    made = fit(runtime=Runtime(CPU.device, "bf16"))
    made.model[4] = nn.Identity()  # no dropout
    with torch.autocast("cpu", torch.bfloat16):
        logits_NC = made.model(IMAGES)
    assert logits_NC.dtype == torch.bfloat16
    expected_N = F.cross_entropy(logits_NC.float(), torch.from_numpy(LABELS), reduction="none")
    made._step(IMAGES, torch.from_numpy(LABELS), torch.from_numpy(GROUPS))
    (loss_N,) = made._losses
    torch.testing.assert_close(loss_N, expected_N, rtol=1e-6, atol=0)
    assert not torch.equal(loss_N, loss_N.bfloat16().float())


def test_a_refit_reads_the_half_that_is_not_measured_without_dropout_and_sets_the_head_alone() -> None:
    made, data = fit("fft-dfr"), samples()
    for _ in range(2):
        made.train_epoch(data)
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    log = refit_head(made, "5", data)
    made.model.eval()
    with torch.no_grad():
        features_NF = made.model[:5](IMAGES).double().numpy()
    half_N = half_of_each_cell(LABELS, GROUPS)
    expected = dfr.refit(
        features_NF[half_N], LABELS[half_N], GROUPS[half_N], C=C, params=made.params, seed=derived(SEED, 2, "refit")
    )
    assert log == expected.log
    np.testing.assert_allclose(made.model[5].weight.detach().numpy(), expected.weight_CF, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(made.model[5].bias.detach().numpy(), expected.bias_C, rtol=1e-3, atol=1e-4)
    changed = {name for name, tensor in made.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"5.weight", "5.bias"}
    assert len(made.model[5]._forward_pre_hooks) == 0
    assert refit_head(fit("fft"), "5", data) == {}


def test_left_alone_a_fit_is_trained_like_this() -> None:
    """Another default is another number for every sweep that says nothing."""
    assert TrainConfig().model_dump() == {
        "precision": "auto",
        "clip_norm": 1.0,
        "warmup": 0.01,
        "reduction": "sum",
        "sampler": "shuffle",
        "flip": False,
        "crop": None,
        "micro_batch": None,
        "compile": False,
    }
    shared = {"learning_rate": 1e-4, "weight_decay": 0.01, "epochs": 8, "batch_size": 32}
    lora = {"rank": 8, "alpha": "2*rank", "layers": "qkv", "dropout": 0.0, "variant": "lora"}
    for method, own in {
        "fairlora": {"lambda": 1.0, **lora},
        "fft-groupdro": {"eta": 0.01},
        "fft-dfr": {"l1": 1.0},
        "probe": {},
    }.items():
        assert Params.from_flat({"method": method}).to_flat() == {"method": method, **own, **shared}
