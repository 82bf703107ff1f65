"""A fit in a pack is the fit alone: its losses, gradients, chance, states and faults, whatever its neighbours do."""

from __future__ import annotations

import copy
import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from tests.backbones import language
from tests.contracts.models import MODELS, register_clip
from trainables.backbones import BackboneConfig
from trainables.contracts.bench import drawn
from trainables.data import DataConfig
from trainables.data.base import Dataset
from trainables.errors import FitError
from trainables.finetuning import FineTuning
from trainables.packing import Pack, Unpackable, gain
from trainables.packing.chance import SlotStreams, state
from trainables.packing.together import Adapted, Together
from trainables.params import Params
from trainables.task import Task, TrainConfig
from trainables.training.samples import Samples
from trainables.training.texts import Texts

FLIP = TrainConfig(flip=True, clip_norm=0.5)
Members = Sequence[Mapping[str, Any]]
MIXED: Members = (
    {"method": "fairlora", "lambda": 3.0, "rank": 2},
    {"method": "lora-groupdro", "rank": 5, "learning_rate": 3e-3, "eta": 0.5},
    {"method": "lora", "rank": 2, "alpha": "16", "epochs": 3},
)
DROPPING: Members = tuple({**own, "dropout": odds} for own, odds in zip(MIXED, (0.3, 0.0, 0.5), strict=True))
EQUAL: Members = ({"lambda": 0.5, "dropout": 0.3}, {"lambda": 50.0, "dropout": 0.1})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("drawn")
    register_clip(folder)
    return drawn(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))


def prepared(data: Dataset, model: str = "small", train: TrainConfig = FLIP, prefix: Any = "off") -> FineTuning:
    made = FineTuning(Task(backbone=MODELS[model], groups="cell", train=train), device="cpu", threads=1, prefix=prefix)
    made.prepare(data)
    return made


def params(**more: Any) -> Params:
    """Three examples in a batch of 8: the last one of an epoch has two."""
    return Params.from_flat({"method": "fairlora", "epochs": 2, "batch_size": 3, "learning_rate": 1e-2, **more})


def aimed(tuning: FineTuning, members: Members, **more: Any) -> list[FineTuning]:
    tunings = [tuning.another() for _ in members]
    for seed, (each, own) in enumerate(zip(tunings, members, strict=True)):
        each.aim(params(**{**own, **more}), seed)
    return tunings


def in_float64(tunings: Sequence[FineTuning], monkeypatch: pytest.MonkeyPatch) -> None:
    """The frozen weights are shared, so that all tunings of one backbone are so from then on."""
    augmented = Samples.augmented
    monkeypatch.setattr(Samples, "augmented", lambda *told: augmented(*told).double())
    for each in tunings:
        each.model.double()


