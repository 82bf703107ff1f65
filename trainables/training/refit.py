"""The last layer fitted anew after training, for methods that do: features of held-out data in, weights into the head.

Half of the validation split is fitted on, the other half is left to be measured on.

Shapes: N examples of the validation split, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from trainables.data.base import Groups, Ints
from trainables.errors import UserError
from trainables.methods import METHODS
from trainables.training.batches import derived
from trainables.training.fit import Fit
from trainables.training.samples import Samples


def measured(method: str, split: str, labels_N: Ints, groups: Groups) -> Ints:
    """The rows of `split` that `method` may be measured on: all, but for what refits its last layer."""
    rows = np.arange(len(labels_N))
    if split != "val" or METHODS[method].refit is None:
        return rows
    return rows[~_held_out(labels_N, groups)]


def refit_head(fit: Fit, head: str, validation: Samples) -> dict[str, float]:
    """Fit the layer called `head` anew, if the fit's method does so; nothing else of the model changes.

    Returns:
        `refit_examples` in each balanced subset, and `refit_iterations` of the solver.

    Raises:
        FitError: `bad-data` where the held-out half lacks a class.
        UserError: the head is not one linear layer.
    """
    refit = METHODS[fit.params.method].load_refit()
    if refit is None:
        return {}
    layer = trained_head(fit.model, head)
    labels_N = validation.labels_N.cpu().numpy()
    held_out_N = _held_out(labels_N, validation.groups)
    found = refit(
        _features(fit, layer, validation)[held_out_N],
        labels_N[held_out_N],
        validation.groups.index_N[held_out_N],
        C=layer.out_features,
        l1=fit.params.l1,
        seed=derived(fit.seed, fit.epoch, "refit"),
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(found.weight_CF))
        layer.bias.copy_(torch.from_numpy(found.bias_C))
    return {"refit_examples": float(found.examples), "refit_iterations": found.iterations}


def trained_head(model: nn.Module, name: str) -> nn.Linear:
    """The head that trains: under LoRA peft keeps it beside the original.

    Raises:
        UserError: it is not one linear layer with a bias.
    """
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    layer = inner.get_submodule(name)
    if isinstance(layer, ModulesToSaveWrapper):
        (layer,) = layer.modules_to_save.values()
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise UserError(f"the head '{name}' is {type(layer).__name__}, and a refit needs one linear layer with a bias.")
    return layer


def _features(fit: Fit, layer: nn.Linear, samples: Samples) -> npt.NDArray[np.float64]:
    """What goes into the layer, `[N, F]`, without dropout."""
    parts: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0].double()))
    try:
        fit.log_probs(samples)
    finally:
        handle.remove()
    features_NF: npt.NDArray[np.float64] = torch.cat(parts).cpu().numpy()
    return features_NF


def _held_out(labels_N: Ints, groups: Groups) -> npt.NDArray[np.bool_]:
    from trainables.methods.dfr import held_out_half  # loads scikit-learn, which only a refit needs

    return held_out_half(labels_N, groups.index_N)
