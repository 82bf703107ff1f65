"""The METHODS table: what is trained, by which objective, and which scoped parameters that takes.

A newcomer is one file here with a function `objective`, and one line in the table. The table itself
does not load torch, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

_LORA = ("rank", "alpha", "layers", "dropout", "variant")
_BALANCED: Literal["group-balanced"] = "group-balanced"


@dataclass(frozen=True)
class Method:
    """One way to fine-tune: the weights that move, the objective they follow, the scoped parameters it has.

    `sampler` is set where drawing the batches so belongs to the algorithm; None leaves it to `train.sampler`.
    `refit` is the module that fits the last layer anew after the last epoch, on one half of the validation
    split; such a method is measured on the other half.
    """

    adapter: Literal["lora", "full", "head"]
    objective: str
    params: tuple[str, ...]
    source: str
    sampler: Literal["group-balanced"] | None = None
    refit: str | None = None

    @property
    def fair(self) -> bool:
        """Whether a fairness term with a weight lambda is part of the objective."""
        return "lambda" in self.params

    def load(self) -> Callable[..., Any]:
        """The objective's factory, called with `params`, `groups` (`GroupInfo`) and `reduction`; loads torch."""
        return _function(self.objective, "objective")

    def load_refit(self) -> Callable[..., Any] | None:
        """The function that fits the last layer anew, of methods that do."""
        return _function(self.refit, "refit") if self.refit else None


METHODS: dict[str, Method] = {
    "lora": Method("lora", "erm", _LORA, "Hu et al. 2021; FairLoRA, section 3"),
    "fairlora": Method("lora", "variance", ("lambda", *_LORA), "FairLoRA, section 4.1"),
    "fft": Method("full", "erm", (), "FairLoRA, section 6.1"),
    "fairfft": Method("full", "variance", ("lambda",), "FairLoRA, section 6.1"),
    "lora-groupdro": Method("lora", "groupdro", ("eta", *_LORA), "Sagawa et al. 2020, algorithm 1", _BALANCED),
    "fft-groupdro": Method("full", "groupdro", ("eta",), "Sagawa et al. 2020, algorithm 1", _BALANCED),
    "lora-reweight": Method("lora", "reweight", _LORA, "Shimodaira 2000; Sagawa et al. 2020, section 4"),
    "fft-reweight": Method("full", "reweight", (), "Shimodaira 2000; Sagawa et al. 2020, section 4"),
    "lora-balanced": Method("lora", "erm", _LORA, "Idrissi et al. 2022, RWG", _BALANCED),
    "fft-balanced": Method("full", "erm", (), "Idrissi et al. 2022, RWG", _BALANCED),
    "probe": Method("head", "erm", (), "Alain and Bengio 2016"),
    "lora-dfr": Method("lora", "erm", ("l1", *_LORA), "Kirichenko et al. 2023, section 4", refit="dfr"),
    "fft-dfr": Method("full", "erm", ("l1",), "Kirichenko et al. 2023, section 4", refit="dfr"),
}


def _function(module: str, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return function
