"""What is frozen is computed once, and no bit of a fit changes by that: every family, every way to switch it off."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.contracts.models import MODELS, register_clip
from trainables.contracts.bench import drawn
from trainables.data.base import Dataset
from trainables.finetuning import FineTuning
from trainables.frozen import kept
from trainables.frozen.kept import Hidden
from trainables.frozen.prefix import Cut, Tail, Unfit, agrees
from trainables.frozen.start import Frozen, _sizes
from trainables.params import Params
from trainables.task import Task, TrainConfig
from trainables.training.runtime import Runtime

CPU = Runtime(torch.device("cpu"), "fp32", threads=1)
FLIP = TrainConfig(flip=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("drawn")
    register_clip(folder)
    return drawn(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "frozen"


def tuning(data: Dataset, model: str = "small", train: TrainConfig = FLIP, **more: Any) -> FineTuning:
    made = FineTuning(Task(backbone=MODELS[model], groups="cell", train=train), device="cpu", threads=1, **more)
    made.prepare(data)
    return made


def params(method: str = "fairlora", **more: Any) -> Params:
    """Three examples in a batch of 8: the last one of an epoch has two."""
    return Params.from_flat({"method": method, "epochs": 2, "batch_size": 3, "learning_rate": 1e-2, **more})


def outcome(made: FineTuning, aim: Params) -> tuple[dict[str, Tensor], str]:
    """Every bit that a fit leaves, and all that it says."""
    made.aim(aim, seed=0)
    logs = []
    while not made.done:
        logs.append({name: value for name, value in made.train_epoch().items() if name != "seconds"})
    said = [logs, made.evaluate("val").to_json(), made.evaluate("test").to_json()]
    return made.state()[0], json.dumps(said)


def assert_same(one: tuple[dict[str, Tensor], str], other: tuple[dict[str, Tensor], str]) -> None:
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert [name for name in one[0] if not torch.equal(one[0][name], other[0][name])] == []


@pytest.mark.parametrize(
    ("model", "method", "more", "frozen"),
    [
        ("small", "fairlora", {"blocks": 1, "dropout": 0.3}, "2 of 3 blocks are frozen"),
        ("small", "lora-dfr", {"blocks": 2, "l1": 1.0}, "1 of 3 blocks are frozen"),
        ("small", "lora", {"layers": "blocks.2.attn.qkv"}, "2 of 3 blocks are frozen"),
        ("small", "probe", {}, "all but the head is frozen"),
        ("vit", "lora", {"blocks": 1, "variant": "dora"}, "1 of 2 blocks are frozen"),
        ("swinv2", "lora", {"blocks": 2}, "2 of 4 blocks are frozen"),
        ("tinyvit", "lora", {"blocks": 1, "layers": "attention+mlp"}, "2 of 3 blocks are frozen"),
        ("clip", "fairlora", {"blocks": 1, "batch_size": 8}, "1 of 2 blocks are frozen"),
        ("vit", "probe", {}, "all but the head is frozen"),
        ("clip-zero-shot", "probe", {"batch_size": 8}, "all but the head is frozen"),
    ],
)
@pytest.mark.parametrize("train", [TrainConfig(), FLIP], ids=["plain", "flipped"])
def test_a_fit_has_the_same_bits_whether_its_frozen_part_is_computed_once_or_in_every_step(
    data: Dataset, model: str, method: str, more: dict[str, Any], frozen: str, train: TrainConfig
) -> None:
    each, once = (tuning(data, model, train, prefix=mode) for mode in ("off", "auto"))
    expected = outcome(each, params(method, **more))
    assert each.provenance()["frozen"] == f"{frozen}, and computed in every step: resources.prefix is off"
    assert_same(outcome(once, params(method, **more)), expected)
    assert once.provenance()["frozen"].startswith(f"{frozen}, and computed once: ")


def test_batches_in_parts_have_the_same_bits_too(data: Dataset) -> None:
    train = TrainConfig(micro_batch=2)
    expected = outcome(tuning(data, train=train, prefix="off"), params(blocks=1, dropout=0.3))
    once = tuning(data, train=train)
    assert_same(outcome(once, params(blocks=1, dropout=0.3)), expected)
    assert "computed once" in once.frozen.told


def test_in_bfloat16_what_is_kept_has_half_the_size_and_the_losses_agree_within_its_noise(data: Dataset) -> None:
    losses, train = {}, TrainConfig(precision="bf16")
    for mode in ("off", "auto"):
        made = tuning(data, train=train, prefix=mode)
        made.aim(params("lora", blocks=1), seed=0)
        losses[mode] = [made.train_epoch()["train_loss"] for _ in range(2)]
    assert losses["auto"] == pytest.approx(losses["off"], rel=0.1)
    assert made.frozen.nbytes == (8 + 8) * 17 * 64 * 2


def test_neither_an_epoch_nor_an_evaluation_enters_what_is_frozen(data: Dataset) -> None:
    made = tuning(data)
    made.aim(params("probe"), seed=0)
    entered: list[nn.Module] = []
    for part in made.model.modules():
        part.register_forward_pre_hook(lambda part, _: entered.append(part))
    made.train_epoch()
    made.evaluate("val")
    assert set(entered) == {made.model.head}


def test_a_fit_that_was_begun_without_goes_on_with_it_and_the_other_way_round(data: Dataset) -> None:
    aim = params(blocks=1, dropout=0.3)
    modes = {mode: tuning(data, prefix=mode) for mode in ("off", "auto")}
    expected = outcome(modes["off"], aim)[0]
    for first, then in (("off", "auto"), ("auto", "off")):
        modes[first].aim(aim, seed=0)
        modes[first].train_epoch()
        state = modes[first].state()
        modes[then].aim(aim, seed=0)
        modes[then].load_state(*state)
        modes[then].train_epoch()
        end = modes[then].state()[0]
        assert [name for name in end if not torch.equal(end[name], expected[name])] == []


def test_another_process_of_the_machine_computes_nothing(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcome(tuning(data), params(blocks=1))

    def computed(*_: object) -> Iterator[Tensor]:
        raise AssertionError("computed again")

    monkeypatch.setattr(Frozen, "_computed", computed)
    assert_same(outcome(tuning(data), params(blocks=1, rank=8)), expected)  # rank 8 is the default
    outcome(tuning(data), params("lora", blocks=1, rank=4, dropout=0.2))  # the frozen part is the same


@pytest.mark.parametrize(
    ("train", "why"),
    [
        (TrainConfig(crop=0.7), "random crops give other images in every epoch"),
        (TrainConfig(compile=True), "compiled blocks round otherwise"),
    ],
)
def test_where_each_step_sees_other_images_nothing_is_kept(
    data: Dataset, cache: Path, train: TrainConfig, why: str
) -> None:
    made = tuning(data, train=train)
    made.aim(params(blocks=1), seed=0)
    assert made.provenance()["frozen"] == f"2 of 3 blocks are frozen, and computed in every step: {why}"
    assert not cache.exists()


def test_a_fit_on_rows_of_its_own_and_one_that_does_not_train_keep_nothing(data: Dataset, cache: Path) -> None:
    made = tuning(data)
    made.aim(params(blocks=1), seed=0, rows={"train": np.arange(4)})
    made.train_epoch()
    made.aim(params(blocks=1), seed=0, trains=False)
    assert not cache.exists()


def test_full_fine_tuning_and_adapters_in_every_block_have_nothing_to_keep(data: Dataset, cache: Path) -> None:
    made = tuning(data)
    for aim in (params("fft"), params("lora"), params("lora", blocks=3)):
        made.aim(aim, seed=0)
        assert "frozen" not in made.provenance()
    assert not cache.exists()


def test_chance_in_what_is_frozen_keeps_it_in_every_step_as_before_and_blocks_takes_it_away(data: Dataset) -> None:
    """Swin drops whole paths while it trains; below the first of `blocks` it does not, with a file or without."""
    made = tuning(data, "swinv2")
    made.aim(params("probe"), seed=0)
    why = "layers.1.blocks.0.drop_path1 (DropPath) depends on chance or on the batch while it trains"
    assert made.provenance()["frozen"] == f"all but the head is frozen, and computed in every step: {why}"
    for mode in ("off", "auto"):
        made = tuning(data, "swinv2", prefix=mode)
        made.aim(params("lora", blocks=2), seed=0)
        assert ("computed once" in made.frozen.told) is (mode == "auto")
        made.train_epoch()
        dropping = {
            name: part.training for name, part in made.model.named_modules() if type(part).__name__ == "DropPath"
        }
        above = {name for name in dropping if ".layers.2." in name or ".layers.3." in name}
        assert {name for name in dropping if dropping[name]} == above


# --- the file


def test_a_file_that_was_torn_is_made_again(data: Dataset, cache: Path) -> None:
    expected = outcome(tuning(data), params(blocks=1))
    for file in cache.glob("*/hidden"):
        os.truncate(file, file.stat().st_size // 2)
    assert_same(outcome(tuning(data), params(blocks=1)), expected)


def test_numbers_that_the_model_would_not_give_are_not_used(data: Dataset, cache: Path) -> None:
    """Such as those of a machine that rounds otherwise; a fit compares a batch before it takes any."""
    expected = outcome(tuning(data), params(blocks=1))
    for file in cache.glob("*/hidden"):
        times = file.stat()
        numbers = np.memmap(file, np.float32, "r+")
        numbers[:] = np.nextafter(numbers, np.float32(9))
        numbers.flush()
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    made = tuning(data)
    assert_same(outcome(made, params(blocks=1)), expected)
    assert made.provenance()["frozen"].endswith("a batch of 3 images gives other bits than one of another size")


def test_a_kill_leaves_no_file_under_its_name_and_the_next_one_clears_what_it_left(cache: Path) -> None:
    hidden = Hidden({"cut": "blocks.1"}, (4, 1, 2), torch.float32)

    def killed() -> Iterator[Tensor]:
        yield torch.zeros(2, 1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hidden.read(killed, "a test")
    assert not hidden.folder.exists()
    left = cache / f".{hidden.folder.name}.0123abcd"  # a kill -9 leaves even this
    left.mkdir()
    (left / "hidden").write_bytes(b"half")
    numbers_NV = hidden.read(lambda: iter([torch.ones(2, 1, 2), torch.full((2, 1, 2), 2.0)]), "a test")
    assert numbers_NV[:, 0, 0].tolist() == [1, 1, 2, 2]
    assert not left.exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_read_is_what_was_computed(dtype: torch.dtype) -> None:
    numbers_NV = torch.randn(5, 2, 3).to(dtype)
    hidden = Hidden({}, (5, 2, 3), dtype)
    read_NV = hidden.read(lambda: iter(numbers_NV.split(2)), "a test")
    assert read_NV.dtype == dtype
    assert torch.equal(read_NV, numbers_NV)
    assert hidden.nbytes == (hidden.folder / "hidden").stat().st_size


def made_days_ago(cut: str, days: float) -> Path:
    hidden = Hidden({"cut": cut}, (10, 1, 25), torch.float32)  # 1,000 bytes
    hidden.read(lambda: iter([torch.zeros(10, 1, 25)]), "a test")
    then = time.time() - days * 86_400
    os.utime(hidden.folder / "manifest.json", (then, then))
    return hidden.folder


def test_what_nobody_used_for_thirty_days_goes_when_another_comes() -> None:
    old, recent = made_days_ago("old", 31), made_days_ago("recent", 29)
    made_days_ago("new", 0)
    assert not old.exists()
    assert recent.exists()


def test_what_a_kill_left_of_another_goes_after_a_day(cache: Path) -> None:
    drafts = {days: cache / f".{days}.0123abcd" for days in (2, 0)}
    for days, draft in drafts.items():
        draft.mkdir(parents=True)
        (draft / "hidden").write_bytes(b"half")
        then = time.time() - days * 86_400
        for place in (draft / "hidden", draft):
            os.utime(place, (then, then))
    made_days_ago("new", 0)
    assert [drafts[days].exists() for days in (2, 0)] == [False, True]


def test_where_room_is_short_the_least_lately_used_goes_and_what_was_used_today_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older, old, today = made_days_ago("older", 5), made_days_ago("old", 3), made_days_ago("today", 0.5)
    monkeypatch.setattr(kept.shutil, "disk_usage", lambda _: SimpleNamespace(free=9_000))  # of 12,000 a quarter
    made_days_ago("new", 0)
    assert [folder.exists() for folder in (older, old, today)] == [False, True, True]
    os.utime(old / "manifest.json")
    with pytest.raises(Unfit, match=r"it needs 0.00 GB in .*a quarter of the free disk"):
        made_days_ago("newer", 0)
    assert old.exists()


def test_without_room_a_fit_computes_what_is_frozen_in_every_step(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(tuning(data), params(blocks=1))
    for folder in kept.home().glob("*/"):
        kept.shutil.rmtree(folder)
    monkeypatch.setattr(kept.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    made = tuning(data)
    assert_same(outcome(made, params(blocks=1)), expected)
    assert "computed in every step: it needs" in made.provenance()["frozen"]


def test_the_size_is_known_before_anything_is_computed(data: Dataset, cache: Path) -> None:
    made = tuning(data)
    told = made.frozen_bytes(params(blocks=1))
    assert told == (8 * 2 + 8) * 17 * 64 * 4  # two views of 8 images, one of 8 others; tokens, width, fp32
    assert not cache.exists()
    made.aim(params(blocks=1), seed=0)
    assert made.frozen.nbytes == told == sum(file.stat().st_size for file in cache.glob("*/hidden"))
    assert made.frozen_bytes(params("fft")) == made.frozen_bytes(params(blocks=3)) == 0


def test_each_size_of_a_pass_is_compared() -> None:
    """22 examples in batches of 8: two whole ones and 6. In parts of 3: 3, 3, 2; 3, 3, 2; 3, 3."""
    assert _sizes(22, 8, 8) == [8, 6]
    assert _sizes(22, 8, 3) == [3, 2]
    assert _sizes(5, 8, 8) == [5]
    assert _sizes(16, 8, 8) == [8]


# --- the cut


class Crossed(nn.Module):
    """A stem that is used again behind the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, images_B4: Tensor) -> Tensor:
        stem_B4 = self.stem(images_B4)
        return self.head(self.block(stem_B4) + stem_B4)  # type: ignore[no-any-return]


