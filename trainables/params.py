"""Every parameter of a fine-tuning: name, type, default, usual range, unit, source; and `Params`, one point of them.

Those that every method has are declared here; `lambda`, `rank` and the like beside the method that has them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from trainables.errors import UserError
from trainables.methods import ALPHA_RULE, METHODS, Method
from trainables.options import Chosen, Param
from trainables.table import Table

METHOD = Param("method", str, "fairlora", "how the model is fine-tuned", "FairLoRA, section 6.1", choices=METHODS)
SHARED = (
    Param(
        "learning_rate",
        Annotated[float, Field(gt=0)],
        1e-4,
        "peak of the one-cycle schedule",
        "On Fairness of LoRA, appendix",
        "per step",
        1e-5,
        1e-2,
        log=True,
    ),
    Param(
        "weight_decay",
        Annotated[float, Field(ge=0)],
        0.01,
        "decoupled weight decay of AdamW",
        "AdamW, section 2",
        "per step",
        1e-4,
        1e-1,
        log=True,
    ),
    Param(
        "epochs",
        Annotated[int, Field(ge=1)],
        8,
        "passes over the training split",
        "On Fairness of LoRA, appendix",
        "epochs",
        1,
        30,
        log=True,
    ),
    Param(
        "batch_size",
        Annotated[int, Field(ge=1)],
        32,
        "examples in a step",
        "On Fairness of LoRA, appendix",
        "examples",
        choices=(16, 32, 64, 128),
    ),
)


class Params(Chosen):
    """One point of the space: the settings in which one fine-tuning differs from the next.

    `params.rank`, and `params["lambda"]` where Python has another use for the word.
    """

    method: str = METHOD.default

    key: ClassVar[str] = "method"

    @classmethod
    def table(cls) -> Table[Method]:
        return METHODS

    @classmethod
    def of_line(cls, line: Method) -> tuple[Param, ...]:
        return (*line.params, *SHARED)

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        if value not in METHODS:
            raise ValueError(METHODS.hint(value))
        return value

    def __getitem__(self, name: str) -> Any:
        """The parameter `name`."""
        return getattr(self, name)

    @property
    def alpha_value(self) -> float:
        """The number that the alpha rule gives at this rank."""
        match = ALPHA_RULE.match(self.alpha)
        assert match is not None  # its type has seen to that
        return float(match[1]) * (self.rank if match[2] else 1)

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> Params:
        """From the flat names of a sweep (`lambda`, `rank`, ...); what is left out takes its default."""
        return cls.model_validate(flat)

    def to_flat(self) -> dict[str, Any]:
        """Under the names of the sweep, in the order of `PARAMS`; without what is None."""
        own = {p.name: self[p.name] for p in self.of_line(METHODS[self.method])}
        return {"method": self.method, **{name: value for name, value in own.items() if value is not None}}


class _All(Mapping[str, Param]):
    """Every parameter by its name: the method, what built-in methods have, what all have, what plug-ins add.

    Raises:
        UserError: methods mean different parameters by one name.
    """

    def __getitem__(self, name: str) -> Param:
        (line, param), *others = self._declared[name].items()
        for other, same in others:
            if same is not param:
                raise UserError(
                    f"the parameter '{name}' is declared by method {self._origin(line)} and, differently, by "
                    f"{self._origin(other)}. Uninstall one of them, or let one choose another name."
                )
        return param

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)

    @functools.cached_property
    def _declared(self) -> dict[str, dict[str, Param]]:
        """Name -> method -> what it declares."""
        found: dict[str, dict[str, Param]] = {"method": {"": METHOD}}
        own = [(name, param) for name, method in METHODS.built_in.items() for param in method.own]
        ours = [(name, param) for name, method in METHODS.built_in.items() for param in method.params]
        shared = [("", param) for param in SHARED]
        all_of_them = [(name, param) for name, method in METHODS.sound.items() for param in method.params]
        for name, param in [*own, *ours, *shared, *all_of_them]:
            found.setdefault(param.name, {})[name] = param
        return found

    def _origin(self, line: str) -> str:
        return f"'{line}' of {METHODS.origin(line)}" if line else "sweeper, for all methods,"


PARAMS: Mapping[str, Param] = _All()


def exists(name: str, method: str) -> bool:
    """Whether parameter `name` has a meaning for `method`."""
    return name == "method" or any(param.name == name for param in (*SHARED, *METHODS[method].params))
