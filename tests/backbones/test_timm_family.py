"""timm's transformers: counts of the papers, layers found, weights from cache or file and from nowhere else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from trainables import adapters
from trainables.backbones import BACKBONES, Backbone, BackboneConfig, checkpoint, load
from trainables.backbones.blocks import transformer_blocks
from trainables.backbones.timm_family import call_linears
from trainables.errors import FitError, UserError
from trainables.params import Params

TINY = "timm:vit_tiny_patch16_224"
REPOSITORY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def weightless(name: str, classes: int = 3) -> Backbone:
    """Only shapes: counting needs no memory."""
    with torch.device("meta"):
        return load(BackboneConfig(name=name, weights="none"), classes=classes)


def counted(name: str, classes: int, rank: int) -> tuple[int, int]:
    backbone = weightless(name, classes)
    with torch.device("meta"):
        model = adapters.wrap(backbone.model, backbone, Params(method="lora", rank=rank, layers="qkv"))
    return adapters.count_parameters(model)


def saved(model: torch.nn.Module, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def published() -> torch.nn.Module:
    """What a hub repository would hold: other weights than ours, a head of 1000 classes."""
    torch.manual_seed(7)
    return timm.create_model("vit_tiny_patch16_224", num_classes=1000)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache, and no network: any connection fails the test."""

    def refuse(*args: object) -> None:
        raise AssertionError("tried to reach a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("rank", "classes", "trainable", "total"),
    [
        (8, 40, 325_672, 86_155_088),
        (16, 100, 666_724, 86_542_280),
        (32, 100, 1_256_548, 87_132_104),
        (64, 100, 2_436_196, 88_311_752),
        (128, 100, 4_795_492, 90_671_048),
    ],
)
def test_counts_are_those_of_fairlora_table_5(rank: int, classes: int, trainable: int, total: int) -> None:
    # The trainable column is the paper's; the totals follow from its percentages (its own total column is a slip).
    assert counted("vit_base_patch16_224.dino", classes, rank) == (trainable, total)
    assert trainable == 36_864 * rank + 769 * classes


def test_counts_of_clip_and_swin_are_those_that_peft_gives() -> None:
    assert counted("vit_base_patch32_clip_224.laion2b", 40, 8) == (325_672, 87_812_432)
    assert counted("swinv2_large_window12_192.ms_in22k", 2, 8) == (580_610, 195_786_616)


@pytest.mark.parametrize(
    ("name", "parameters", "size", "mean"),
    [
        ("vit_base_patch16_224.dino", 85_798_656, 224, 0.485),
        ("vit_base_patch16_224.augreg2_in21k_ft_in1k", 85_798_656, 224, 0.5),
        ("vit_base_patch16_224.orig_in21k", 85_798_656, 224, 0.5),
        ("vit_base_patch32_clip_224.laion2b", 87_456_000, 224, 0.48145466),
        ("swinv2_large_window12_192.ms_in22k", 195_202_932, 192, 0.485),
    ],
)
def test_the_papers_models_bring_their_own_images(name: str, parameters: int, size: int, mean: float) -> None:
    assert name in BACKBONES
    backbone = weightless(name)
    assert (backbone.parameters, backbone.size, backbone.mean[0]) == (parameters, size, mean)
    assert backbone.transform() == {"size": size, "resize": "shorter", "crop_pct": 0.9, "interpolation": "bicubic"}


