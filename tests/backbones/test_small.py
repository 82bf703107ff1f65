"""small-vit: shipped, and as older sweeps began: pre-trained once per machine, without a trace on whoever asks."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trainables import backbones
from trainables.backbones import Backbone, BackboneConfig, pretraining, small
from trainables.data.datasets import digits
from trainables.errors import UserError

BRIEF = replace(small.FirstRecipe(), epochs=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def shared_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one pre-training that these tests share."""
    monkeypatch.setenv("SWEEPER_CACHE", str(cache))


@pytest.fixture
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch teaches little; what is tested with it is not what it has learnt."""
    monkeypatch.setattr(small, "_FLOOR", -1.0)


def load(weights: str = "pretrained", classes: int = 2, edition: int = 1) -> Backbone:
    return backbones.load(BackboneConfig(name="small-vit", weights=weights, edition=edition), classes=classes)


def body(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("edition", [1, 2])
def test_it_knows_its_digits_through_the_backbone_that_is_handed_out(edition: int) -> None:
    """Images as its `mean` and `std` say, its own ten-class head put back: more than 0.9 are right."""
    backbone = load(classes=10, edition=edition)
    assert backbone.file is not None
    stored = load_file(backbone.file)
    backbone.model.load_state_dict({name: stored[name] for name in ("head.weight", "head.bias")}, strict=False)
    images, labels = digits.pretraining_set()
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    with torch.no_grad():
        predicted_N = backbone.model.eval()((torch.from_numpy(images) / 255 - mean) / std).argmax(1)
    accuracy = float((predicted_N == torch.from_numpy(labels)).float().mean())
    assert accuracy > 0.9
    if edition == 1:
        assert made(backbone.file)["accuracy"] == pytest.approx(accuracy, abs=0.005)


def made(file: Path) -> dict[str, object]:
    """What the metadata of a file of weights say of its making."""
    with safe_open(file, "pt") as opened:
        return dict(json.loads(opened.metadata()["made"]))


def test_what_is_shipped_is_small_and_says_how_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "pretrain", None)  # calling it would raise: nobody waits for weights
    backbone = backbones.load(BackboneConfig(), classes=2)
    assert backbone.file == small.SHIPPED
    assert small.SHIPPED_DIGEST in backbone.source
    assert small.SHIPPED.stat().st_size < 700_000
    note = made(small.SHIPPED)
    assert {name: note[name] for name in asdict(pretraining.Recipe())} == asdict(pretraining.Recipe())
    assert note["licence"] == pretraining.LICENCE
    assert note["accuracy"] > 0.9


def test_another_file_in_the_place_of_the_shipped_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = bytearray(small.SHIPPED.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "other.safetensors").write_bytes(damaged)
    for path in (tmp_path / "other.safetensors", tmp_path / "gone.safetensors"):
        monkeypatch.setattr(small, "SHIPPED", path)
        with pytest.raises(UserError, match=r"is not the file that sweeper ships .*Install it again"):
            load(edition=2)


def test_the_digits_of_edition_two_move_over_backgrounds_that_are_drawn_anew() -> None:
    """A digit that does not move lies where it lay; where there is no ink, there is the background."""
    still = pretraining.Digits(replace(pretraining.Recipe(), shift=0.0, turn=0.0, scale=1.0))
    opacity, labels = digits.pretraining_digits()
    rows = torch.arange(60)
    drawn, again = (still.images(rows) * small.STD + small.MEAN for _ in range(2))
    solid = torch.from_numpy(opacity[:60] == 1)
    assert drawn.shape == (60, 3, 32, 32)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert torch.allclose(drawn.permute(0, 2, 3, 1)[solid], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5)
    assert not torch.allclose(drawn, again), "backgrounds are drawn anew"
    assert still.labels_N.tolist() == labels.tolist()
    moved = pretraining.Digits(pretraining.Recipe()).images(rows) * small.STD + small.MEAN
    assert not torch.allclose(moved.permute(0, 2, 3, 1)[solid], torch.tensor([0.0, 0.0, 1.0]), atol=1e-2)


def test_the_command_writes_the_same_file_each_time(tmp_path: Path) -> None:
    """Of this machine and this torch; the shipped recipe is the same code with more epochs."""
    said = [pretraining.save(tmp_path / f"{i}.safetensors", replace(pretraining.Recipe(), epochs=1)) for i in range(2)]
    first, second = (tmp_path / f"{i}.safetensors" for i in range(2))
    assert first.read_bytes() == second.read_bytes()
    assert small.file_digest(first) in said[0]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_recipe_of_what_is_shipped_can_be_followed() -> None:
    """Another torch or processor gives other bits, and as good a model."""
    _, accuracy = pretraining.pretrain(pretraining.Recipe())
    assert accuracy == pytest.approx(made(small.SHIPPED)["accuracy"], abs=0.03)


def test_the_second_asking_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load()
    monkeypatch.setattr(small, "pretrain", None)  # calling it would raise
    second = load()
    assert same(first.model.state_dict(), second.model.state_dict())  # the fresh head too


def test_weights_are_named_by_their_hash() -> None:
    path = small.pretrained()
    assert path.name == f"small-vit-{small.FirstRecipe().hash}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in load().source


@pytest.mark.parametrize("change", [{"epochs": 2}, {"seed": 1}, {"learning_rate": 0.1}, {"data": "other"}])
def test_another_recipe_is_another_file(change: dict[str, object]) -> None:
    assert replace(small.FirstRecipe(), **change).hash != small.FirstRecipe().hash  # type: ignore[arg-type]


def test_sizes_are_the_published_ones() -> None:
    """Per block 4 * 64² + 2 * 64 * 256 weights, biases and norms; patches 3 * 8²; 17 positions; class token."""
    block = 64 * 192 + 192 + 64 * 64 + 64 + 64 * 256 + 256 + 256 * 64 + 64 + 4 * 64
    backbone = load("none", classes=5)
    assert backbone.parameters == 3 * block + (192 * 64 + 64) + 17 * 64 + 64 + 2 * 64 == 163_584
    assert backbone.model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_adaptable_layers_are_found_by_option() -> None:
    assert load("none").targets == {
        "qkv": ["attn.qkv"],
        "attention": ["attn.qkv", "attn.proj"],
        "attention+mlp": ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"],
    }


@pytest.mark.usefixtures("no_floor")
def test_pretraining_repeats_itself_whatever_the_caller_has_drawn_or_set() -> None:
    torch.manual_seed(1)
    first, _ = small.pretrain(BRIEF)
    torch.manual_seed(2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    second, _ = small.pretrain(BRIEF)
    torch.set_num_threads(threads)
    assert same(first.state_dict(), second.state_dict())


@pytest.mark.usefixtures("no_floor")
def test_pretraining_leaves_the_callers_chance_and_threads_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    small.pretrain(BRIEF)
    load("none")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert torch.equal(torch.rand(3), expected)


def test_a_model_that_has_learnt_nothing_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"small-vit reached an accuracy of 0\.\d+ on its own digits, not above 0.9"):
        small.pretrained(BRIEF)
    assert not list((small.pretrained().parent).glob(f"*{BRIEF.hash}*.safetensors"))


@pytest.mark.usefixtures("no_floor")
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_torn_file_is_made_again(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path))
    path = small.pretrained(BRIEF)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-100], "empty": b"", "text": b"not weights"}[damage])
    assert small.pretrained(BRIEF).read_bytes() == whole


@pytest.mark.usefixtures("no_floor")
def test_who_asks_at_once_waits_for_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path))
    pretrain, calls = small.pretrain, list[small.FirstRecipe]()

    def counted(recipe: small.FirstRecipe) -> object:
        calls.append(recipe)
        return pretrain(recipe)

    monkeypatch.setattr(small, "pretrain", counted)
    askers = [threading.Thread(target=small.pretrained, args=(BRIEF,)) for _ in range(3)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(calls) == 1
    assert [path.suffix for path in sorted((tmp_path / "backbones").iterdir())] == [".lock", ".safetensors"]


def test_weights_may_come_from_a_file_whatever_its_classes() -> None:
    path = small.pretrained()
    given = load(str(path), classes=7)
    assert same(body(given.model), body(load().model))
    assert path.name in given.source
    assert not same(body(given.model), body(load("none").model))


def test_a_file_that_does_not_fit_is_told_by_its_tensors(tmp_path: Path) -> None:
    tensors = body(load("none").model)
    tensors["blocks.0.attn.qkv.weight"] = torch.zeros(3, 3)
    del tensors["pos_embed"]
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match=r"odd.safetensors does not fit small-vit: 2 of 42 tensors are absent or of"):
        load(str(tmp_path / "odd.safetensors"))
    with pytest.raises(UserError, match=r"gone.safetensors is not a file"):
        load(str(tmp_path / "gone.safetensors"))


def test_the_recipe_beside_an_adapter_rebuilds_the_same_base_model() -> None:
    backbone = load()
    names: dict[str, object] = {}
    exec(backbone.recipe, names)
    rebuilt = names["model"]
    assert isinstance(rebuilt, torch.nn.Module)
    assert same(body(rebuilt), body(backbone.model))