def weights(tuning: FineTuning) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in tuning.fit.weights.items()}


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference as a share of the largest number of each tensor."""
    assert one.keys() == other.keys()
    shares = [float((one[name] - other[name]).abs().max() / other[name].abs().max()) for name in other]
    return max(share for share in shares if not math.isnan(share))


def timeless(log: Any) -> dict[str, float]:
    return {name: value for name, value in log.items() if name != "seconds"}


@pytest.mark.parametrize(
    ("model", "members", "more"),
    [
        ("small", DROPPING, {"layers": "attention+mlp"}),
        ("small", EQUAL, {}),
        ("small", DROPPING, {"blocks": 1}),
        ("vit", DROPPING, {"layers": "attention"}),
        ("vit", ({"variant": "rslora"}, {"rank": 8}), {}),
        ("swinv2", DROPPING, {}),
        ("swinv2", EQUAL, {"layers": "attention+mlp", "blocks": 2}),
        ("tinyvit", DROPPING, {"layers": "attention+mlp"}),
        ("tinyvit", MIXED, {"layers": "conv1.conv,attn.qkv"}),
        ("clip", MIXED, {"layers": "attention+mlp"}),
        ("small", ({"method": "probe"}, {"method": "probe", "learning_rate": 0.1}), {}),
    ],
)
def test_in_float64_a_member_ends_where_it_would_alone(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, model: str, members: Members, more: dict[str, Any]
) -> None:
    """Clipping, schedule, penalty, group weights, flips, dropout and dropped paths included, over two epochs."""
    tuning = prepared(data, model)
    packed, alone = aimed(tuning, members, **more), aimed(tuning, members, **more)
    pack = Pack(packed)
    in_float64([*packed, *alone], monkeypatch)
    for _ in range(2):
        logs = pack.train_epoch()
        for log, each in zip(logs, alone, strict=True):
            expected = timeless(each.train_epoch())
            assert timeless(log) == pytest.approx(expected, rel=1e-10, nan_ok=True)
    for member, each in zip(packed, alone, strict=True):
        assert distance(weights(member), weights(each)) < 1e-10
        states = [each.state()[0] for each in (member, each)]
        assert states[0].keys() == states[1].keys()
        assert member.state()[1] == each.state()[1]


def test_in_float32_the_gradients_of_the_first_step_agree_to_1e5_and_what_is_frozen_is_shared(data: Dataset) -> None:
    tuning = prepared(data)
    packed, alone = aimed(tuning, DROPPING), aimed(tuning, DROPPING)
    pack = Pack(packed)
    for between, trained in ((pack.train_epoch, packed), *((_own_epoch(each), [each]) for each in alone)):
        with pytest.raises(Halt):
            between(halt)
        assert all(each.fit.step == 1 for each in trained)
    for member, each in zip(packed, alone, strict=True):
        gradients = [{name: p.grad for name, p in made.fit.weights.items()} for made in (member, each)]
        assert distance(*gradients) < 1e-5
    frozen = [
        {name: p.data_ptr() for name, p in each.model.named_parameters() if "blocks.0.attn.qkv.base_layer" in name}
        for each in packed
    ]
    assert frozen[0] == frozen[1] == frozen[2] != {}


class Halt(Exception):
    pass


def halt() -> None:
    raise Halt


def _own_epoch(tuning: FineTuning) -> Any:
    def epoch(between_steps: Any) -> None:
        tuning.between_steps = between_steps
        try:
            tuning.train_epoch()
        finally:
            del tuning.between_steps

    return epoch


@pytest.mark.parametrize("own", [DROPPING, [{"rank": 4, "lambda": 1.0}] * 3], ids=["mixed", "equal"])
def test_a_member_whose_weights_are_no_numbers_fails_alone_and_moves_no_bit_of_the_others(
    data: Dataset, own: Members
) -> None:
    tuning, ends = prepared(data), []
    for broken in (False, True):
        members = aimed(tuning, own)
        if broken:
            with torch.no_grad():
                next(iter(members[1].fit.weights.values())).fill_(math.nan)
        pack = Pack(members)
        first, second = pack.train_epoch(), pack.train_epoch()
        assert isinstance(first[1], FitError) is broken
        if broken:
            assert first[1] is second[1]
            assert (first[1].reason, members[1].epoch) == ("diverged", 0)
        ends.append([each.state()[0] for each in (members[0], members[2])])
    for one, other in zip(*ends, strict=True):
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_member_leaves_within_an_epoch_for_a_fit_alone_and_a_fit_alone_joins(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = prepared(data)
    expected, members, joining = (aimed(tuning, DROPPING, epochs=4) for _ in range(3))
    alone, other = aimed(tuning, DROPPING[:2], epochs=4)
    in_float64([*expected, *members, *joining, alone, other], monkeypatch)
    for each in expected:
        for _ in range(3):
            each.train_epoch()
    pack = Pack(members)
    pack.train_epoch()
    with pytest.raises(Halt):
        pack.train_epoch(halt)
    tensors, meta = members[0].state()
    assert (meta["epoch"], meta["step"]) == (1, 1)
    alone.load_state(tensors, json.loads(json.dumps(meta)))
    alone.train_epoch()
    alone.train_epoch()
    assert distance(weights(alone), weights(expected[0])) < 1e-10
    other.train_epoch()
    with pytest.raises(Halt):
        _own_epoch(other)(halt)
    joining[1].load_state(*other.state())  # at epoch 1, step 1, among fits at epoch 0
    pack = Pack(joining)
    for _ in range(2):
        pack.train_epoch()
    assert [each.epoch for each in joining] == [2, 3, 2]
    assert distance(weights(joining[1]), weights(expected[1])) < 1e-10
    pack.train_epoch()
    assert distance(weights(joining[2]), weights(expected[2])) < 1e-10


def test_on_what_is_computed_once_a_member_trains_as_alone_and_evaluates_as_alone(data: Dataset) -> None:
    tuning = prepared(data, prefix="auto")
    for members in (
        ({"blocks": 1, "dropout": 0.3}, {"blocks": 1, "rank": 2}),
        ({"method": "probe"}, {"method": "probe"}),
    ):
        packed, alone = aimed(tuning, members), aimed(tuning, members)
        assert all("computed once" in each.frozen.told for each in packed)
        pack = Pack(packed)
        for _ in range(2):
            pack.train_epoch()
        for member, each in zip(packed, alone, strict=True):
            each.train_epoch()
            each.train_epoch()
            assert distance(weights(member), weights(each)) < 1e-3
            assert member.evaluate().values["loss"] == pytest.approx(each.evaluate().values["loss"], rel=1e-4)


def test_a_refit_ends_the_last_epoch_and_an_ended_member_is_refused(data: Dataset) -> None:
    members = aimed(prepared(data), ({"method": "lora-dfr"}, {"epochs": 3}))
    pack = Pack(members)
    pack.train_epoch()
    ended, other = pack.train_epoch()
    assert "refit_examples" in ended
    assert "refit_examples" not in other
    with pytest.raises(ValueError, match="had all its epochs"):
        pack.train_epoch()
    assert Pack(members[1:]).train_epoch()[0]["seconds"] > 0


def test_a_saved_adapter_is_plain_peft(data: Dataset, tmp_path: Path) -> None:
    tuning = prepared(data)
    members = aimed(tuning, MIXED)
    Pack(members).train_epoch()
    members[0].save(tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(copy.deepcopy(tuning.backbone.model), str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        assert torch.equal(model(tuning.examples), members[0].model.eval()(tuning.examples))


TEXTS: dict[str, Any] = {"layers": "qkv", "batch_size": 20, "method": "fairlora"}


@pytest.mark.parametrize(
    ("write", "members", "dropout"),
    [
        (language.bert, ({"dropout": 0.3, **TEXTS}, {"rank": 2, **TEXTS}, TEXTS), 0.1),
        (language.bert, ({"method": "probe"}, {"method": "probe"}), 0.1),
        (language.llama, ({"dropout": 0.3, **TEXTS}, {"dropout": 0.1, **TEXTS}), 0.0),
    ],
)
def test_texts_of_other_lengths_beside_its_own_change_nothing_for_a_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, members: Members, dropout: float
) -> None:
    """The model's own dropout, of hidden states and of attention, draws for each as far as its texts reach."""
    backbone = BackboneConfig(name=f"transformers:{write(tmp_path / 'model')}", length=24)
    tuning = FineTuning(Task(data=DataConfig(name="docstrings"), backbone=backbone), device="cpu", threads=1)
    tuning.prepare()
    packed, alone = aimed(tuning, members, batch_size=20), aimed(tuning, members, batch_size=20)
    pack = Pack(packed)
    odds = {part.p for part in tuning.backbone.model.modules() if isinstance(part, nn.Dropout)} - {0.0}
    assert odds == ({dropout} if dropout else set())
    in_float64([*packed, *alone], monkeypatch)
    widths = set()
    take = Texts.take
    monkeypatch.setattr(Texts, "take", lambda *told: widths.add((found := take(*told)).shape[1]) or found)
    monkeypatch.setattr(Samples, "augmented", lambda self, index_B, *_: self.take(index_B))

    def after_four(steps: list[int]) -> None:
        steps.append(1)
        if len(steps) == 4:
            raise Halt

    for epoch in (pack.train_epoch, *map(_own_epoch, alone)):
        with pytest.raises(Halt):
            epoch(functools.partial(after_four, []))
    assert len(widths) > 2
    for member, each in zip(packed, alone, strict=True):
        assert distance(weights(member), weights(each)) < 1e-9


