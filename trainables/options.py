"""Settings that a line of a table declares for itself, beside those that all lines of its table have."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from trainables.table import Table

ELSEWHERE = "option_elsewhere"  # the type of the error of an option that belongs to another line


def says(mending: str) -> WrapValidator:
    """One sentence for whatever is wrong with a field, in place of pydantic's one per member of a union."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(mending) from None

    return WrapValidator(check)


@dataclass(frozen=True, eq=False)
class Option:
    """A setting of one line of a table. `kind` is the type that pydantic checks, with its bounds. Lines may share one.

    `default` may be a function of what the section says beside it, a mapping. One that only says `where` files lie is
    no part of what makes trials comparable. `before` is what held before there was the option; None: its default.

    >>> Option("ratio", Annotated[float, Field(gt=0)], 1.0, "width over height")   # doctest: +SKIP
    """

    name: str
    kind: Any
    default: Any
    doc: str
    where: bool = field(default=False, kw_only=True)
    before: Any = field(default=None, kw_only=True)

    @functools.cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Checks a value, and gives it back as the option's own type."""
        return TypeAdapter(self.kind)

    def default_for(self, section: Mapping[str, Any]) -> Any:
        """The default in a section that says this beside it."""
        return self.default(section) if callable(self.default) else self.default

    def is_default(self, value: object) -> bool:
        """Whether `value`, as a spec writes it, is the default, or nothing."""
        try:
            return value in (None, self.default) or bool(self.adapter.validate_python(value) == self.default)
        except ValidationError:
            return False


@dataclass(frozen=True, eq=False)
class Param(Option):
    """A parameter of a fine-tuning, which a sweep may search: `low` to `high` is its usual range.

    `searched`: a sweep that says nothing of it searches that range; else it is the default. `symbol` is what names of
    trials call it. A default of None: it is no part of a point that does not say it.
    """

    source: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: Collection[Any] = ()
    searched: bool = False
    symbol: str = ""

    @property
    def whole(self) -> bool:
        """Whether it is a whole number."""
        return self.adapter.json_schema().get("type") == "integer"


class Chosen(BaseModel):
    """Settings of one line of a table: those that all lines have are fields, its own are options that it declares.

    In YAML, and as attributes, both look alike. A subclass says which `table` its lines are of, and by which `key`.
    """

    key: ClassVar[str] = "name"
    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def table(cls) -> Table[Any]:
        """The table; a function, because tables import the sections that their loaders take."""
        raise NotImplementedError

    @classmethod
    def of_line(cls, line: Any) -> Sequence[Option]:
        """The options of a line."""
        options: Sequence[Option] = line.options
        return options

    @classmethod
    def options(cls, written: Mapping[str, Any]) -> Sequence[Option] | None:
        """The options of the line that is written; None where there is no such line."""
        name, table = written.get(cls.key, cls.model_fields[cls.key].default), cls.table()
        return cls.of_line(table[name]) if name in table else None

    @classmethod
    def owners(cls) -> list[tuple[str, Option]]:
        """Every option of every line, with the line's name."""
        return [(name, option) for name, line in cls.table().sound.items() for option in cls.of_line(line)]

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
        line = written.get(cls.key, cls.model_fields[cls.key].default)
        shared = {name: value for name, value in written.items() if name in cls.model_fields}
        names = {option.name for option in options}
        strange = written.keys() - shared.keys() - names
        faults = [fault for name in strange if (fault := cls._stranger(name, written[name], line))]
        given = {name: written[name] for name in names & written.keys() if written[name] is not None}
        own = {option.name: option.default_for(written) for option in options if callable(option.default)} | given
        try:
            own = dict(_strict(tuple(options)).model_validate(own))
        except ValidationError as error:
            faults += map(_again, error.errors(include_url=False))
        try:
            made = handler(shared | own)
        except ValidationError as error:
            faults += map(_again, error.errors(include_url=False))
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        made.model_fields_set.intersection_update(written)  # not what has its default
        return made

    def unsaid(self) -> dict[str, Any]:
        """Of the options that nobody set here: what held before there were such options."""
        options = self.options(vars(self)) or ()
        return {o.name: o.before for o in options if o.before is not None and o.name not in self.model_fields_set}

    @classmethod
    def _stranger(cls, name: str, value: object, line: object) -> InitErrorDetails | None:
        """What is wrong with a setting that the line lacks: nothing, if it is another line's default."""
        owners = {line: option for line, option in cls.owners() if option.name == name}
        if any(option.is_default(value) for option in owners.values()):  # specs of older releases say it
            return None
        if not owners:
            return InitErrorDetails(type="extra_forbidden", loc=(name,), input=value)
        said = {"owners": ", ".join(owners), "place": cls.table().place, "line": line}
        kind = PydanticCustomError(ELSEWHERE, "is for {owners}, and {place} is '{line}'. Remove it.", said)
        return InitErrorDetails(type=kind, loc=(name,), input=value)


def _again(entry: Any) -> InitErrorDetails:
    # Not every type of pydantic's own may be named when an error is raised: as a custom one all may.
    same = PydanticCustomError(entry["type"], entry["msg"], entry.get("ctx"))
    return InitErrorDetails(type=same, loc=entry["loc"], input=entry["input"])


@functools.lru_cache(maxsize=256)
def _strict(options: tuple[Option, ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {each.name: (each.kind, Field(each.default, description=each.doc)) for each in options}
    return create_model("Options", __config__=ConfigDict(extra="forbid", frozen=True), **fields)