@pytest.mark.parametrize(
    ("name", "qkv"),
    [
        ("vit_small_patch16_224", ["attn.qkv"]),
        ("deit3_small_patch16_224", ["attn.qkv"]),
        ("beit_base_patch16_224", ["attn.qkv"]),
        ("eva02_base_patch14_448", ["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
        ("swin_tiny_patch4_window7_224", ["attn.qkv"]),
        ("swinv2_tiny_window8_256", ["attn.qkv"]),
        ("pvt_v2_b0", ["attn.q", "attn.kv"]),
    ],
)
def test_the_adapted_layers_of_a_family_are_found(name: str, qkv: list[str]) -> None:
    targets = weightless(name).targets
    assert targets["qkv"] == qkv
    assert targets["attention"] == [*qkv, "attn.proj"]
    assert set(targets["attention+mlp"]) > set(targets["attention"])


def test_a_model_without_known_layers_says_that_it_has_none() -> None:
    backbone = weightless("timm:resnet18")
    assert backbone.targets == {}
    with pytest.raises(UserError, match=r"params.layers 'qkv' of timm:resnet18: it has no linear layer but its head"):
        adapters.wrap(backbone.model, backbone, Params(method="lora"))


def test_every_head_of_a_distilled_model_is_replaced() -> None:
    backbone = weightless("timm:deit_tiny_distilled_patch16_224")
    assert backbone.heads == ("head", "head_dist")
    assert all(backbone.model.get_submodule(head).out_features == 3 for head in backbone.heads)
    model = adapters.wrap(backbone.model, backbone, Params(method="lora", rank=4))
    trained = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert trained == {"head", "head_dist"}


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("swinv2_tiny_window8_256", {"img_size": 32, "window_size": 2, "depths": (1, 1, 1, 1)}),
        ("beit_base_patch16_224", {"img_size": 32, "depth": 1}),
        ("eva02_tiny_patch14_224", {"img_size": 28, "depth": 1}),
    ],
)
def test_without_our_mend_the_guard_fires_and_with_it_the_adapter_lives(name: str, small: dict[str, Any]) -> None:
    images_NCHW = torch.rand(2, 3, small["img_size"], small["img_size"])
    for mended in (False, True):
        model = timm.create_model(name, num_classes=3, **small)
        if mended:
            call_linears(model)
        backbone = weightless(name)
        model = adapters.wrap(model, backbone, Params(method="lora", rank=4))
        if mended:
            adapters.check_effect(model, images_NCHW)
            continue
        with pytest.raises(FitError, match=r"skips: .*blocks\.0\.attn\.qkv.*qkv_bias_separate=True"):
            adapters.check_effect(model, images_NCHW)


def test_calling_the_linear_layers_changes_no_output() -> None:
    model = timm.create_model("swinv2_tiny_window8_256", img_size=32, window_size=2, depths=(1, 1, 1, 1)).eval()
    images_NCHW = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images_NCHW)
        call_linears(model)
        torch.testing.assert_close(model(images_NCHW), before)


def test_untrained_weights_are_the_same_each_time_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(3)
    draw = torch.get_rng_state()
    first = load(BackboneConfig(name=TINY, weights="none"), classes=3).model.state_dict()
    assert torch.equal(torch.get_rng_state(), draw)
    torch.manual_seed(4)
    second = load(BackboneConfig(name=TINY, weights="none"), classes=3).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_come_from_the_hub_cache_when_they_are_there(offline: Path, published: torch.nn.Module) -> None:
    folder = offline / f"models--{REPOSITORY.replace('/', '--')}"
    saved(published, folder / "snapshots" / "abc" / "model.safetensors")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    backbone = load(BackboneConfig(name=TINY), classes=3)
    body = {name: t for name, t in published.state_dict().items() if not name.startswith("head.")}
    found = backbone.model.state_dict()
    assert all(torch.equal(found[name], body[name]) for name in body)
    assert found["head.weight"].shape == (3, 192)
    assert backbone.source.endswith(f"weights of {REPOSITORY}")


