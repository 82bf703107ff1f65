"""The last layer fitted once more after training, for methods that do so: features of held-out data in, weights out.

Half of the validation split is fitted on, the other half is left to be measured on.

Shapes: N examples of the validation split, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables import adapters
from trainables.arrays import Floats
from trainables.data.splitting import half_of_each_cell
from trainables.errors import UserError
from trainables.methods import METHODS
from trainables.training.batches import derived
from trainables.training.fit import Fit
from trainables.training.samples import Samples


def refit_head(fit: Fit, head: str, validation: Samples) -> dict[str, float]:
    """Fit the layer called `head` once more, if the fit's method does so; nothing else of the model changes.

    Returns:
        What the refit says of itself, for the log; nothing where there is none.

    Raises:
        FitError: `bad-data` where the held-out half lacks a class.
        UserError: the head is not one linear layer.
    """
    refit = METHODS[fit.params.method].refit
    if refit is None:
        return {}
    layer = trained_head(fit.model, head)
    labels_N = validation.labels_N.cpu().numpy()
    # The half that `measured` leaves out, or the method would be measured on what it was fitted to.
    held_out_N = half_of_each_cell(labels_N, validation.groups.index_N)
    last_layer = refit.load()(
        _features(fit, layer, validation)[held_out_N],
        labels_N[held_out_N],
        validation.groups.index_N[held_out_N],
        C=layer.out_features,
        params=fit.params,
        seed=derived(fit.seed, fit.epoch, "refit"),
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(last_layer.weight_CF))
        layer.bias.copy_(torch.from_numpy(last_layer.bias_C))
    return dict(last_layer.log)


def trained_head(model: nn.Module, name: str) -> nn.Linear:
    """The head that trains: under LoRA peft keeps it beside the original.

    Raises:
        UserError: it is not one linear layer with a bias.
    """
    layer = adapters.trained_module(model, name)
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise UserError(f"the head '{name}' is {type(layer).__name__}, and a refit needs one linear layer with a bias.")
    return layer


def _features(fit: Fit, layer: nn.Linear, samples: Samples) -> Floats:
    """What goes into the layer, `[N, F]`, without dropout."""
    parts: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0].double()))
    try:
        fit.log_probs(samples)  # for what the hook sees; the answers themselves are not needed
    finally:
        handle.remove()
    features_NF: Floats = torch.cat(parts).cpu().numpy()
    return features_NF
