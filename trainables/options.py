"""Settings that a line of a table declares for itself, beside those that all lines of its table have."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

ELSEWHERE = "option_elsewhere"  # the type of the error of an option that belongs to another line


@dataclass(frozen=True, eq=False)
class Option:
    """A setting of one line of a table. `kind` is the type that pydantic checks, with its bounds. Lines may share one.

    >>> Option("ratio", Annotated[float, Field(gt=0)], 1.0, "width over height")   # doctest: +SKIP
    """

    name: str
    kind: Any
    default: Any
    doc: str

    @functools.cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Checks a value, and gives it back as the option's own type."""
        return TypeAdapter(self.kind)

    def is_default(self, value: object) -> bool:
        """Whether `value`, as a spec writes it, is the default."""
        try:
            return value == self.default or bool(self.adapter.validate_python(value) == self.default)
        except ValidationError:
            return False


@dataclass(frozen=True, eq=False)
class Param(Option):
    """A parameter of a fine-tuning, which a sweep may search: `low` to `high` is its usual range.

    `searched`: a sweep that says nothing of it searches that range; else it is the default. `symbol` is what names of
    trials call a parameter that is searched.
    """

    source: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: Collection[Any] = ()
    searched: bool = False
    symbol: str = ""


class Chosen(BaseModel):
    """Settings of one line of a table: those that all lines have are fields, its own are options that it declares.

    In YAML, and as attributes, both look alike. A subclass says whose options there are.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def options(cls, written: Mapping[str, Any]) -> Sequence[Option] | None:
        """The options of the line that is written; None where there is no such line."""
        raise NotImplementedError

    @classmethod
    def owners(cls) -> Iterable[tuple[str, Option]]:
        """Every option of every line, with the line's name."""
        raise NotImplementedError

    @classmethod
    def known(cls) -> list[str]:
        """Every setting that some line has."""
        return list(dict.fromkeys([*cls.model_fields, *(option.name for _, option in cls.owners())]))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """An option of the line."""

    @model_validator(mode="wrap")
    @classmethod
    def _with_its_own(cls, written: Any, handler: ModelWrapValidatorHandler[Chosen]) -> Chosen:
        if not isinstance(written, Mapping) or (options := cls.options(written)) is None:
            return handler(written)
        shared = {name: value for name, value in written.items() if name in cls.model_fields}
        names = {option.name for option in options}
        strange = written.keys() - shared.keys() - names
        faults = [fault for name in strange if (fault := cls._stranger(name, written[name]))]
        own: dict[str, Any] = {}
        try:
            own = dict(_strict(tuple(options)).model_validate({name: written[name] for name in names & written.keys()}))
        except ValidationError as error:
            faults += map(_again, error.errors(include_url=False))
        try:
            made = handler(shared | own)
        except ValidationError as error:
            faults += map(_again, error.errors(include_url=False))
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return made

    @classmethod
    def _stranger(cls, name: str, value: object) -> InitErrorDetails | None:
        """What is wrong with a setting that the line lacks: nothing, if it is another line's default."""
        owners = {line: option for line, option in cls.owners() if option.name == name}
        if any(option.is_default(value) for option in owners.values()):  # specs of older releases say it
            return None
        if not owners:
            return InitErrorDetails(type="extra_forbidden", loc=(name,), input=value)
        kind = PydanticCustomError(ELSEWHERE, "is for {owners}", {"owners": ", ".join(owners)})
        return InitErrorDetails(type=kind, loc=(name,), input=value)


def _again(entry: Any) -> InitErrorDetails:
    return InitErrorDetails(type=entry["type"], loc=entry["loc"], input=entry["input"], ctx=entry.get("ctx", {}))


@functools.lru_cache(maxsize=256)
def _strict(options: tuple[Option, ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {each.name: (each.kind, Field(each.default, description=each.doc)) for each in options}
    return create_model("Options", __config__=ConfigDict(extra="forbid", frozen=True), **fields)
