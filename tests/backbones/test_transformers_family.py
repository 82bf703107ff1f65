"""Language models: layers, heads, pads, guards; small ones of the papers' own classes, full sizes by counting."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
import transformers

from tests.backbones import language
from trainables import adapters, backbones
from trainables.backbones import Backbone, BackboneConfig
from trainables.errors import FitError, UserError
from trainables.params import Params
from trainables.training import small_bodies

MAKERS = {"bert": language.bert, "llama": language.llama, "mistral": language.mistral}
LORA = Params.from_flat({"method": "lora", "rank": 4, "layers": "qv"})
SHORT, LONG = "a bad book", "the good film was red"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


def load(folder: Path, **options: object) -> Backbone:
    return backbones.load(BackboneConfig(name=f"transformers:{folder}", **options), classes=3)


def batch(backbone: Backbone, *texts: str) -> torch.Tensor:
    assert backbone.reading is not None
    rows = backbone.reading.encode(texts, None)
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows])


@pytest.mark.parametrize(
    ("name", "head", "layers"),
    [
        ("bert", "classifier", ["attention.self.query", "attention.self.value"]),
        ("llama", "score", ["q_proj", "v_proj"]),
        ("mistral", "score", ["q_proj", "v_proj"]),
    ],
)
def test_the_head_and_the_queries_and_values_are_found(
    folders: dict[str, Path], name: str, head: str, layers: list[str]
) -> None:
    backbone = load(folders[name])
    assert backbone.heads == (head,)
    assert backbone.targets["qv"] == layers
    assert list(backbone.targets) == ["qv", "qkv", "attention", "attention+mlp"]


@pytest.mark.parametrize("name", MAKERS)
def test_an_adapter_has_an_effect_and_every_weight_of_it_a_gradient(folders: dict[str, Path], name: str) -> None:
    backbone = load(folders[name])
    model = adapters.wrap(copy.deepcopy(backbone.model), backbone, LORA)
    tokens_BL = batch(backbone, SHORT, LONG)
    adapters.check_effect(model, tokens_BL)
    model(tokens_BL).sum().backward()
    adapters.check_gradients(model)
    assert adapters.attention_reach(model) == (2, 2)


@pytest.mark.parametrize("name", MAKERS)
def test_what_stands_behind_a_text_changes_nothing(folders: dict[str, Path], name: str) -> None:
    backbone = load(folders[name])
    with torch.no_grad():
        both, alone = backbone.model(batch(backbone, SHORT, LONG)), backbone.model(batch(backbone, SHORT))
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-4)


def test_a_llama_answers_on_its_last_token(folders: dict[str, Path]) -> None:
    backbone = load(folders["llama"])
    with torch.no_grad():
        one, other = (backbone.model(batch(backbone, text)) for text in ("good film was red", "good film was blue"))
        same = backbone.model(batch(backbone, "good film was red", LONG + " " + LONG))[:1]
    assert not torch.allclose(one, other)
    torch.testing.assert_close(one, same, atol=1e-5, rtol=1e-4)
    assert backbone.model.config.pad_token_id == 0  # the published ones have none


@pytest.mark.parametrize(
    ("name", "adapter"),
    [
        # r 8 on q and v, in 32 blocks: 8 (4096 + 4096) each; Mistral's v goes to 1024
        ("meta-llama/Llama-2-7b-hf", 32 * 2 * 8 * (4096 + 4096)),
        ("mistralai/Mistral-7B-v0.1", 32 * (8 * (4096 + 4096) + 8 * (4096 + 1024))),
    ],
)
def test_the_papers_models_have_as_many_trained_weights_as_the_closed_form_says(name: str, adapter: int) -> None:
    assert adapter in (4_194_304, 3_407_872)
    backbone = backbones.skeleton(BackboneConfig(name=f"transformers:{name}"))
    with torch.device("meta"):
        model = adapters.wrap(backbone.model, backbone, Params.from_flat({"method": "lora", "rank": 8, "layers": "qv"}))
    assert adapters.count_parameters(model)[0] == adapter + 2 * 4096  # and the head, which has no bias


def test_plain_transformers_and_peft_load_what_was_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    backbone = load(folders["bert"])
    model = adapters.wrap(copy.deepcopy(backbone.model), backbone, LORA).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    adapters.save_adapter(model, tmp_path, backbone)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(
        folders["bert"], num_labels=3, ignore_mismatched_sizes=True
    )
    plain = peft.PeftModel.from_pretrained(plain, tmp_path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    seen = tokenizer([SHORT, LONG], padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = plain(input_ids=seen["input_ids"], attention_mask=seen["attention_mask"]).logits
        torch.testing.assert_close(theirs, model(batch(backbone, SHORT, LONG)))
    assert (
        json.loads((tmp_path / "adapter_config.json").read_text())["auto_mapping"]["base_model_class"]
        == "BertForSequenceClassification"
    )


def test_a_frozen_body_in_8_bits_less_keeps_adapter_and_head_in_32(folders: dict[str, Path]) -> None:
    backbone = load(folders["llama"], frozen="bf16", checkpointing=True)
    model = adapters.wrap(copy.deepcopy(backbone.model), backbone, LORA)
    kinds = {weight.dtype for weight in model.parameters() if weight.requires_grad}
    assert kinds == {torch.float32}
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} >= {torch.bfloat16}
    assert model.get_base_model().is_gradient_checkpointing
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    small_bodies.check_effect(model, batch(backbone, SHORT, LONG))
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert model.active_adapters == ["default"]
    for layer in adapters.adapted_layers(model).values():
        layer.scaling["default"] = 0.0
    with pytest.raises(FitError, match="adapter on and off give the same answers"):
        small_bodies.check_effect(model, batch(backbone, SHORT, LONG))
    full = adapters.wrap(copy.deepcopy(backbone.model), backbone, Params.from_flat({"method": "fft"}))
    assert {weight.dtype for weight in full.parameters()} == {torch.float32}
    backbone.model.is_quantized = True
    with pytest.raises(UserError, match=r"fft trains all weights, and backbone.frozen keeps them in 4 bits. Use bf16."):
        adapters.wrap(backbone.model, backbone, Params.from_flat({"method": "fft"}))


def _no_layers(folders: dict[str, Path]) -> None:
    backbone = load(folders["llama"])
    adapters.wrap(backbone.model, backbone, Params.from_flat({"method": "lora", "layers": "attn.qkv"}))


def _pickled(folders: dict[str, Path]) -> None:
    folder = folders["bert"].with_name("pickled")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text((folders["bert"] / "config.json").read_text())
    torch.save({}, folder / "pytorch_model.bin")
    load(folder)


def _own_code(folders: dict[str, Path]) -> None:
    folder = folders["bert"].with_name("code")
    folder.mkdir(exist_ok=True)
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('code was run')")
    load(folder)


def _other_model(folders: dict[str, Path]) -> None:
    folder = folders["bert"].with_name("other")
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes((folders["llama"] / "model.safetensors").read_bytes())
    (folder / "config.json").write_text((folders["bert"] / "config.json").read_text())
    load(folder)


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        (_no_layers, r"params.layers 'attn.qkv' of .* is unknown.* Known: attention, attention\+mlp, qkv, qv"),
        (_pickled, r"transformers cannot build .*model.safetensors"),
        (_own_code, r"Code that comes with a model is never run"),
        (_other_model, r"does not fit .* tensors are absent or of another shape, such as bert\."),
        (lambda _: backbones.load(BackboneConfig(name="transformers:nobody/nothing"), classes=2),
         r"nobody/nothing is no folder, and it is not in the hub cache .*\n    hf download nobody/nothing --include"),
        (lambda folders: load(folders["bert"], length=257), r"backbone.length is 257, .* takes at most 256 tokens"),
        (lambda folders: load(folders["bert"], frozen="4-bit"), r"needs a GPU and the package bitsandbytes"),
        (lambda folders: load(folders["bert"], weights="/nowhere"), r"backbone.weights: /nowhere is not a folder"),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_its_mend(
    folders: dict[str, Path], slip: Callable[[dict[str, Path]], object], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        slip(folders)
