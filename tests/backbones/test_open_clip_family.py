"""open_clip's image towers: the paper's count, the zero-shot head, weights, and reloading without our code."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import factory
from safetensors.torch import save_file
from torch import nn

from trainables import adapters
from trainables.backbones import BackboneConfig, load
from trainables.errors import UserError
from trainables.params import Params

B32 = "open_clip:ViT-B-32/laion2b_s34b_b79k"
IMAGES_NCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
SMALL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small configuration of the same classes, under a name of its own for one test."""
    for table in ("_MODEL_CONFIGS", "_MODEL_CONFIG_PATHS"):
        monkeypatch.setattr(factory, table, copy.copy(getattr(factory, table)))
    path = tmp_path / "ViT-small.json"
    path.write_text(json.dumps(SMALL))
    open_clip.add_model_config(path)
    return path


@pytest.fixture
def weights(small: Path) -> Path:
    torch.manual_seed(7)
    clip = open_clip.create_model("ViT-small", load_weights=False)
    path = small.parent / "clip.safetensors"
    save_file({name: t.contiguous() for name, t in clip.state_dict().items()}, path)
    return path


def wrapped(config: BackboneConfig, **params: object) -> nn.Module:
    backbone = load(config, classes=3)
    return adapters.wrap(backbone.model, backbone, Params(**{"method": "lora", "rank": 4, **params}))


def test_counts_are_those_of_the_image_tower_and_its_adapter() -> None:
    with torch.device("meta"):
        backbone = load(BackboneConfig(name=B32, weights="none"), classes=40)
        model = adapters.wrap(backbone.model, backbone, Params(method="lora", rank=8))
    assert backbone.parameters == 87_849_216
    assert adapters.count_parameters(model) == (462_888, 88_332_624)
    assert (backbone.size, backbone.mean[0], backbone.resize) == (224, 0.48145466, "shorter")


@pytest.mark.parametrize(("layers", "adapted"), [("qkv", {"attn"}), ("attention+mlp", {"attn", "c_fc", "c_proj"})])
def test_the_adapter_lives_on_the_layers_asked_for(small: Path, layers: str, adapted: set[str]) -> None:
    model = wrapped(BackboneConfig(name="open_clip:ViT-small", weights="none"), layers=layers)
    adapters.check_effect(model, IMAGES_NCHW)
    model(IMAGES_NCHW).sum().backward()
    adapters.check_gradients(model)
    names = {name.split(".lora_")[0].replace(".base_layer.out_proj", "") for name in adapters.trainable_state(model)}
    assert {name.split(".")[-1] for name in names if "resblocks" in name} == adapted


def test_an_untouched_zero_shot_head_classifies_as_clip_does(weights: Path) -> None:
    names = ["landbird", "water_bird", "crow"]
    config = BackboneConfig(name="open_clip:ViT-small", weights=str(weights), head="zero-shot")
    backbone = load(config, classes=3, class_names=names)
    clip = open_clip.create_model("ViT-small", pretrained=str(weights)).eval()
    prompts = open_clip.get_tokenizer("ViT-small")(
        ["a photo of a landbird.", "a photo of a water bird.", "a photo of a crow."]
    )
    with torch.no_grad():
        logits_NC = backbone.model.eval()(IMAGES_NCHW)
        expected_NC = clip.get_logits(IMAGES_NCHW, prompts)[0]
    torch.testing.assert_close(logits_NC, expected_NC)


def test_another_size_resamples_the_positions_as_open_clip_does(weights: Path) -> None:
    name, size = "open_clip:ViT-small", 2 * IMAGES_NCHW.shape[-1]
    backbone = load(BackboneConfig(name=name, weights=str(weights), size=size), classes=3)
    clip = open_clip.create_model("ViT-small", pretrained=str(weights), force_image_size=size).eval()
    images_NCHW = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    assert backbone.size == size
    with torch.no_grad():
        torch.testing.assert_close(backbone.model[0].eval()(images_NCHW), clip.encode_image(images_NCHW))
    assert f"force_image_size={size})" in backbone.recipe
    with pytest.raises(UserError, match=rf"backbone\.size is {size + 1} for ViT-small, whose patches have"):
        load(BackboneConfig(name=name, weights="none", size=size + 1), classes=3)


def test_a_zero_shot_head_needs_class_names(small: Path) -> None:
    with pytest.raises(UserError, match=r"'zero-shot' for 3 classes, but the dataset names no classes. Use 'random'"):
        load(BackboneConfig(name="open_clip:ViT-small", weights="none", head="zero-shot"), classes=3)


def test_a_random_head_is_linear_on_the_raw_features(weights: Path) -> None:
    backbone = load(BackboneConfig(name="open_clip:ViT-small", weights=str(weights)), classes=5)
    assert [type(part).__name__ for part in backbone.model] == ["VisionTransformer", "Linear"]
    clip = open_clip.create_model("ViT-small", pretrained=str(weights)).eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone.model[0].eval()(IMAGES_NCHW), clip.encode_image(IMAGES_NCHW))


def test_absent_weights_name_the_file_the_repository_and_both_mends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as told:
        load(BackboneConfig(name=B32), classes=3)
    repository, file = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors"
    for part in (f"{file} of {repository} is not in", "to the path of a copy", f"hf download {repository} {file}"):
        assert part in str(told.value)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"name": "open_clip:ViT-B-33/x"}, r"'open_clip:ViT-B-33/x' is unknown. Did you mean 'ViT-B-32'\?"),
        ({"name": "open_clip:ViT-B-32/laion2b"}, r"tag 'laion2b' .* Did you mean 'laion2b_e16'\?"),
        ({"name": "open_clip:ViT-B-32"}, r"Write open_clip:ViT-B-32/TAG\."),
    ],
)
def test_slips_are_told_with_their_mend(config: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load(BackboneConfig(**config), classes=3)


def test_another_models_file_is_refused(weights: Path) -> None:
    with pytest.raises(UserError, match=r"open_clip cannot build ViT-S-32-alt from .*clip.safetensors"):
        load(BackboneConfig(name="open_clip:ViT-S-32-alt", weights=str(weights)), classes=3)


RELOAD = """
import pathlib, sys
import open_clip
open_clip.add_model_config(pathlib.Path(sys.argv[2]))
FOLDER = sys.argv[1]
code = pathlib.Path(FOLDER, "README.md").read_text().split("```python")[1].split("```")[0]
exec(code)
images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    torch.save(model(images), FOLDER + "/logits.pt")
assert not any(name.startswith("trainables") for name in sys.modules)
"""


def test_the_saved_readme_rebuilds_the_model_in_a_fresh_process_without_our_code(small: Path, weights: Path) -> None:
    config = BackboneConfig(name="open_clip:ViT-small", weights=str(weights), head="zero-shot")
    backbone = load(config, classes=2, class_names=["landbird", "waterbird"])
    model = adapters.wrap(backbone.model, backbone, Params(method="lora", rank=4))
    for p in model.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.1)
    folder = small.parent / "saved"
    adapters.save_adapter(model, folder, backbone)
    subprocess.run([sys.executable, "-c", RELOAD, str(folder), str(small)], check=True, cwd=folder)
    with torch.no_grad():
        expected_NC = model.eval()(IMAGES_NCHW)
    torch.testing.assert_close(torch.load(folder / "logits.pt"), expected_NC)
