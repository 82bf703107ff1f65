"""`sweep.yaml` to SweepSpec and back; every slip of a file is told at once.

`parse` says of each slip the line, what was given, what is allowed and how to mend it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.spec import yaml_text as yaml
from sweeper.spec.faults import Fault, Faults, slips
from sweeper.spec.model import SweepSpec, comparable
from sweeper.spec.sections import Part

END = "\n..."  # of what `dump` writes
CHOSEN = ("data", "backbone", "search")  # sections that have their line's own options
OLDER = {"metrics": {"min_group": 1, "ece_bins": 15}}  # how releases measured whose specs do not say it


def completed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity that an older release wrote, with what that did not know yet as it was then."""
    default = SweepSpec.model_validate({"name": "unnamed"}).identity()
    whole = {**default, **OLDER, **identity} | {"train": {**default["train"], **identity["train"]}}
    # Each of these three has its line's own options: older releases wrote those of all lines, or did not know some.
    sections = {part: whole[part] for part in CHOSEN}
    for _ in range(2):  # what nobody said is known once the rest is read
        spec = SweepSpec.model_validate({"name": "unnamed", **sections}, context={"skip": sections})
        sections = {part: section | getattr(spec, part).unsaid() for part, section in sections.items()}
    return whole | comparable(spec)


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


def load(path: str | Path) -> SweepSpec:
    """The spec in a file.

    Raises:
        UserError: there is no such file, or it is not text.
        Faults: every slip in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Give the path of a sweep.yaml.") from None
    return parse(text, str(path))


def load_kept(path: Path) -> SweepSpec:
    """The spec in a sweep's folder, also one that an older release wrote.

    Raises:
        UserError: as `load` does.
    """
    spec = load(path)
    # Fits of one sweep see the same pixels and are measured alike: not turned, without a least group, if it began so.
    older: dict[str, Any] = {} if "metrics" in spec.model_fields_set else dict(OLDER)
    for part in CHOSEN:
        older |= {f"{part}.{name}": value for name, value in getattr(spec, part).unsaid().items()}
    return changed(spec, older) if older else spec


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


def short(spec: SweepSpec) -> str:
    """YAML that `parse` gives back as `spec` in this release, without what nobody said: for people, to edit."""
    values = spec.model_dump(mode="json")
    chosen = {part: {getattr(spec, part).key: values[part][getattr(spec, part).key]} for part in CHOSEN}
    usual = SweepSpec.model_validate({"name": spec.name, **chosen}, context={"skip": chosen})
    plain, said = usual.model_dump(mode="json"), {}
    for key, value in values.items():
        if key in chosen or isinstance(getattr(spec, key), Part):
            value = {name: part for name, part in value.items() if part != (plain[key] or {}).get(name, ...)}
        value = {**chosen.get(key, {}), **value} if isinstance(value, Mapping) else value
        if value and value != plain[key]:
            said[key] = value
    said = {"name": spec.name} | said
    found, faults = _build(said)
    return yaml.write(said if found == spec and not faults else values).removesuffix("...\n")


def schema() -> dict[str, Any]:
    """The JSON Schema of `sweep.yaml`, for editors: shorthand, names and defaults included."""
    from sweeper.spec.presets.schema import build  # loads every table

    return build(SweepSpec)
