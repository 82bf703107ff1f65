"""Which weights of a model train: all, a LoRA adapter and the head, or the head alone; and proof that they do.

An adapter can be wired so that the forward pass never sees it: nothing fails, nothing is learnt, and merging
it changes the model all the same. `check_gradients` and `check_effect` look at every wrapped model for that.

Shapes: N examples, C channels, H height, W width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import MultiheadAttention
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from trainables.errors import FitError, UserError, few, unknown
from trainables.methods import METHODS
from trainables.params import Params

if TYPE_CHECKING:
    from trainables.backbones import Backbone

_NOISE = 1e-9  # of the outputs' size, in float64: far above rounding, far below any adapter that is heard
_MEND = "Adapt other layers (params.layers), or make the model call these (timm: qkv_bias_separate=True)."


def wrap(model: nn.Module, backbone: Backbone, params: Params) -> nn.Module:
    """`model`, changed in place, with only those weights left trainable that `params.method` trains.

    `full`: every weight. `lora`: a peft adapter on the layers `params.layers`, and the head. `head`: the head.
    `params.layers` is one of `backbone.targets`, or name endings of modules, as in `attn.qkv,mlp.fc1`.
    LoRA's first matrix is drawn from torch's global random state.

    Raises: `UserError` where the layers do not exist or peft cannot adapt them in the way asked for.
    Source: Hu et al. 2021, section 4; rsLoRA, Kalajdzievski 2023; DoRA, Liu et al. 2024.
    """
    return _WRAPPERS[METHODS[params.method].adapter](model, backbone, params)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, total) numbers of weights, as peft counts: a head that peft copies counts twice in the total."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def check_gradients(model: nn.Module) -> None:
    """After the first backward pass: each weight of adapter and head has a gradient.

    Under full fine-tuning there is no adapter to be dead, and unused weights (a mask token) are harmless.

    Raises: `FitError` with the reason `dead-adapter`, naming the layers.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    dead = [name for name, p in trainable if p.grad is None]
    if dead and len(trainable) < sum(1 for _ in model.parameters()):
        layers = _some(_layer(name) for name in dead)
        raise FitError(
            "dead-adapter",
            f"{len(dead)} of {len(trainable)} trainable tensors got no gradient, on: {layers}. "
            f"The forward pass does not use them. {_MEND}",
        )


