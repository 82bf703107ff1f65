"""The sections of a spec that are the service's own: search, resources, storage, and a bound on a metric."""

from __future__ import annotations

import math
import re
import shlex
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sweeper.spec import urls
from sweeper.spec.faults import Fault, Faults
from sweeper.spec.samplers import SAMPLERS
from trainables.methods import METHODS
from trainables.metrics import METRICS
from trainables.options import says
from trainables.table import Table

_BOUND = re.compile(r"^\s*(>=|<=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_STORES = ("s3", "gs", "abfs", "abfss")


class Part(BaseModel):
    """A section: frozen, and a key that it does not know is a slip."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def a_name_of(table: Table[Any]) -> AfterValidator:
    """The field is a name of `table`."""

    def check(name: str) -> str:
        if name not in table:
            raise ValueError(table.hint(name))
        return name

    return AfterValidator(check)


def _amount(value: float) -> float:
    """Ray gives shares of one, or whole ones."""
    if not math.isfinite(value) or (value > 1 and value != int(value)):
        raise ValueError
    return value


def _store(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in _STORES or not parts.netloc:
        allowed = ", ".join(f"{scheme}://" for scheme in _STORES)
        raise ValueError(f"Use the URL of a folder in an object store ({allowed}), such as s3://bucket/sweeps")
    if "@" in parts.netloc and parts.scheme in ("s3", "gs"):
        raise ValueError("Keys do not belong in a spec: take them out, and use the node's own role or the environment")
    return value


def true_directions(objectives: dict[str, str]) -> dict[str, str]:
    """Refuse an objective that looks for the worse end of its metric.

    Raises:
        Faults: with one entry for each such objective.
    """
    wrong = [name for name, sense in objectives.items() if sense != METRICS[name].direction]
    if wrong:
        raise Faults(
            Fault(
                ("objectives", name),
                f"objectives.{name} is '{objectives[name]}', the worse end of this metric. "
                f"Use '{METRICS[name].direction}'.",
            )
            for name in wrong
        )
    return objectives


def _form(written: object) -> str:
    """Which of the two forms of a field was written."""
    return "[mapping]" if isinstance(written, dict) else "[list]"


def _either(written: object) -> object:
    if not isinstance(written, list | tuple | dict):
        raise ValueError("Use a list of methods such as [lora], or how many trials each has, such as {lora: 5}")
    return written


def _listed(baselines: tuple[str, ...] | dict[str, int]) -> tuple[str, ...] | dict[str, int]:
    """`{lora: 1}` is `[lora]`."""
    return tuple(baselines) if isinstance(baselines, dict) and set(baselines.values()) <= {1} else baselines


MetricName = Annotated[str, a_name_of(METRICS)]
MethodName = Annotated[str, a_name_of(METHODS)]
SamplerName = Annotated[str, a_name_of(SAMPLERS)]
Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Baselines = Annotated[
    Annotated[tuple[MethodName, ...], Tag("[list]")] | Annotated[dict[MethodName, Count], Tag("[mapping]")],
    Discriminator(_form),
    BeforeValidator(_either),
    AfterValidator(_listed),
]
Amount = Annotated[float, Field(strict=True, ge=0), AfterValidator(_amount)]
StudyUrl = Annotated[str, AfterValidator(urls.study_url)]
TrackingUrl = Annotated[str, AfterValidator(urls.tracking_url)]
Store = Annotated[str, AfterValidator(_store)]


class Bound(Part):
    """What a metric must keep to: `min <= value <= max`. In YAML also '>= 0.8' or '<= 0.2'."""

    min: Annotated[float | None, Field(strict=True, allow_inf_nan=False)] = None
    max: Annotated[float | None, Field(strict=True, allow_inf_nan=False)] = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, written: object) -> object:
        if isinstance(written, str) and (match := _BOUND.match(written)):
            return {"min" if match[1] == ">=" else "max": float(match[2])}
        if not isinstance(written, dict | Bound) or not written:
            raise ValueError("Use '>= 0.8', '<= 0.2' or {min: 0.8, max: 0.9}")
        return written

    @model_validator(mode="after")
    def _possible(self) -> Bound:
        if self.min is None and self.max is None:
            raise ValueError("Give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("No value is at least min and at most max: exchange them")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        mapping = {**handler.resolve_ref_schema(handler(core)), "minProperties": 1}
        text = {"type": "string", "pattern": _BOUND.pattern, "description": "'>= 0.8' or '<= 0.2'"}
        return {"anyOf": [text, mapping]}

    def violation(self, value: float) -> float:
        """How far `value` is outside, in the metric's unit: above 0 breaks the bound. nan breaks it without end."""
        if math.isnan(value):
            return math.inf
        below = -math.inf if self.min is None else self.min - value
        above = -math.inf if self.max is None else value - self.max
        return max(below, above)


class Resources(Part):
    """What one fit gets, and how many run at once."""

    gpus: Annotated[
        Literal["auto"] | Amount,
        says("Use 'auto', a share of one GPU such as 0.5, or a whole number"),
        Field(description="for each fit; a share below 1 lets fits share a GPU. auto: one where there is one"),
    ] = "auto"
    cpus: Annotated[
        Literal["auto"] | Annotated[Amount, Field(gt=0)],
        says("Use 'auto', a share of one CPU above 0 such as 0.5, or a whole number"),
        Field(description="for each fit. auto: 1"),
    ] = "auto"
    max_concurrent: Annotated[
        Literal["auto"] | Count,
        says("Use 'auto', or a whole number, 1 or more"),
        Field(description="fits that run at once. auto: as many as fit in"),
    ] = "auto"
    max_retries: Annotated[
        Natural, Field(description="of a fit whose process or machine died; one that was pre-empted does not count")
    ] = 3
    epoch_timeout_s: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        says("Use seconds, above 0, or null for no limit"),
        Field(description="an epoch that takes longer hangs: its fit has failed. Default: six hours; null: no limit"),
    ] = 21_600.0
    checkpoint_every_s: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        says("Use seconds, above 0, or null for the ends of epochs alone"),
        Field(description="of an epoch that is longer: what a kill may cost a fit. null: an epoch"),
    ] = 60.0
    threads: Annotated[
        Literal["auto"] | Count,
        says("Use 'auto', or a whole number, 1 or more"),
        Field(description="of each fit. auto: as many as its CPUs"),
    ] = "auto"
    prefix: Annotated[
        Literal["auto", "off"],
        says("Use 'auto', or 'off' to compute in every step what is frozen"),
        Field(description="auto: what frozen blocks give is computed once per machine, where that changes no number"),
    ] = "auto"
    pack: Annotated[
        Literal["off", "auto"] | Annotated[int, Field(strict=True, ge=2, le=64)],
        says("Use 'off', 'auto', or how many fits one actor trains at once, 2 to 64"),
        Field(
            description="fits that one actor trains at once; their last bits are not those of a fit by itself. "
            "auto: 2, 4 or 8, where measured steps are more than 1.1 times as fast"
        ),
    ] = "off"


