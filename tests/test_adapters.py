"""Which weights train, that they are heard, and that what is saved is what was trained."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from open_clip.transformer import VisionTransformer as ClipTower
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables import adapters
from trainables.backbones import Backbone
from trainables.backbones.timm_family import linear_targets
from trainables.errors import FitError, UserError
from trainables.params import Params, exists

IMAGES_NCHW = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS_N = torch.tensor([0, 1, 2, 0])


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3)


def clip() -> nn.Module:
    torch.manual_seed(0)
    tower = ClipTower(image_size=32, patch_size=16, width=32, layers=2, heads=2, mlp_ratio=2, output_dim=16)
    return nn.Sequential(OrderedDict(visual=tower, head=nn.Linear(16, 3)))


def swin(calls_qkv: bool) -> nn.Module:
    """Swin-v2 as timm builds it: its attention reads `qkv.weight`, and calls `qkv` only when told to."""
    torch.manual_seed(0)
    model = timm.create_model("swinv2_tiny_window8_256", img_size=32, window_size=2, depths=(1, 1, 1, 1), num_classes=3)
    for part in model.modules():
        if hasattr(part, "qkv_bias_separate"):
            part.qkv_bias_separate = calls_qkv
    return model


def described(model: nn.Module) -> Backbone:
    fused = any(isinstance(part, nn.MultiheadAttention) for part in model.modules())
    return Backbone(
        name="tiny",
        model=model,
        head="head",
        targets={"qkv": ["attn"]} if fused else linear_targets(model),
        size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        crop_pct=1.0,
        resize="squash",
        parameters=0,
        source="a test",
        recipe="import peft",
    )


def wrapped(model: nn.Module, **params: object) -> nn.Module:
    method = str(params.pop("method", "lora"))
    rank = {"rank": 4} if exists("rank", method) else {}
    return adapters.wrap(model, described(model), Params(**{"method": method, **rank, **params}))


def train(model: nn.Module, steps: int = 3) -> nn.Module:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(IMAGES_NCHW), LABELS_N).backward()
        optimizer.step()
    return model


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(IMAGES_NCHW)


@pytest.mark.parametrize("build", [vit, clip])
def test_lora_moves_the_adapter_and_the_head_and_nothing_else_by_a_single_bit(build: Callable[[], nn.Module]) -> None:
    model = wrapped(build())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if ".lora_" in name or "modules_to_save" in name}


@pytest.mark.parametrize(
    ("build", "blocks", "adapted"),
    [
        (vit, 1, ["blocks.1.attn.qkv"]),
        (clip, 1, ["visual.transformer.resblocks.1.attn"]),
        # Swin's stages follow one another
        (lambda: swin(True), 3, [f"layers.{stage}.blocks.0.attn.qkv" for stage in (1, 2, 3)]),
    ],
    ids=["vit", "clip", "swin"],
)
def test_blocks_keeps_the_adapters_of_the_last_so_many_blocks(
    build: Callable[[], nn.Module], blocks: int, adapted: list[str], tmp_path: Path
) -> None:
    model = train(wrapped(build(), blocks=blocks))
    assert sorted(adapters.adapted_layers(model)) == adapted
    adapters.check_effect(model, IMAGES_NCHW)
    adapters.save_adapter(model, tmp_path, described(build()))
    torch.testing.assert_close(outputs(PeftModel.from_pretrained(build(), str(tmp_path))), outputs(model))


def test_as_many_blocks_as_there_are_is_what_no_word_of_blocks_is_and_one_more_an_error() -> None:
    assert wrapped(vit(), blocks=2).peft_config == wrapped(vit()).peft_config
    with pytest.raises(UserError, match=r"^params.blocks is 3, and tiny has 2 blocks. Use 1 to 2; without it all have"):
        wrapped(vit(), blocks=3)


def test_layers_that_the_last_blocks_lack_are_an_error() -> None:
    with pytest.raises(UserError, match=r"'patch_embed.proj' names nothing in the last 1 of 2 blocks of tiny"):
        wrapped(vit(), blocks=1, layers="patch_embed.proj")


def test_a_linear_probe_moves_the_head_alone() -> None:
    model = vit()
    before = copy.deepcopy(model.state_dict())
    train(wrapped(model, method="probe"))
    assert {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])} == {"head.weight", "head.bias"}


def test_full_fine_tuning_moves_every_weight() -> None:
    model = vit()
    before = copy.deepcopy(model.state_dict())
    train(wrapped(model, method="fft"))
    assert [name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])] == []


def test_counts_are_rank_times_both_sides_of_each_layer_and_the_head_twice_in_the_total() -> None:
    model = vit()
    bare = sum(p.numel() for p in model.parameters())
    lora, head = 2 * 4 * (192 + 3 * 192), 192 * 3 + 3  # two blocks, rank 4, 192 -> 576
    assert adapters.count_parameters(wrapped(model)) == (lora + head, bare + lora + head)


@pytest.mark.parametrize(("variant", "scale"), [("lora", 8 / 4), ("rslora", 8 / 4**0.5)])
def test_the_update_is_scaled_as_its_variant_says(variant: str, scale: float) -> None:
    model = wrapped(vit(), variant=variant, alpha="8")
    assert model.get_submodule("base_model.model.blocks.0.attn.qkv").scaling == {"default": pytest.approx(scale)}


def test_dropout_is_of_the_adapters_input_and_of_nothing_else() -> None:
    model = wrapped(vit(), dropout=0.5).train()
    qkv = model.get_submodule("base_model.model.blocks.0.attn.qkv")
    ones = torch.ones(4000, 192)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        qkv.lora_A["default"].weight.fill_(1.0)
        qkv.lora_B["default"].weight.fill_(1.0)
        update_N = (qkv(ones) - qkv.base_layer(ones))[:, 0]
        undropped_N = (qkv.eval()(ones) - qkv.base_layer(ones))[:, 0]
    # scaled by 2, summed over a rank of 4: 8 times a sum of 192 ones, each dropped or doubled
    assert float(update_N.mean()) == pytest.approx(8 * 192, rel=0.01)
    assert float(update_N.std()) == pytest.approx(8 * 192**0.5, rel=0.05)
    torch.testing.assert_close(undropped_N, torch.full((4000,), 8.0 * 192))


@pytest.mark.parametrize(("alpha", "scale"), [({}, 2.0), ({"alpha": "16"}, 4.0), ({"alpha": "3*rank"}, 3.0)])
def test_alpha_is_a_number_or_a_multiple_of_the_rank_and_twice_the_rank_if_nothing_is_said(
    alpha: dict[str, str], scale: float
) -> None:
    model = wrapped(vit(), rank=4, **alpha)
    assert model.get_submodule("base_model.model.blocks.0.attn.qkv").scaling == {"default": scale}


def test_dora_learns_the_sizes_of_the_weights_too() -> None:
    model = wrapped(vit(), variant="dora")
    assert any("lora_magnitude_vector" in name for name in adapters.trainable_state(model))
    adapters.check_effect(model, IMAGES_NCHW)


def test_the_same_seed_draws_the_same_adapter() -> None:
    torch.manual_seed(5)
    first = adapters.trainable_state(wrapped(vit()))  # vit() sets its own seed, the adapter continues from it
    second = adapters.trainable_state(wrapped(vit()))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_layers_may_be_named_one_by_one() -> None:
    state = adapters.trainable_state(wrapped(vit(), layers="mlp.fc1, attn.proj"))
    assert {name.split(".lora_")[0].split("blocks.0.")[1] for name in state if "blocks.0" in name} == {
        "mlp.fc1",
        "attn.proj",
    }


def test_unknown_layers_are_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"'qkw' of tiny is unknown. Did you mean 'qkv'\?.*linear ones: attn.qkv, attn"):
        wrapped(vit(), layers="qkw")


def test_dropout_that_fused_attention_would_ignore_is_refused() -> None:
    with pytest.raises(UserError, match=r"params.dropout is 0.1, but an adapter on fused attention"):
        wrapped(clip(), dropout=0.1)


def test_dora_on_fused_attention_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot put a dora adapter on the layers 'qkv'.*Use params.variant: lora"):
        wrapped(clip(), variant="dora")


@pytest.mark.parametrize("build", [vit, clip, lambda: swin(True)])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_live_adapter_passes_both_guards_fresh_and_trained(build: Callable[[], nn.Module], steps: int) -> None:
    model = train(wrapped(build()), steps)
    adapters.check_effect(model, IMAGES_NCHW)
    nn.functional.cross_entropy(model(IMAGES_NCHW), LABELS_N).backward()
    adapters.check_gradients(model)


def test_an_adapter_without_gradients_is_named() -> None:
    model = wrapped(swin(False))
    model(IMAGES_NCHW).sum().backward()
    with pytest.raises(
        FitError, match=r"8 of 10 .* no gradient, on: layers.0.blocks.0.attn.qkv, .*params.layers"
    ) as told:
        adapters.check_gradients(model)
    assert told.value.reason == "dead-adapter"


def test_an_adapter_without_effect_is_named_even_after_the_head_has_moved() -> None:
    model = wrapped(swin(False))
    for name, p in model.named_parameters():
        if "modules_to_save" in name:
            nn.init.normal_(p)
    with pytest.raises(FitError, match=r"on and off differ by 0.0e\+00 .* skips: layers.0.blocks.0.attn.qkv") as told:
        adapters.check_effect(model, IMAGES_NCHW)
    assert told.value.reason == "dead-adapter"


def test_one_dead_layer_among_live_ones_shows_when_merged() -> None:
    model = wrapped(clip(), layers="out_proj,mlp.c_fc")
    with pytest.raises(
        FitError, match=r"skips: visual.transformer.resblocks.0.attn.out_proj, visual.*1.attn.out_proj\."
    ):
        adapters.check_effect(model, IMAGES_NCHW)


def test_the_guard_leaves_no_trace() -> None:
    model = train(wrapped(vit(), dropout=0.1)).train()
    weights = copy.deepcopy(model.state_dict())
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    draw = torch.get_rng_state()
    adapters.check_effect(model, IMAGES_NCHW)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert {n for n, p in model.named_parameters() if p.grad is not None and torch.equal(p.grad, grads[n])} == set(
        grads
    )
    assert torch.equal(torch.get_rng_state(), draw)
    assert all(part.training for part in model.modules())
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("method", ["lora", "fft", "probe"])
def test_state_goes_back_exactly_and_holds_nothing_frozen(method: str) -> None:
    model = train(wrapped(vit(), method=method))
    state = adapters.trainable_state(model)
    assert sum(t.numel() for t in state.values()) == adapters.count_parameters(model)[0]
    fresh = wrapped(vit(), method=method)
    assert not torch.equal(outputs(fresh), outputs(model))
    adapters.load_trainable_state(fresh, state)
    assert torch.equal(outputs(fresh), outputs(model))


def test_state_is_a_copy_that_further_training_does_not_touch() -> None:
    model = train(wrapped(vit()))
    state = adapters.trainable_state(model)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    train(model)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_the_state_of_another_rank_is_refused() -> None:
    state = adapters.trainable_state(wrapped(vit(), rank=8))
    with pytest.raises(UserError, match=r"does not fit this model, at: .*lora_A.weight.*another method, rank"):
        adapters.load_trainable_state(wrapped(vit(), rank=4), state)


@pytest.mark.parametrize("build", [vit, clip])
def test_plain_peft_loads_what_was_saved_and_gives_the_same_logits(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    model = train(wrapped(build()))
    adapters.save_adapter(model, tmp_path, described(build()))
    plain = PeftModel.from_pretrained(build(), str(tmp_path))
    torch.testing.assert_close(outputs(plain), outputs(model), rtol=0, atol=1e-6)
    assert {file.name for file in tmp_path.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"], config["inference_mode"]) == (4, "tiny", True)


def test_the_gradient_on_fused_attention_is_the_numeric_one() -> None:
    model = train(wrapped(clip())).double().eval()
    weight = model.get_parameter(
        "base_model.model.visual.transformer.resblocks.1.attn.base_layer.out_proj.lora_B.default.weight"
    )
    loss = lambda: model(IMAGES_NCHW.double()).square().sum()  # noqa: E731
    model.zero_grad()
    loss().backward()
    step = 1e-6
    with torch.no_grad():
        weight[0, 0] += step
        above = loss()
        weight[0, 0] -= 2 * step
        assert weight.grad[0, 0].item() == pytest.approx(((above - loss()) / (2 * step)).item(), rel=1e-5)


@pytest.mark.parametrize(("method", "file"), [("fft", "model.safetensors"), ("probe", "head.safetensors")])
def test_without_an_adapter_plain_torch_loads_the_one_file(method: str, file: str, tmp_path: Path) -> None:
    model = train(wrapped(vit(), method=method))
    adapters.save_adapter(model, tmp_path, described(model))
    plain = vit()
    plain.load_state_dict(load_file(tmp_path / file), strict=method == "fft")
    assert torch.equal(outputs(plain), outputs(model))


def family(name: str, **sizes: object) -> Backbone:
    """A timm model without weights, as the loader describes it."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **sizes)
    backbone = described(model)
    backbone.head, backbone.targets = model.pretrained_cfg["classifier"], linear_targets(model)
    return backbone