@torch.no_grad()
def check_effect(model: nn.Module, images_NCHW: Tensor) -> None:
    """The adapter, once it holds numbers, changes the outputs, and merging it gives those same outputs.

    Looks at a copy in float64: weights, gradients, mode and random state of `model` stay as they are. In the copy
    all-zero tensors become small noise, since they hide what lies behind them: a fresh LoRA B, a fresh head, the
    last norms of an untrained Swin-v2. Models without an adapter pass. A few images are enough.

    Raises: `FitError` with the reason `dead-adapter`, naming the layers.
    """
    if not isinstance(model, PeftModel):
        return
    twin = _twin(model)
    images_NCHW = images_NCHW.double()
    layers = _adapted(twin)
    heard: set[str] = set()
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: heard.add(name))
    with torch.autocast(images_NCHW.device.type, enabled=False):
        on, off, merged = _on_off_merged(twin, layers, images_NCHW)
    scale = float(on.abs().max())
    effect, error = (float((on - other).abs().max()) for other in (off, merged))
    if not effect > _NOISE * scale or not error < 1e-3 * effect:
        silent = _some(name for name in layers if name not in heard) or "none is skipped, but the outputs disagree"
        raise FitError(
            "dead-adapter",
            f"adapter on and off differ by {effect / scale:.1e} of the outputs' size (must not be 0), adapter on and "
            f"merged by {error / scale:.1e} (must be 0). Layers that the forward pass skips: {silent}. {_MEND}",
        )


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of what training changes, under peft's own names; the frozen weights are not in it."""
    if isinstance(model, PeftModel):
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        state = {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def load_trainable_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Puts a `trainable_state` back, into a model wrapped with the same parameters.

    Raises: `UserError` where names or shapes differ from what the model trains.
    """
    given, wanted = ({name: tuple(t.shape) for name, t in part.items()} for part in (state, trainable_state(model)))
    if given != wanted:
        odd = _some(sorted(name for name in {*given, *wanted} if given.get(name) != wanted.get(name)))
        raise UserError(
            f"the saved state does not fit this model, at: {odd}. "
            "It was saved with another method, rank, choice of layers or number of classes: load it with those."
        )
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, state)
    else:
        model.load_state_dict(state, strict=False)


def save_adapter(model: nn.Module, folder: Path, backbone: Backbone) -> None:
    """Writes the trained weights so that plain peft (or torch) loads them, and a README.md that says how.

    `lora`: `adapter_model.safetensors` (the head is in it) and `adapter_config.json`, peft's own format.
    `full`: `model.safetensors`. `head`: `head.safetensors`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        recipe = "model = peft.PeftModel.from_pretrained(model, FOLDER).eval()"
    else:
        file = "model.safetensors" if all(p.requires_grad for p in model.parameters()) else "head.safetensors"
        save_file(trainable_state(model), folder / file, metadata={"format": "pt"})
        recipe = f'model.load_state_dict(safetensors.torch.load_file(FOLDER + "/{file}"), strict=False)'
    trainable, total = count_parameters(model)
    (folder / "README.md").write_text(
        f"# {backbone.name}, fine-tuned\n\n"
        f"{trainable:,} trained weights of {total:,}. Base model: {backbone.source}.\n"
        f"Images: {backbone.size} pixels, mean {list(backbone.mean)}, std {list(backbone.std)}, "
        f"{backbone.interpolation}. Written with peft {peft.__version__}.\n\n"
        f"```python\n{backbone.recipe}\n{recipe}\n```\n",
        encoding="utf-8",
    )


def _full(model: nn.Module, backbone: Backbone, params: Params) -> nn.Module:
    return model.requires_grad_(True)


def _head(model: nn.Module, backbone: Backbone, params: Params) -> nn.Module:
    model.requires_grad_(False)
    model.get_submodule(backbone.head).requires_grad_(True)
    return model


def _lora(model: nn.Module, backbone: Backbone, params: Params) -> nn.Module:
    alpha = params.alpha_value
    targets = _targets(model, backbone, params.layers)
    config = LoraConfig(
        r=params.rank,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,  # type: ignore[arg-type]  # peft only divides by it
        lora_dropout=params.dropout,
        target_modules=targets,
        modules_to_save=[backbone.head],
        use_rslora=params.variant == "rslora",
        use_dora=params.variant == "dora",
    )
    config._register_custom_module({nn.MultiheadAttention: _Attention})
    try:
        wrapped = get_peft_model(model, config)
    except (ValueError, TypeError) as fault:
        raise UserError(
            f"peft cannot put a {params.variant} adapter on the layers '{params.layers}' of {backbone.name}: {fault} "
            "Use params.variant: lora, or other params.layers."
        ) from fault
    _refuse_lost_dropout(wrapped, params)
    config.base_model_name_or_path = backbone.name
    return wrapped


_WRAPPERS: dict[str, Callable[[nn.Module, Backbone, Params], nn.Module]] = {
    "full": _full,
    "lora": _lora,
    "head": _head,
}


def _targets(model: nn.Module, backbone: Backbone, layers: str) -> list[str] | str:
    if layers in backbone.targets:
        return backbone.targets[layers]
    names = [name.strip() for name in layers.split(",")]
    modules = [f".{name}" for name, _ in model.named_modules()]
    if not all(any(module.endswith(f".{name}") for module in modules) for name in names):
        linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
        known = unknown(f"params.layers '{layers}' of {backbone.name}", layers, backbone.targets)
        endings = _some((".".join(name.split(".")[-2:]) for name in linear), 8)
        raise UserError(f"{known} Or name endings of its modules, separated by commas; its linear ones: {endings}.")
    return names


def _refuse_lost_dropout(model: nn.Module, params: Params) -> None:
    """torch's fused attention takes whole weights, not inputs: peft would drop the dropout in silence."""
    fused = [name for name, module in model.named_modules() if isinstance(module, MultiheadAttention)]
    if fused and params.dropout > 0:
        raise UserError(
            f"params.dropout is {params.dropout:g}, but an adapter on fused attention ({_some(map(_layer, fused))}) "
            "has no input to drop. Use 0, or a timm model, whose attention is made of linear layers."
        )


class _Attention(MultiheadAttention):
    """peft's adapter on torch's fused attention, without its drift.

    peft adds the update to the frozen weights before each forward and subtracts it afterwards, so that rounding
    moves weights that must not move. Here the sum is only lent to the forward pass. Its merge adds the update of
    the output projection twice (0.21), and its gradient once; so that a saved folder means the same to plain peft,
    it is twice here too, gradient included. Should peft change this, `check_effect` tells.
    """

    def forward(self, query: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.disable_adapters or self.merged:
            return super().forward(query, *args, **kwargs)
        base: Any = self.get_base_layer()
        inward, outward = base.in_proj_weight, base.out_proj.weight
        for name in self.active_adapters:
            inward = inward + self.get_delta_weight(name)
            outward = outward + 2 * base.out_proj.get_delta_weight(name)
        lent = {"in_proj_weight": inward, "out_proj.base_layer.weight": outward}
        return functional_call(base, lent, (query, *args), kwargs)


def _twin(model: PeftModel) -> PeftModel:
    """A float64 copy in evaluation mode, in which no tensor is all zero."""
    twin = copy.deepcopy(model).double().eval()
    noise = torch.Generator().manual_seed(0)
    for p in twin.parameters():
        if not p.any():
            p.copy_(0.02 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return twin


def _on_off_merged(twin: PeftModel, layers: dict[str, Any], images_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    on = twin(images_NCHW)
    for layer in layers.values():  # not peft's disable_adapter: that exchanges the head too, and always differs
        layer.enable_adapters(False)
    off = twin(images_NCHW)
    for layer in layers.values():
        layer.enable_adapters(True)
        layer.merge()
    return on, off, twin(images_NCHW)


def _adapted(model: PeftModel) -> dict[str, Any]:
    """The outermost adapted layers by name: fused attention owns its output projection's adapter."""
    found: dict[str, Any] = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def _layer(parameter: str) -> str:
    """`base_model.model.blocks.0.attn.qkv.lora_A.default.weight` -> `blocks.0.attn.qkv`."""
    return parameter.removeprefix("base_model.model.").split(".lora_")[0].split(".modules_to_save")[0]


def _some(names: Iterable[str], shown: int = 4) -> str:
    return ", ".join(few(dict.fromkeys(names), shown))
