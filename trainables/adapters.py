"""Which weights of a model train: all, a LoRA adapter and the head, or the head alone; and proof that they do.

An adapter can be wired so that the forward pass does not use it: nothing fails, nothing is learnt, and yet
merging it changes the model. `check_gradients` and `check_effect` look at every wrapped model for that.

Shapes: N examples, images or rows of tokens.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import MultiheadAttention
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call

from trainables.backbones import Backbone, ending, shown, weights, within
from trainables.backbones.blocks import attention_blocks, transformer_blocks
from trainables.errors import FitError, UserError, few, unknown
from trainables.methods import METHODS
from trainables.params import Params

_NOISE = 1e-9  # of the outputs' size, in float64: far above rounding, far below the effect of any adapter
MEND = "Adapt other layers (params.layers), or make the model call these (timm: qkv_bias_separate=True)."


def wrap(model: nn.Module, backbone: Backbone, params: Params) -> nn.Module:
    """`model`, changed in place, with only those weights left trainable that `params.method` trains.

    `full`: every weight. `lora`: a peft adapter on the layers `params.layers`, and the head. `head`: the head.
    `params.layers` is one of `backbone.targets`, or name endings of modules, as in `attn.qkv,mlp.fc1`; `params.blocks`
    keeps those in the last so many blocks. LoRA's first matrix is drawn from torch's global state.

    Raises: `UserError` where the layers or so many blocks do not exist, where an option such as `qkv` reaches only some
    of the attention blocks, or where peft cannot adapt the layers in the way asked for.
    Source: Hu et al. 2021, section 4; rsLoRA, Kalajdzievski 2023; DoRA, Liu et al. 2024.
    """
    adapter = METHODS[params.method].adapter
    if adapter == "lora":
        return _lora(model, backbone, params)
    if adapter == "full" and getattr(model, "is_quantized", False):
        raise UserError(f"{params.method} trains all weights, and backbone.frozen keeps them in 4 bits. Use bf16.")
    model = model.float() if adapter == "full" else model
    model.requires_grad_(adapter == "full")
    for head in backbone.heads:
        model.get_submodule(head).requires_grad_(True)
    return model


def check_layers(backbone: Backbone, layers: str, blocks: int | None = None) -> None:
    """Raises: `UserError` where `layers`, in the last `blocks`, are none that an adapter can be on, as `wrap` does."""
    _in_last(blocks, _targets(backbone.model, backbone, layers), backbone.model, backbone, layers)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, total) numbers of weights, as peft counts: a head that peft copies counts twice in the total."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def train(model: nn.Module) -> None:
    """Training mode, but frozen normalisation stays in evaluation mode, so that its statistics do not move.

    peft saves no buffers: with statistics that moved, the saved model would not be the measured one.
    """
    model.train()
    if all(p.requires_grad for p in model.parameters()):
        return
    for part in model.modules():
        if getattr(part, "running_mean", None) is not None and not any(p.requires_grad for p in part.parameters()):
            part.eval()


def answer_in_float32(model: nn.Module, heads: Iterable[str]) -> None:
    """The heads of a wrapped model compute in float32 also where the body runs in bfloat16.

    bfloat16 keeps 8 bits: logits near 10 would come in steps of 1/16, and losses and calibration with them.
    """
    for head in (trained_module(model, name) for name in heads):
        head.forward = _in_float32(head.forward)


def trained_module(model: nn.Module, name: str) -> nn.Module:
    """The module `name` of the model that was wrapped; of a head under LoRA the copy that trains."""
    module: Any = (model.get_base_model() if isinstance(model, PeftModel) else model).get_submodule(name)
    if isinstance(module, ModulesToSaveWrapper):
        (module,) = module.modules_to_save.values()
    return module  # type: ignore[no-any-return]


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def exact(features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return forward(features.float())

    return exact


def attention_reach(model: nn.Module) -> tuple[int, int]:
    """(adapted, all) attention blocks of a wrapped model."""
    reached = _reached(model)
    return sum(reached.values()), len(reached)


def _reached(model: nn.Module) -> dict[str, bool]:
    """Each attention block of a wrapped model, and whether an adapter is in it."""
    adapted = [name for name, part in model.named_modules() if isinstance(part, LoraLayer)]
    return {block: any(within(name, [block]) for name in adapted) for block in attention_blocks(model)}


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
            f"The forward pass does not use them. {MEND}",
        )


@torch.no_grad()
def check_effect(model: nn.Module, examples_N: Tensor) -> None:
    """The adapter, once it holds numbers, changes the outputs, and merging it gives those same outputs.

    Looks at a copy in float64: weights, gradients, mode and random state of `model` stay as they are. In the copy
    all-zero tensors become small noise, since they hide what lies behind them: a fresh LoRA B, a fresh head, the
    last norms of an untrained Swin-v2. For the same reason a layer scale that is still tiny becomes 1. Models without
    an adapter pass. A few examples are enough.

    Raises: `FitError` with the reason `dead-adapter`, naming the layers.
    """
    if not isinstance(model, PeftModel):
        return
    twin = _twin(model)
    examples_N = examples_N.double() if examples_N.is_floating_point() else examples_N  # tokens are not
    layers = adapted_layers(twin)
    called: set[str] = set()
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: called.add(name))
    with torch.autocast(examples_N.device.type, enabled=False):
        on = twin(examples_N)
        for layer in layers.values():  # not peft's disable_adapter: that exchanges the head too, and always differs
            layer.enable_adapters(False)
        off = twin(examples_N)
        for layer in layers.values():
            layer.enable_adapters(True)
            layer.merge()
        merged = twin(examples_N)
    scale = float(on.abs().max())
    effect, error = (float((on - other).abs().max()) for other in (off, merged))
    if not effect > _NOISE * scale or not error < 1e-3 * effect:
        skipped = _some(name for name in layers if name not in called) or "none, but the outputs disagree"
        raise FitError(
            "dead-adapter",
            f"adapter on and off differ by {effect / scale:.1e} of the outputs' size (must not be 0), adapter on and "
            f"merged by {error / scale:.1e} (must be 0). Layers that the forward pass skips: {skipped}. {MEND}",
        )


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of what training changes, under peft's own names; the frozen weights are not in it."""
    # Without embedding layers: peft would ask the hub whether their size has changed.
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
        misfits = _some(sorted(name for name in {*given, *wanted} if given.get(name) != wanted.get(name)))
        raise UserError(
            f"the saved state does not fit this model, at: {misfits}. "
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
        f"{backbone.sees} Written with peft {peft.__version__}.\n\n"
        f"```python\n{backbone.recipe}\n{recipe}\n```\n",
        encoding="utf-8",
    )