def test_a_model_that_uses_more_of_what_is_frozen_than_enters_the_first_adapter_is_seen() -> None:
    torch.manual_seed(0)
    for model, whole in ((nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)), True), (Crossed(), False)):
        model.requires_grad_(False)
        list(model.children())[1 if not whole else 2].requires_grad_(True)
        images_B4 = torch.randn(3, 4)
        cut = Cut.find(model, images_B4)
        assert cut is not None
        assert cut.at == ("2" if whole else "block")
        assert agrees(model, cut, Tail(model, cut, images_B4.shape[1:]), CPU, images_B4, model.train) is whole


class Narrow(nn.Module):
    """Its last frozen product has a row for each image: on many machines a few rows give other bits than many."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layers = nn.Linear(4, 4), nn.ModuleList([nn.TransformerEncoderLayer(4, 1, 8, batch_first=True)])
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, images_BT4: Tensor) -> Tensor:
        hidden_BT4 = self.layers[0](self.stem(images_BT4))
        return self.head(self.norm(hidden_BT4).mean(1))  # type: ignore[no-any-return]


def test_a_probe_may_also_begin_behind_the_blocks() -> None:
    torch.manual_seed(0)
    model = Narrow().requires_grad_(False)
    model.head.requires_grad_(True)
    images_BT4 = torch.randn(3, 5, 4)
    cuts = [Cut.find(model.eval(), images_BT4, behind_blocks=behind) for behind in (False, True)]
    assert [cut.at for cut in cuts if cut] == ["head", "norm"]
    for cut in cuts:
        assert agrees(model, cut, Tail(model, cut, images_BT4.shape[1:]), CPU, images_BT4, model.eval)
