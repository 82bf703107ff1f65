"""The sections of a spec that are the service's own: search, resources, storage, and a bound on a metric."""

from __future__ import annotations

import math
import re
import shlex
from typing import Annotated, Any, ClassVar, Literal
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
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sweeper.spec import urls
from sweeper.spec.faults import Fault, Faults
from sweeper.spec.samplers import SAMPLERS, Sampler
from trainables.methods import METHODS
from trainables.metrics import METRICS
from trainables.options import Chosen
from trainables.table import Table

_BOUND = re.compile(r"^\s*(>=|<=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
MOST_SEEDS = 1000
_STORES = ("s3", "gs", "abfs", "abfss")


class Part(BaseModel):
    """A section: frozen, and a key that it does not know is a slip."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def says(mending: str) -> WrapValidator:
    """One sentence for whatever is wrong with a field, in place of pydantic's one per member of a union."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(mending) from None

    return WrapValidator(check)


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


def _unless_off(written: object) -> object:
    """No rule stands as None in a spec."""
    return None if isinstance(written, str) and written == "off" else written


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


class Stopping(Part):
    """Successive halving: fits that fall behind are not trained to their end."""

    first: Annotated[Count, Field(description="epochs after which a fit is compared with others for the first time")]
    factor: Annotated[
        Annotated[int, Field(strict=True, ge=2)],
        Field(description="one of so many goes on; the next comparison comes after so many times the epochs"),
    ] = 3


class Racing(Part):
    """Seeds where they decide: every trial starts with few, and those that may be on the front get more."""

    start: Annotated[Count, Field(description="seeds that every trial starts with")] = 1
    most: Annotated[
        Annotated[int, Field(strict=True, ge=2, le=MOST_SEEDS)],
        Field(description="seeds that a trial may get, while it is not decided whether it is on the front"),
    ] = 5

    @model_validator(mode="after")
    def _more(self) -> Racing:
        if self.most <= self.start:
            raise ValueError("most is to be above start: else write a plain number of seeds")
        return self


class Budget(Part):
    """What a sweep may cost, beside its number of trials."""

    fits: Annotated[Count, Field(description="trainings of one configuration with one seed")]


class Search(Chosen):
    """Who proposes points, how many, and how often each is trained; and the sampler's own options."""

    sampler: Annotated[SamplerName, Field(description="who proposes the next point")] = "tpe"
    trials: Annotated[Count, Field(description="the budget: configurations to try, baselines included")] = 32
    budget: Annotated[
        Budget | None,
        says("Use {fits: 200}: a whole number, 1 or more"),
        Field(description="what the sweep may cost, e.g. {fits: 200}; trials, left out, are as many as fit in"),
    ] = None
    seeds: Annotated[
        Annotated[Count, Field(le=MOST_SEEDS)]
        | Annotated[tuple[Natural, ...], Field(min_length=1, max_length=MOST_SEEDS)]
        | Racing,
        says(
            "Use a number of seeds such as 3, a list such as [0, 1, 2], or {start: 1, most: 5} for a race, most above "
            f"start; {MOST_SEEDS:,} at most"
        ),
        Field(
            description="fits of each trial: how many (seeds 0, 1, ...), which seeds, or {start: 1, most: 5}: more "
            "for those that may be on the front"
        ),
    ] = 1
    seed: Annotated[Natural, Field(description="of the proposals: the same seed proposes the same points")] = 0
    baselines: Annotated[
        Baselines,
        Field(description="methods that are tried first, to compare with: [lora], or {lora: 5} for five trials of it"),
    ] = ()
    stopping: Annotated[
        Literal["gentle", "strong"] | Stopping | None,
        BeforeValidator(_unless_off, json_schema_input_type=Literal["off", "gentle", "strong"] | Stopping | None),
        says(
            "Use off, gentle, strong, or a mapping such as {first: 2, factor: 3}: whole numbers, first from 1 and "
            "factor from 2"
        ),
        Field(
            description="end fits early that others beat: off, gentle (the front hardly ever loses a member), strong, "
            "or successive halving. Default: every fit is trained to its end"
        ),
    ] = None
    max_failures: Annotated[Count, Field(description="the sweep stops after so many failed trials in a row")] = 5
    max_failed_share: Annotated[
        Annotated[float, Field(strict=True, gt=0, le=1)],
        says("Use a share above 0, at most 1, such as 0.5; 1 never stops the sweep"),
        Field(description="the sweep stops when a larger share of at least ten trials have failed"),
    ] = 0.5
    reference: Annotated[
        dict[MetricName, Annotated[float, Field(strict=True, allow_inf_nan=False)]] | None,
        Field(description="the hypervolume's reference point, by objective. Default: 0 for max, 1 for min"),
    ] = None

    key: ClassVar[str] = "sampler"

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_fit_in(cls, written: object) -> object:
        if not isinstance(written, dict) or "trials" in written or not isinstance(written.get("budget"), dict):
            return written
        fits = written["budget"].get("fits")
        return written | {"trials": fits} if isinstance(fits, int) and fits > 0 else written

    @classmethod
    def table(cls) -> Table[Sampler]:
        return SAMPLERS

    @property
    def baseline_list(self) -> tuple[str, ...]:
        """The baseline that each of the sweep's first trials is of."""
        counts = self.baselines if isinstance(self.baselines, dict) else dict.fromkeys(self.baselines, 1)
        return tuple(name for name, count in counts.items() for _ in range(count))

    def of_baseline(self, name: str) -> Search:
        """The search of a baseline's own trials: as this one, but for their number, and what follows from it."""
        own = {"sampler": self.sampler, "trials": self.baseline_list.count(name)}
        options = self.options(own) or ()
        own |= {option.name: option.default_for(own) for option in options if callable(option.default)}
        return self.model_copy(update={"baselines": ()} | own)

    @property
    def open_ended(self) -> bool:
        """Whether a sweep may be over before its trials are, or not yet when they are all proposed."""
        return self.racing is not None or self.budget is not None

    @property
    def racing(self) -> Racing | None:
        """How seeds are raced, if they are."""
        return self.seeds if isinstance(self.seeds, Racing) else None

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds that each trial starts with; the same for all, so that they are compared like with like."""
        if isinstance(self.seeds, Racing):
            return tuple(range(self.seeds.start))
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def most_seeds(self) -> tuple[int, ...]:
        """The seeds that a trial may get in the search."""
        return self.seed_list if self.racing is None else tuple(range(self.racing.most))

    @property
    def seeds_said(self) -> str:
        """How many seeds a trial has: `3`, or `1 to 5` in a race."""
        fewest, most = len(self.seed_list), len(self.most_seeds)
        return str(fewest) if fewest == most else f"{fewest} to {most}"

    def first_seeds(self, count: int) -> tuple[int, ...]:
        """The first `count` seeds of any trial: those of `seed_list`, then the numbers above them.

        So two trials with more seeds have the same ones, as far as both go.
        """
        listed = self.seed_list
        return (*listed, *range(max(listed) + 1, max(listed) + 1 + max(0, count - len(listed))))[:count]


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