UNLIKE = "their adapters are on other layers"


@pytest.mark.parametrize(
    ("model", "members", "train", "why"),
    [
        ("small", ({}, {"batch_size": 4}), FLIP, "their batches differ in size"),
        ("small", ({}, {"blocks": 2}), FLIP, UNLIKE),
        ("small", ({}, {"method": "probe"}), FLIP, UNLIKE),
        ("small", ({"method": "fft"}, {"method": "fft"}), FLIP, "full fine-tuning leaves nothing frozen to share"),
        ("small", ({"variant": "dora"}, {}), FLIP, "DoRA scales the frozen weights, to each fit its own"),
        ("small", ({}, {}), TrainConfig(compile=True), "train.compile compiles the model of one fit"),
        ("small", ({}, {}), TrainConfig(micro_batch=2), "train.micro_batch trains a batch in parts"),
    ],
)
def test_what_cannot_be_packed_is_said(
    data: Dataset, model: str, members: Members, train: TrainConfig, why: str
) -> None:
    with pytest.raises(Unpackable, match=f"^{why}$"):
        Pack(aimed(prepared(data, model, train), members))


def test_fits_of_two_preparations_are_no_pack(data: Dataset) -> None:
    members = [*aimed(prepared(data), ({},)), *aimed(prepared(data), ({},))]
    with pytest.raises(Unpackable, match="make each by another"):
        Pack(members)


class Mixing(nn.Module):
    """Centres on the mean of whatever is in the batch."""

    def forward(self, rows_BLI: Tensor) -> Tensor:
        return rows_BLI - 0.1 * rows_BLI.mean(0)


class OneForAll(nn.Module):
    """Drops all rows or none."""

    def forward(self, rows_BLI: Tensor) -> Tensor:
        return rows_BLI * (torch.rand(()) < 0.9) if self.training else rows_BLI