def test_absent_weights_name_the_file_the_repository_and_both_mends(offline: Path) -> None:
    with pytest.raises(UserError) as told:
        load(BackboneConfig(name=TINY), classes=3)
    for part in (
        f"model.safetensors of {REPOSITORY} is not in the hub cache ({offline})",
        "set backbone.weights to the path",
        f"hf download {REPOSITORY} model.safetensors",
    ):
        assert part in str(told.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_weights_come_from_a_local_file(suffix: str, tmp_path: Path, published: torch.nn.Module, offline: Path) -> None:
    path = tmp_path / f"w{suffix}"
    state = published.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    backbone = load(BackboneConfig(name=TINY, weights=str(path)), classes=3)
    assert torch.equal(backbone.model.state_dict()["blocks.0.attn.qkv.weight"], state["blocks.0.attn.qkv.weight"])


def test_a_smaller_size_resamples_the_positions_as_timm_does(tmp_path: Path, published: torch.nn.Module) -> None:
    path = saved(published, tmp_path / "w.safetensors")
    backbone = load(BackboneConfig(name=TINY, weights=str(path), size=112), classes=3)
    expected = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(path))
    expected.set_input_size(112)
    assert backbone.size == 112
    assert backbone.transform()["size"] == 112
    images_NCHW = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.model.eval().forward_features(images_NCHW), expected.eval().forward_features(images_NCHW)
        )
    names: dict[str, Any] = {}
    exec(backbone.recipe, names)
    assert names["model"].pos_embed.shape == backbone.model.pos_embed.shape == (1, 50, 192)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        (TINY, 100, "backbone.size is 100 for vit_tiny_patch16_224, whose patches have 16 pixels a side: 4 would be"),
        ("timm:resnet18", 64, "backbone.size is 64 for resnet18, which is built for one size, or for any"),
        ("timm:twins_svt_small", 112, "backbone.size is 112 for twins_svt_small, which cannot have it"),
    ],
)
def test_a_size_that_a_model_cannot_have_is_told(name: str, size: int, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        load(BackboneConfig(name=name, weights="none", size=size), classes=3)


def test_weights_that_cannot_be_resampled_are_told_with_the_size(tmp_path: Path) -> None:
    path = saved(timm.create_model("cait_xxs24_224"), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"does not fit cait_xxs24_224 at backbone\.size 112: 1 of"):
        load(BackboneConfig(name="timm:cait_xxs24_224", weights=str(path), size=112), classes=3)


def test_dinov2_runs_at_224() -> None:
    backbone = load(BackboneConfig(name="timm:vit_small_patch14_dinov2", weights="none", size=224), classes=3)
    assert backbone.size == 224
    with torch.no_grad():
        assert backbone.model(torch.zeros(1, 3, 224, 224)).shape == (1, 3)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    torch.save({"head.weight": _Bomb(tmp_path / "ran")}, path)
    with pytest.raises(UserError, match=r"w\.bin cannot be read as tensors .* save it as \.safetensors"):
        load(BackboneConfig(name=TINY, weights=str(path)), classes=3)
    assert not (tmp_path / "ran").exists()


def test_a_torn_file_is_told_as_such(tmp_path: Path, published: torch.nn.Module) -> None:
    path = saved(published, tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"w\.safetensors cannot be read as tensors"):
        load(BackboneConfig(name=TINY, weights=str(path)), classes=3)


def test_another_models_file_is_refused(tmp_path: Path, published: torch.nn.Module) -> None:
    path = saved(published, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"does not fit vit_small_patch16_224: 1\d\d of 150 tensors"):
        load(BackboneConfig(name="vit_small_patch16_224", weights=str(path)), classes=3)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"name": "vit_base_patch16_224.dyno"}, r"Did you mean 'vit_base_patch16_224.dino'\?"),
        ({"name": "smal-vit"}, r"Did you mean 'small-vit'\?"),
        ({"name": "tim:vit_tiny_patch16_224"}, "is unknown.*Known: .*timm:NAME"),
        ({"name": TINY, "weights": "/nowhere.safetensors"}, "/nowhere.safetensors is not a file. Use a path"),
        ({"name": TINY, "weights": __file__}, r"ends in '\.py'\. Use \.safetensors"),
        ({"name": TINY, "head": "zero-shot"}, "has no text tower. Use 'random'"),
    ],
)
def test_slips_are_told_with_their_mend(config: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load(BackboneConfig(**config), classes=3)


RELOAD = """
import pathlib, sys
FOLDER = sys.argv[1]
code = pathlib.Path(FOLDER, "README.md").read_text().split("```python")[1].split("```")[0]
exec(code)
images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    torch.save(model(images), FOLDER + "/logits.pt")
assert not any(name.startswith("trainables") for name in sys.modules)
"""


def test_the_saved_readme_rebuilds_the_model_in_a_fresh_process_without_our_code(
    tmp_path: Path, published: torch.nn.Module
) -> None:
    path = saved(published, tmp_path / "base.safetensors")
    backbone = load(BackboneConfig(name=TINY, weights=str(path)), classes=3)
    model = adapters.wrap(backbone.model, backbone, Params(method="lora", rank=4))
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.1)
    adapters.save_adapter(model, tmp_path, backbone)
    subprocess.run([sys.executable, "-c", RELOAD, str(tmp_path)], check=True, cwd=tmp_path)
    images_NCHW = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.eval()(images_NCHW)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected)


@pytest.mark.parametrize(
    "name",
    [TINY, *(pytest.param(n, marks=pytest.mark.slow) for n in ("swinv2_tiny_window8_256", "open_clip:ViT-B-32"))],
)
def test_activations_that_are_computed_again_give_the_same_gradients_bit_for_bit(name: str) -> None:
    gradients, calls = [], []
    for again in (False, True):
        backbone = load(BackboneConfig(name=name, weights="none", size=64, checkpointing=again), classes=2)
        torch.manual_seed(0)
        model = adapters.wrap(backbone.model, backbone, Params(method="lora", rank=4, dropout=0.0)).train()
        block = model.get_submodule(transformer_blocks(model)[-1])
        seen: list[int] = []
        block.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        torch.manual_seed(1)  # some of them drop whole paths
        model(torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        calls.append(len(seen))
    assert calls == [1, 2]
    assert all(torch.equal(gradient, gradients[0][name]) for name, gradient in gradients[1].items())


def test_a_model_that_cannot_compute_activations_again_is_refused() -> None:
    with pytest.raises(UserError, match=r"checkpointing is true, and timm:NAME cannot .* train\.micro_batch"):
        checkpoint(BackboneConfig(name="timm:NAME", checkpointing=True), torch.nn.Linear(1, 1))
