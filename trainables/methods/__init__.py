"""The METHODS table: what is trained, by which objective, and which scoped parameters that takes.

A newcomer is one file here with a function or class `objective`, and one line in the table. The
table itself does not load torch, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

_LORA = ("rank", "alpha", "layers", "dropout", "variant")


@dataclass(frozen=True)
class Method:
    """One way to fine-tune: the weights that move, and the objective they follow."""

    adapter: Literal["lora", "full", "head"]
    objective: str
    params: tuple[str, ...]
    source: str

    @property
    def fair(self) -> bool:
        """Whether a fairness term with a weight lambda is part of the objective."""
        return "lambda" in self.params

    def load(self) -> Callable[..., Any]:
        """The objective's factory; loads torch."""
        module = importlib.import_module(f"{__name__}.{self.objective}")
        factory: Callable[..., Any] = module.objective
        return factory


METHODS: dict[str, Method] = {
    "lora": Method("lora", "erm", _LORA, "Hu et al. 2021; FairLoRA, section 3"),
    "fairlora": Method("lora", "variance", ("lambda", *_LORA), "FairLoRA, section 4.1"),
    "fft": Method("full", "erm", (), "FairLoRA, section 6.1"),
    "fairfft": Method("full", "variance", ("lambda",), "FairLoRA, section 6.1"),
}
