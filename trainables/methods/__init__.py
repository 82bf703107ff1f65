"""The METHODS table: what is trained, by which objective, and which parameters of its own that takes.

A newcomer is one file with a function `objective` (or `refit`), and one line in the table, which declares its own
parameters too. The table itself does not load torch, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trainables.options import Param
from trainables.table import Code, Table

ALPHA_RULE = re.compile(r"^(\d+(?:\.\d+)?)(\*rank)?$")


def _alpha_rule(value: object) -> str:
    text = f"{value:g}" if isinstance(value, (int, float)) else str(value).replace(" ", "")
    if not ALPHA_RULE.match(text):
        raise ValueError(f"'{value}' is not an alpha rule. Use a number such as 16, or '2*rank'")
    return text


WIDEST = 8192  # features of the widest layers that are adapted: no update has a higher rank
_LORA = (
    Param(
        "rank",
        Annotated[int, Field(ge=1, le=WIDEST)],
        8,
        "rank of the LoRA update",
        "FairLoRA, section 6.1",
        low=4,
        high=128,
        log=True,
        searched=True,
        symbol="r",
    ),
    Param(
        "alpha",
        Annotated[str, BeforeValidator(_alpha_rule)],
        "2*rank",
        "LoRA's alpha: a number, or a multiple of the rank such as '2*rank'",
        "LoRA, section 4.1",
        choices=("16", "2*rank"),
    ),
    Param(
        "layers",
        str,
        "qkv",
        "which layers carry an adapter",
        "LoRA, section 4.2",
        choices=("qkv", "attention", "attention+mlp"),
    ),
    Param(
        "dropout",
        Annotated[float, Field(ge=0, lt=1)],
        0.0,
        "dropout on the adapter's input",
        "peft, LoraConfig",
        low=0.0,
        high=0.5,
    ),
    Param(
        "variant",
        Literal["lora", "rslora", "dora"],
        "lora",
        "plain LoRA, its update scaled by alpha / sqrt(rank), or with the weights' sizes learnt apart",
        "rsLoRA, section 3; DoRA, section 4",
        choices=("lora", "rslora", "dora"),
    ),
    Param(
        "blocks",
        Annotated[int, Field(ge=1)],
        None,
        "adapters in the last so many transformer blocks alone; none: in all",
        "Lee et al. 2019, What Would Elsa Do?",
        "blocks",
        symbol="b",
    ),
)
_BALANCED: Literal["group-balanced"] = "group-balanced"


@dataclass(frozen=True)
class Component(Code):
    """A function that a method is made of, and the parameters of its own that it reads, with their usual ranges.

    `overlapping`: its groups may overlap (see `base.GroupInfo`).
    """

    params: tuple[Param, ...] = ()
    overlapping: bool = False


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
    def params(self) -> tuple[Param, ...]:
        """The parameters of its own that the method has, beside those that all have."""
        return (*self.own, *(_LORA if self.adapter == "lora" else ()))

    @property
    def own(self) -> tuple[Param, ...]:
        """Those of its objective and of its refit."""
        return (*self.objective.params, *(self.refit.params if self.refit else ()))

    @property
    def overlapping(self) -> bool:
        """Whether the groups may overlap: no batch is balanced by them, and no layer refitted on a balance of them."""
        return self.objective.overlapping and self.sampler is None and self.refit is None

    @property
    def fair(self) -> bool:
        """Whether a fairness term with a weight lambda is part of the objective."""
        return any(param.name == "lambda" for param in self.params)


LAMBDA = Param(
    "lambda",
    Annotated[float, Field(ge=0)],
    1.0,
    "weight of the fairness penalty",
    "FairLoRA, section 4.1",
    low=0.01,
    high=100,
    log=True,
    searched=True,
    symbol="λ",
)
ETA = Param(
    "eta",
    Annotated[float, Field(ge=0)],
    0.01,
    "step size of the groups' weights",
    "Sagawa et al. 2020, algorithm 1",
    low=1e-3,
    high=1e-1,
    log=True,
)
L1 = Param(
    "l1",
    Annotated[float, Field(gt=0)],
    1.0,
    "weight of the L1 penalty when the last layer is refitted; 1 / C of scikit-learn",
    "Kirichenko et al. 2023, appendix B",
    low=1,
    high=100,
    log=True,
)
ERM = Component("trainables.methods.erm:objective", overlapping=True)
VARIANCE = Component("trainables.methods.variance:objective", (LAMBDA,), overlapping=True)
GROUP_DRO = Component("trainables.methods.groupdro:objective", (ETA,))
REWEIGHT = Component("trainables.methods.reweight:objective")
DFR = Component("trainables.methods.dfr:refit", (L1,))

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