class AtMostFour(nn.Module):
    def forward(self, rows_BLI: Tensor) -> Tensor:
        if len(rows_BLI) > 4:
            raise ValueError(f"{len(rows_BLI)} rows")
        return rows_BLI


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Mixing(), "in one pass the gradients are others, by "),
        (OneForAll(), "a module of the model draws chance that cannot be drawn for each fit apart"),
        (AtMostFour(), r"the model does not take several fits' rows \(ValueError: 6 rows\)"),
    ],
)
def test_a_model_that_treats_a_batch_as_one_fails_the_proof_and_no_weight_moves(
    data: Dataset, part: nn.Module, why: str
) -> None:
    tuning = prepared(data)
    tuning.backbone.model.blocks[1] = nn.Sequential(tuning.backbone.model.blocks[1], part)
    members = aimed(tuning, MIXED[:2])
    before, chance = [weights(each) for each in members], torch.get_rng_state()
    for _ in range(2):  # the second time it is known
        with pytest.raises(Unpackable, match=f"^{why}"):
            Pack(members)
    assert [distance(weights(each), own) for each, own in zip(members, before, strict=True)] == [0, 0]
    assert torch.equal(torch.get_rng_state(), chance)


def test_a_calibration_gives_a_ratio_and_leaves_the_fits_and_chance_as_they_were(data: Dataset) -> None:
    tuning = prepared(data)
    (member,) = aimed(tuning, MIXED[:1])
    member.train_epoch()
    before, chance = weights(member), torch.get_rng_state()
    ratio = gain(member, [params(**own) for own in DROPPING], steps=5)
    assert 0.2 < ratio < 20
    assert distance(weights(member), before) == 0
    assert member.epoch == 1
    assert torch.equal(torch.get_rng_state(), chance)


def test_memory_that_runs_out_is_told_as_such_and_every_member_can_go_on(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = prepared(data)
    members, alone = aimed(tuning, DROPPING), aimed(tuning, DROPPING)
    pack, backward, passes = Pack(members), torch.autograd.backward, []

    def short(*told: Any) -> None:
        passes.append(told)
        if len(passes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        backward(*told)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "backward", short)
        with pytest.raises(FitError, match="ran out of memory training 3 fits at once") as caught:
            pack.train_epoch()
        passes.clear()
        with pytest.raises(FitError, match="ran out of memory training 2 fits at once"):
            gain(tuning, [params(), params()])
    assert caught.value.reason == "out-of-memory"
    assert [each.fit.step for each in members] == [1, 1, 1]
    for member, each in zip(members, alone, strict=True):
        log = timeless(member.train_epoch())
        assert log == pytest.approx(timeless(each.train_epoch()), rel=1e-3, nan_ok=True)


def test_ranks_that_are_filled_up_with_zeros_give_what_each_gives_by_itself(data: Dataset) -> None:
    """As on a GPU, where few large products are quicker than many small ones."""
    models = [each.model.double() for each in aimed(prepared(data), ({"rank": 2}, {"rank": 8, "dropout": 0.5}, {}))]
    chance = torch.Generator().manual_seed(0)
    for p in (p for model in models for p in model.parameters() if p.requires_grad):
        p.data = torch.randn(p.shape, generator=chance, dtype=torch.float64)
    streams = SlotStreams(3, torch.device("cpu"), parts=False)
    layer = next(forward for _, forward in Together(models, ["head"], streams).forwards if isinstance(forward, Adapted))
    rows_SLI = torch.randn(6, 17, 64, generator=chance, dtype=torch.float64)
    answers = []
    for way in (layer._batched, layer._one_by_one):
        streams.states = [state(torch.device("cpu"))] * 3
        answers.append(way(rows_SLI, layer._base(rows_SLI)))
    torch.testing.assert_close(*answers, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(answers[0], layer._base(rows_SLI))


@pytest.mark.parametrize("members", [EQUAL, DROPPING])
def test_in_bfloat16_a_member_learns_what_it_learns_alone_within_its_noise(data: Dataset, members: Members) -> None:
    tuning = prepared(data, train=TrainConfig(precision="bf16"))
    packed, alone = aimed(tuning, members), aimed(tuning, members)
    for log, each in zip(Pack(packed).train_epoch(), alone, strict=True):
        assert log["train_loss"] == pytest.approx(each.train_epoch()["train_loss"], rel=0.05)
    assert {p.dtype for each in packed for p in each.fit.weights.values()} == {torch.float32}


def test_seconds_are_a_members_share(data: Dataset) -> None:
    members = aimed(prepared(data), MIXED)
    began = time.perf_counter()
    spent = [log["seconds"] for log in Pack(members).train_epoch()]
    assert 0 < sum(spent) <= time.perf_counter() - began