def adapted(backbone: Backbone, layers: str) -> nn.Module:
    return adapters.wrap(backbone.model, backbone, Params(method="lora", rank=4, layers=layers))


@pytest.mark.parametrize(
    ("name", "sizes", "reached"),
    [
        ("convit_tiny", {"depth": 3, "local_up_to_layer": 2, "embed_dim": 12}, "1 of 3"),
        ("twins_svt_small", {"depths": (2, 2, 0, 0), "embed_dims": (16, 16, 16, 16)}, "2 of 4"),
        ("cait_xxs24_224", {"depth": 2, "embed_dim": 16, "num_heads": 2}, "2 of 4"),
    ],
)
def test_an_option_that_reaches_some_attention_blocks_only_is_refused_with_those_it_misses(
    name: str, sizes: dict[str, object], reached: str
) -> None:
    with pytest.raises(UserError, match=rf"'qkv' reaches {reached} attention blocks .* Name the layers yourself"):
        adapted(family(name, **sizes), "qkv")
    named = adapted(family(name, **sizes), "attn.qkv")  # who names the layers knows
    assert "{} of {}".format(*adapters.attention_reach(named)) == reached


def test_a_layer_scale_at_its_start_does_not_make_an_adapter_dead() -> None:
    """cait begins at 1e-5 to 1e-6: behind it the adapter changed 3e-10 of the outputs."""
    backbone = family("cait_xxs24_224", img_size=32, depth=4, embed_dim=16, num_heads=2, init_values=1e-6)
    adapters.check_effect(adapted(backbone, "attn.qkv"), IMAGES_NCHW)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_a_convolutional_network_is_told_that_no_adapter_fits(name: str) -> None:
    with pytest.raises(UserError, match=r"no linear layer but its head.*Use methods fft or probe, or a transformer"):
        adapted(family(name), "qkv")


def test_the_head_is_no_layer_to_adapt() -> None:
    with pytest.raises(UserError, match=r"'head' is the head of tiny, which trains whole beside the adapter"):
        adapted(family("vit_tiny_patch16_224", img_size=32, depth=2), "head")


@pytest.mark.parametrize("method", ["lora", "probe", "fft"])
def test_logits_are_float32_products_also_where_the_body_computes_in_bfloat16(method: str) -> None:
    model = wrapped(vit(), method=method)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert model.eval()(IMAGES_NCHW).dtype == torch.bfloat16
    adapters.answer_in_float32(model, ["head"])
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    inputs: list[Tensor] = []
    base.get_submodule("head").register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits_NC = model.eval()(IMAGES_NCHW)
    state = {name: t for name, t in base.named_parameters() if name.startswith("head.")}
    weight_CF, bias_C = (next(t for n, t in reversed(state.items()) if n.endswith(kind)) for kind in ("weight", "bias"))
    assert logits_NC.dtype == torch.float32
    assert torch.equal(logits_NC, nn.functional.linear(inputs[0].float(), weight_CF, bias_C))
