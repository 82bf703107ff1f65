"""The METHODS table: what is trained, by which objective, and which scoped parameters that takes.

A newcomer is one file with a function `objective` (or `refit`), and one line in the table. The table itself does not
load torch, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainables.table import Code, Table

_LORA = ("rank", "alpha", "layers", "dropout", "variant")
_BALANCED: Literal["group-balanced"] = "group-balanced"


@dataclass(frozen=True)
class Component(Code):
    """A function that a method is made of, and the scoped parameters that it reads."""

    params: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """One way to fine-tune: the weights that move, and the objective that they follow.

    `objective` is the factory of a `base.Objective`, called with `params`, `groups` (`GroupInfo`) and `reduction`.
    `sampler` is set where drawing the batches so belongs to the algorithm; None leaves it to `train.sampler`.
    `refit` fits the last layer once more after the last epoch, on one half of the validation split (see
    `base.LastLayer`); such a method is measured on the other half.
    """

    adapter: Literal["lora", "full", "head"]
    objective: Component
    source: str
    sampler: Literal["group-balanced"] | None = None
    refit: Component | None = None

    @property
    def params(self) -> tuple[str, ...]:
        """The scoped parameters that the method has."""
        of_refit = self.refit.params if self.refit else ()
        return (*self.objective.params, *of_refit, *(_LORA if self.adapter == "lora" else ()))

    @property
    def fair(self) -> bool:
        """Whether a fairness term with a weight lambda is part of the objective."""
        return "lambda" in self.params


ERM = Component("trainables.methods.erm:objective")
VARIANCE = Component("trainables.methods.variance:objective", ("lambda",))
GROUP_DRO = Component("trainables.methods.groupdro:objective", ("eta",))
REWEIGHT = Component("trainables.methods.reweight:objective")
DFR = Component("trainables.methods.dfr:refit", ("l1",))

METHODS = Table(
    "methods",
    Method,
    {
        "lora": Method("lora", ERM, "Hu et al. 2021; FairLoRA, section 3"),
        "fairlora": Method("lora", VARIANCE, "FairLoRA, section 4.1"),
        "fft": Method("full", ERM, "FairLoRA, section 6.1"),
        "fairfft": Method("full", VARIANCE, "FairLoRA, section 6.1"),
        "lora-groupdro": Method("lora", GROUP_DRO, "Sagawa et al. 2020, algorithm 1", _BALANCED),
        "fft-groupdro": Method("full", GROUP_DRO, "Sagawa et al. 2020, algorithm 1", _BALANCED),
        "lora-reweight": Method("lora", REWEIGHT, "Shimodaira 2000; Sagawa et al. 2020, section 4"),
        "fft-reweight": Method("full", REWEIGHT, "Shimodaira 2000; Sagawa et al. 2020, section 4"),
        "lora-balanced": Method("lora", ERM, "Idrissi et al. 2022, RWG", _BALANCED),
        "fft-balanced": Method("full", ERM, "Idrissi et al. 2022, RWG", _BALANCED),
        "probe": Method("head", ERM, "Alain and Bengio 2016"),
        "lora-dfr": Method("lora", ERM, "Kirichenko et al. 2023, section 4", refit=DFR),
        "fft-dfr": Method("full", ERM, "Kirichenko et al. 2023, section 4", refit=DFR),
    },
    place="method",
)
