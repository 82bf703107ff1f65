"""`sweep.yaml` -> SweepSpec: the question as written, frozen; every slip of a file told at once.

`parse` says of each slip the line, what was given, what is allowed and how to mend it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from sweeper import source as yaml
from sweeper.contradictions import contradictions
from sweeper.errors import Fault, Faults, UserError, slips
from sweeper.sections import Bound, MetricName, Part, Resources, Search, Storage, says, true_directions
from sweeper.space import Space
from trainables.task import BackboneConfig, DataConfig, GroupKind, Task, TrainConfig

__all__ = [
    "Bound",
    "Resources",
    "Search",
    "Storage",
    "SweepSpec",
    "changed",
    "completed",
    "difference",
    "dump",
    "load",
    "parse",
    "schema",
]

END = "\n..."  # of what `dump` writes
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_NAME_RULE = "Use 1 to 63 of a-z, 0-9, '.', '_', '-', the first a letter or a digit."
_OBJECTIVES: dict[str, Literal["min", "max"]] = {"accuracy": "max", "delta_f1": "min"}


class SweepSpec(Part):
    """One question: which settings of a fine-tuning give the best of all objectives at once?"""

    name: Annotated[
        str,
        Field(pattern=NAME, description="the sweep's name, unique in its storage"),
        says(_NAME_RULE),
    ]
    data: Annotated[DataConfig, Field(description="the dataset, and what happens to bad records")] = DataConfig()
    backbone: Annotated[BackboneConfig, Field(description="the pre-trained model that is adapted")] = BackboneConfig()
    groups: Annotated[
        GroupKind, Field(description="whose losses the penalty compares: classes, attribute values, or cells of both")
    ] = "class"
    space: Annotated[
        Space,
        PlainValidator(Space.parse),
        PlainSerializer(Space.plain),
        WithJsonSchema({}),
        Field(description="parameters: a value is fixed, a list is a choice, {low, high, log} is a range"),
    ] = Space()
    objectives: Annotated[
        dict[MetricName, Literal["min", "max"]],
        Field(min_length=1, max_length=4, description="metrics of the validation split, and which way is better"),
        AfterValidator(true_directions),
    ] = _OBJECTIVES
    constraints: Annotated[
        dict[MetricName, Bound],
        Field(default_factory=dict, description="what a member of the front must keep, e.g. accuracy: '>= 0.8'"),
    ]
    search: Annotated[Search, Field(description="who proposes, how many trials, how many seeds")] = Search()
    train: Annotated[TrainConfig, Field(description="how every fit is trained")] = TrainConfig()
    resources: Annotated[Resources, Field(description="what one fit gets")] = Resources()
    storage: Annotated[Storage, Field(description="where the sweep's folder, memory and record are")] = Storage()

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> SweepSpec:
        faults = contradictions(self, skip=(info.context or {}).get("skip", ()))
        if faults:
            raise Faults(faults)
        return self

    def task(self) -> Task:
        """What all fits of the sweep share."""
        return Task(data=self.data, backbone=self.backbone, groups=self.groups, train=self.train)

    @property
    def reference(self) -> dict[str, float]:
        """The hypervolume's reference point: `search.reference`, else 0 where more is better, 1 where less is.

        Those are the worst values of metrics that are shares. A point whose unbounded metric (a loss) is
        above 1 adds nothing to the hypervolume, unless the spec gives a reference.
        """
        worst = {name: 0.0 if sense == "max" else 1.0 for name, sense in self.objectives.items()}
        return {name: (self.search.reference or {}).get(name, value) for name, value in worst.items()}

    @property
    def budget(self) -> int:
        """How many trials the sweep may have, baselines included; of a grid at most all its points."""
        size = self.space.size() if self.search.sampler == "grid" else None
        return self.search.trials if size is None else min(self.search.trials, size + len(self.search.baselines))

    def identity(self) -> dict[str, Any]:
        """What makes trials comparable, as plain JSON: all but resources, storage, budget, stop rule and reference."""
        values = self.model_dump(mode="json", exclude={"name", "resources", "storage"})
        values["objectives"] = [f"{name}: {sense}" for name, sense in self.objectives.items()]  # their order counts
        for free in ("trials", "max_failures", "max_failed_share", "reference", "stopping"):
            del values["search"][free]
        del values["data"]["root"]  # the split's hash says whether it is the same data, wherever it lies
        return values


def completed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity that an older release wrote, with what that did not know yet at its default: as it was then."""
    default = SweepSpec.model_validate({"name": "unnamed"}).identity()
    fixed = ("data", "backbone", "search", "train")
    return {**default, **identity} | {part: {**default[part], **identity[part]} for part in fixed}


def difference(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> list[str]:
    """In what two identities differ, one line each: `space.rank: was 8, is now [8, 16]`."""
    lines = []
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            lines += difference(was, now, f"{place}{key}.")
        elif was != now:
            lines.append(f"{place}{key}: was {was}, is now {now}")
    return lines


def load(path: str | FilePath) -> SweepSpec:
    """The spec in a file.

    Raises:
        UserError: there is no such file, or it is not text.
        Faults: every slip in it.
    """
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Give the path of a sweep.yaml.") from None
    return parse(text, str(path))


def parse(text: str, source: str = "sweep.yaml") -> SweepSpec:
    """The spec in a text; `source` is how messages call it.

    Raises:
        Faults: every slip in it, with its line.
    """
    document = yaml.read(text, source)
    # An empty section (all its lines commented out) is one that was left out.
    values = {key: value for key, value in document.values.items() if value is not None or key == "name"}
    spec, found = _build(values)
    faults = [*document.faults, *found]
    if spec is None or faults:
        raise Faults([fault.at(fault.line or document.line(fault.path)) for fault in faults], source)
    return spec


def _build(values: Mapping[str, Any]) -> tuple[SweepSpec | None, list[Fault]]:
    try:
        return SweepSpec.model_validate(values), []
    except ValidationError as error:
        found = slips(error, SweepSpec)
        return None, found + _behind(values, found)


def _behind(values: Mapping[str, Any], found: list[Fault]) -> list[Fault]:
    """Contradictions between the sections that are good in themselves: pydantic stops before it sees them."""
    bad = {str(fault.path[0]) for fault in found}
    good = {key: value for key, value in values.items() if key not in bad}
    try:
        SweepSpec.model_validate({"name": "unnamed", **good}, context={"skip": bad})
    except ValidationError as error:
        return slips(error, SweepSpec)
    return []


def changed(spec: SweepSpec, changes: Mapping[str, Any]) -> SweepSpec:
    """The same question but for `changes`, by dotted key: `{"search.trials": 64}`.

    Raises:
        Faults: every slip in what comes of it.
    """
    values = spec.model_dump(mode="json")
    for place, value in changes.items():
        *sections, key = place.split(".")
        part = values
        for section in sections:
            part = part.setdefault(section, {})
        part[key] = value
    result, faults = _build(values)
    if result is None:
        raise Faults(faults)
    return result


def dump(spec: SweepSpec) -> str:
    """YAML that `parse` gives back as `spec`, written out in full: a later release's defaults change nothing in it."""
    return yaml.write(spec.model_dump(mode="json"))


def schema() -> dict[str, Any]:
    """The JSON Schema of `sweep.yaml`, for editors: shorthand, names and defaults included."""
    from sweeper.schema import build  # loads every table

    return build(SweepSpec)
