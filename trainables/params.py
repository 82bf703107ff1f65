"""Every parameter of a fine-tuning, once: name, type, default, usual range, unit, source.

A parameter that is `scoped` exists only where the method lists it (`lambda` for the fair methods,
`rank` for the LoRA ones); the others exist always.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from trainables.methods import METHODS

ALPHA_RULE = re.compile(r"^(\d+(?:\.\d+)?)(\*rank)?$")


@dataclass(frozen=True)
class Param:
    """One parameter, for the tables, the space and the documentation: `low` to `high` is its usual range."""

    doc: str
    source: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: Collection[Any] = ()
    scoped: bool = False


class Params(BaseModel):
    """One point of the space: the settings in which one fine-tuning differs from the next."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    method: Annotated[str, Param("how the model is fine-tuned", "FairLoRA, section 6.1", choices=METHODS)] = "fairlora"
    lambda_: Annotated[
        float,
        Param("weight of the fairness penalty", "FairLoRA, section 4.1", low=0.01, high=100, log=True, scoped=True),
    ] = Field(default=1.0, alias="lambda", ge=0)
    eta: Annotated[
        float,
        Param(
            "step size of the groups' weights",
            "Sagawa et al. 2020, algorithm 1",
            low=1e-3,
            high=1e-1,
            log=True,
            scoped=True,
        ),
    ] = Field(default=0.01, ge=0)
    l1: Annotated[
        float,
        Param(
            "weight of the L1 penalty when the last layer is refitted; 1 / C of scikit-learn",
            "Kirichenko et al. 2023, appendix B",
            low=1,
            high=100,
            log=True,
            scoped=True,
        ),
    ] = Field(default=1.0, gt=0)
    rank: Annotated[
        int, Param("rank of the LoRA update", "FairLoRA, section 6.1", low=4, high=128, log=True, scoped=True)
    ] = Field(default=8, ge=1)
    alpha: Annotated[
        str,
        Param(
            "LoRA's alpha: a number, or a multiple of the rank such as '2*rank'",
            "LoRA, section 4.1",
            choices=("16", "2*rank"),
            scoped=True,
        ),
    ] = "2*rank"
    layers: Annotated[
        str,
        Param(
            "which layers carry an adapter",
            "LoRA, section 4.2",
            choices=("qkv", "attention", "attention+mlp"),
            scoped=True,
        ),
    ] = "qkv"
    dropout: Annotated[
        float, Param("dropout on the adapter's input", "peft, LoraConfig", low=0.0, high=0.5, scoped=True)
    ] = Field(default=0.0, ge=0, lt=1)
    variant: Annotated[
        Literal["lora", "rslora", "dora"],
        Param(
            "plain LoRA, its update scaled by alpha / sqrt(rank), or with the weights' sizes learnt apart",
            "rsLoRA, section 3; DoRA, section 4",
            choices=("lora", "rslora", "dora"),
            scoped=True,
        ),
    ] = "lora"
    learning_rate: Annotated[
        float,
        Param("peak of the one-cycle schedule", "On Fairness of LoRA, appendix", "per step", 1e-5, 1e-2, log=True),
    ] = Field(default=1e-4, gt=0)
    weight_decay: Annotated[
        float, Param("decoupled weight decay of AdamW", "AdamW, section 2", "per step", 1e-4, 1e-1, log=True)
    ] = Field(default=0.01, ge=0)
    epochs: Annotated[
        int, Param("passes over the training split", "On Fairness of LoRA, appendix", "epochs", 1, 30, log=True)
    ] = Field(default=8, ge=1)
    batch_size: Annotated[
        int, Param("examples in a step", "On Fairness of LoRA, appendix", "examples", choices=(16, 32, 64, 128))
    ] = Field(default=32, ge=1)

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        if value not in METHODS:
            raise ValueError(METHODS.hint(value))
        return value

    @field_validator("alpha", mode="before")
    @classmethod
    def _alpha_rule(cls, value: object) -> str:
        text = f"{value:g}" if isinstance(value, (int, float)) else str(value).replace(" ", "")
        if not ALPHA_RULE.match(text):
            raise ValueError(f"'{value}' is not an alpha rule. Use a number such as 16, or '2*rank'")
        return text

    @property
    def alpha_value(self) -> float:
        """The number that the alpha rule gives at this rank."""
        match = ALPHA_RULE.match(self.alpha)
        assert match is not None  # `_alpha_rule` has seen to that
        return float(match[1]) * (self.rank if match[2] else 1)

    @classmethod
    def from_flat(cls, flat: dict[str, Any]) -> Params:
        """From the flat names of a sweep (`lambda`, `rank`, ...); names that the method lacks take defaults."""
        return cls.model_validate(flat)

    def to_flat(self) -> dict[str, Any]:
        """Only what exists for this method, under the names of the sweep."""
        return {name: value for name, value in self.model_dump(by_alias=True).items() if exists(name, self.method)}


PARAMS: dict[str, Param] = {
    info.alias or name: next(item for item in info.metadata if isinstance(item, Param))
    for name, info in Params.model_fields.items()
}


def exists(name: str, method: str) -> bool:
    """Whether parameter `name` has a meaning for `method`."""
    return not PARAMS[name].scoped or name in METHODS[method].params