class FromEnvironment(Part):
    """A value that is not in the spec, since it is a secret: the name of the environment variable that has it."""

    env: Annotated[str, Field(pattern=_VARIABLE.pattern)]


def _command(written: object) -> object:
    """A text is cut into words as a shell would, but no shell runs it."""
    return shlex.split(written) if isinstance(written, str) else written


def _webhook(written: object) -> object:
    """Refuse what is no URL and no name of a variable, and a URL that is a secret; no sentence shows what it was."""
    wrong = "is no URL and no variable's name. Use https://host/path without a secret in it, or {env: NAME}"
    if written is None or isinstance(written, FromEnvironment):
        return written
    if isinstance(written, dict) and set(written) == {"env"} and _VARIABLE.match(str(written["env"])):
        return written
    if isinstance(written, str) and urls.is_web(written):
        if (why := urls.secret_in(written)) is None:
            return written
        wrong = f"has {why}, and secrets do not belong in a spec. Put the URL into an environment variable, and write "
        wrong += "webhook: {env: ITS_NAME}"
    raise Faults([Fault(("notify", "webhook"), f"notify.webhook {wrong}.")])


Event = Literal["finished", "paused", "failed"]


class Notify(Part):
    """Who is told how a sweep ended. What goes wrong in telling is a note, and never harms the sweep."""

    command: Annotated[
        Annotated[tuple[str, ...], Field(min_length=1)] | None,
        BeforeValidator(_command, json_schema_input_type=str | list[str] | None),
        says("Use a program with its words, such as notify-send done, or a list of them; no shell runs it"),
        Field(description="a program that gets the facts as JSON on its standard input; no shell runs it"),
    ] = None
    webhook: Annotated[
        str | FromEnvironment | None,
        BeforeValidator(_webhook),
        Field(description="a URL to which the facts are posted as JSON; one that is a secret as {env: NAME}"),
    ] = None
    on: Annotated[
        tuple[Event, ...],
        says("Use a list of finished, paused and failed"),
        Field(min_length=1, description="at which ends"),
    ] = ("finished", "paused", "failed")
    timeout_s: Annotated[
        Annotated[float, Field(gt=0, le=300)],
        says("Use seconds, above 0 and at most 300"),
        Field(description="for the command, and for the webhook with its tries"),
    ] = 20.0

    @model_validator(mode="after")
    def _somebody(self) -> Notify:
        if self.command is None and self.webhook is None:
            raise ValueError("Give command, webhook or both")
        return self


class Storage(Part):
    """Where the sweep's folder, its memory and its record are."""

    root: Annotated[str, Field(min_length=1, description="the folder of all sweeps; each has one of its name")] = (
        "sweeps"
    )
    study: Annotated[StudyUrl | None, Field(description="database URL of the study. Default: SQLite in the folder")] = (
        None
    )
    mlflow: Annotated[TrackingUrl | None, Field(description="MLflow tracking URI. Default: SQLite under root")] = None
    fits: Annotated[
        Store | None,
        Field(description="URL of an object store for checkpoints, weights and results, where nodes share no disk"),
    ] = None
    keep_weights: Annotated[
        Literal["all", "front"], Field(description="whose adapters are kept when the sweep ends")
    ] = "front"