def load_adapter(model: nn.Module, folder: Path, *, but: str = "") -> None:
    """Puts the weights that `save_adapter` wrote into a model that was wrapped in the same way.

    Raises: `UserError` where `folder` has no one weight file beside the one called `but`, or it does not fit.
    """
    files = [file for file in folder.glob("*.safetensors") if file.name != but]
    if len(files) != 1:
        raise UserError(f"{folder} holds {len(files)} weight files (*.safetensors), not one. Was it saved whole?")
    load_trainable_state(model, load_file(files[0]))


def _lora(model: nn.Module, backbone: Backbone, params: Params) -> nn.Module:
    alpha = params.alpha_value
    named = _targets(model, backbone, params.layers)
    targets = _in_last(params.blocks, named, model, backbone, params.layers)
    config = LoraConfig(
        r=params.rank,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,  # type: ignore[arg-type]  # peft only divides by it
        lora_dropout=params.dropout,
        target_modules=targets,
        modules_to_save=list(backbone.heads),
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
    if params.layers in backbone.targets and isinstance(named, list):
        _refuse_part(wrapped, backbone, named, params)
    _refuse_lost_dropout(wrapped, params)
    # peft writes this into adapter_config.json; a model that was built here has no name of its own.
    config.base_model_name_or_path = shown(backbone.name)
    return wrapped


def _targets(model: nn.Module, backbone: Backbone, layers: str) -> list[str] | str:
    if layers in backbone.targets:
        return backbone.targets[layers]
    names = [name.strip() for name in layers.split(",")]
    modules = [f".{name}" for name, _ in model.named_modules()]
    if not all(any(module.endswith(f".{name}") for module in modules) for name in names):
        raise UserError(_no_layers(model, backbone, layers))
    if heads := [name for name in names if any(f".{head}".endswith(f".{name}") for head in backbone.heads)]:
        raise UserError(
            f"params.layers '{layers}': '{heads[0]}' is the head of {backbone.name}, which trains whole beside the "
            "adapter. Name other layers, or use method: probe to train the head alone."
        )
    return names


def _in_last(
    blocks: int | None, targets: list[str] | str, model: nn.Module, backbone: Backbone, layers: str
) -> list[str] | str:
    """Of `targets` those in the last `blocks` blocks, by their whole names; all where there are no more blocks."""
    known = transformer_blocks(model)
    if blocks is None or blocks == len(known):
        return targets
    if blocks > len(known):
        raise UserError(
            f"params.blocks is {blocks}, and {backbone.name} has {len(known)} blocks. Use 1 to {len(known)}; without "
            "it all have adapters."
        )
    ends = targets if isinstance(targets, str) else rf"(.*\.)?({'|'.join(map(re.escape, targets))})"
    names = [name for name, _ in model.named_modules() if re.fullmatch(ends, name) and within(name, known[-blocks:])]
    if not names:
        raise UserError(
            f"params.layers '{layers}' names nothing in the last {blocks} of {len(known)} blocks of {backbone.name}. "
            "Use more blocks, or other layers."
        )
    return names


def _no_layers(model: nn.Module, backbone: Backbone, layers: str) -> str:
    """Why `layers` is nothing to adapt, and what there is."""
    place = f"params.layers '{layers}' of {backbone.name}"
    body = [name for name in _linears(model) if not within(name, backbone.heads)]
    if not backbone.targets and not body:
        return (
            f"{place}: it has no linear layer but its head, as convolutional networks have none, and no adapter fits. "
            "Use methods fft or probe, or a transformer."
        )
    known = unknown(place, layers, backbone.targets) if backbone.targets else f"{place}: it has no attention."
    endings = _some(map(ending, body), 8)
    return f"{known} Or name endings of its modules, separated by commas; its linear ones: {endings}."


def _refuse_part(model: nn.Module, backbone: Backbone, targets: list[str], params: Params) -> None:
    """Some families mix kinds of attention (convit, twins, volo, xcit): an option must reach all of its blocks."""
    asked = transformer_blocks(model)[-params.blocks :] if params.blocks else attention_blocks(model)
    reached = {block: adapted for block, adapted in _reached(model).items() if within(block, asked)}
    missed = [block for block, adapted in reached.items() if not adapted]
    if missed:
        ends = [ending(name) for name in _linears(model) if within(name, missed)]
        raise UserError(
            f"params.layers '{params.layers}' reaches {len(reached) - len(missed)} of {len(reached)} attention blocks "
            f"of {backbone.name}; not {_some(map(_layer, missed))}. Name the layers yourself: '{','.join(targets)}' "
            f"for those alone, or more of: {_some([*targets, *ends], 12)}."
        )


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
    moves weights that must not move. Here only the forward pass sees the sum. Its merge adds the update of
    the output projection twice (0.21), and its gradient once; so that a saved folder means the same to plain peft,
    it is twice here too, gradient included. If peft changes this, `check_effect` fails.
    """

    def forward(self, query: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.disable_adapters or self.merged:
            return super().forward(query, *args, **kwargs)
        base: Any = self.get_base_layer()
        inward, outward = base.in_proj_weight, base.out_proj.weight
        for name in self.active_adapters:
            inward = inward + self.get_delta_weight(name)
            outward = outward + 2 * base.out_proj.get_delta_weight(name)
        summed = {"in_proj_weight": inward, "out_proj.base_layer.weight": outward}
        return functional_call(base, summed, (query, *args), kwargs)


def _twin(model: PeftModel) -> PeftModel:
    """A float64 copy in evaluation mode, in which nothing is hidden."""
    wide: dict[int, Any] = {id(p): nn.Parameter(p.to(torch.float64, copy=True)) for p in model.parameters()}
    twin = copy.deepcopy(model, wide).double().eval()  # of each weight one copy, not two
    weights.reveal(twin)
    return twin


def adapted_layers(model: PeftModel) -> dict[str, Any]:
    """The outermost adapted layers by name: fused attention owns its output projection's adapter."""
    layers: dict[str, Any] = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and not within(name, layers):
            layers[name] = module
    return layers


def _linears(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def _layer(parameter: str) -> str:
    """`base_model.model.blocks.0.attn.qkv.lora_A.default.weight` -> `blocks.0.attn.qkv`."""
    return parameter.removeprefix("base_model.model.").split(".lora_")[0].split(".modules_to_save")[0]


def _some(names: Iterable[str], shown: int = 4) -> str:
    return ", ".join(few(dict.fromkeys(names), shown))
