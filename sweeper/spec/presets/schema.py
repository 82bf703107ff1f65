"""JSON Schema of a spec, as editors use it: the shorthand of the space, the tables' names, docs and defaults."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from sweeper.spec.samplers import SAMPLERS
from sweeper.spec.search import Search
from trainables.backbones import BACKBONES, BackboneConfig
from trainables.data import DATASETS, DataConfig
from trainables.methods import METHODS
from trainables.metrics import METRICS
from trainables.options import Chosen, Option, Param
from trainables.params import PARAMS, exists
from trainables.table import Table

Schema = dict[str, Any]


class _Plain(GenerateJsonSchema):
    """Without the titles that repeat each key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def build(model: type[BaseModel]) -> Schema:
    """The schema of `model`, completed from the tables."""
    schema = model.model_json_schema(schema_generator=_Plain)
    sections, parts = schema["properties"], schema["$defs"]
    sections["space"] = {"description": sections["space"]["description"], **_space()}
    for key in ("objectives", "constraints"):
        sections[key] = _by_metric(sections[key])
    reference = parts["Search"]["properties"]["reference"]
    reference["anyOf"] = [_by_metric(kind) if kind.get("type") == "object" else kind for kind in reference["anyOf"]]
    parts["Search"]["properties"]["sampler"]["enum"] = list(SAMPLERS)
    methods: Schema = {"enum": list(METHODS)}
    for form in parts["Search"]["properties"]["baselines"]["oneOf"]:
        form |= {"items": methods} if form["type"] == "array" else {"propertyNames": methods}
    _names(parts["DataConfig"], DATASETS)
    _names(parts["BackboneConfig"], BACKBONES)
    for section in (DataConfig, BackboneConfig, Search):
        _own(parts[section.__name__], section)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "sweep.yaml"}


def _names(part: Schema, table: Table[Any]) -> None:
    listed: Schema = {"enum": sorted(table)}
    patterns = [{"pattern": f"^{family}:.+"} for family in sorted(table.families)]
    part["properties"]["name"].update({"anyOf": [listed, *patterns]} if patterns else listed)


def _own(part: Schema, section: type[Chosen]) -> None:
    """Beside what all lines have, the options of each."""
    owners: dict[Option, list[str]] = {}
    for name, option in section.owners():
        owners.setdefault(option, []).append(name)
    for option, names in owners.items():
        value = option.adapter.json_schema(schema_generator=_Plain)
        if not callable(option.default):
            value["default"] = option.adapter.dump_python(option.default, mode="json")
        part["properties"][option.name] = value | {"description": f"{', '.join(names)}: {option.doc}"}
    part["additionalProperties"] = False


def _by_metric(section: Schema) -> Schema:
    """Each metric as a property, so that editors complete it and show what it is."""
    value = section.pop("additionalProperties")
    names = {name: {"description": f"{metric.doc} ({metric.direction})"} for name, metric in METRICS.sound.items()}
    properties = {name: {**names[name], **_directed(value, METRICS[name].direction)} for name in names}
    of_one = {name: metric.direction for name, metric in METRICS.sound.items() if metric.of_one}
    sides: Schema = {
        f"^({'|'.join(name for name in of_one if of_one[name] == direction)})/.+": {
            "description": f"of one of several attributes, or of an overlapping group ({direction})"
        }
        | _directed(value, direction)
        for direction in sorted(set(of_one.values()))
    }
    return {**section, "properties": properties, "patternProperties": sides, "additionalProperties": False}


def _directed(value: Schema, direction: str) -> Schema:
    return {"const": direction} if "enum" in value else value


def _space() -> Schema:
    properties = {name: _parameter(name, param) for name, param in PARAMS.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _parameter(name: str, param: Param) -> Schema:
    value = _value(name, param)
    values = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    listed = {"type": "object", "properties": {"values": values}, "required": ["values"], "additionalProperties": False}
    unit = f" [{param.unit}]" if param.unit else ""
    default = _usual(param) if param.searched else "none" if param.default is None else f"{param.default}"
    forms = [value, values, listed, *_ranges(name, value)]
    by_method = {
        "type": "object",
        "description": "a dimension for each method",
        "properties": {method: {"anyOf": forms} for method in METHODS.sound if exists(name, method)},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {
        "description": f"{param.doc}{unit}; {param.source}. Default: {default}.",
        "anyOf": forms if name == "method" else [*forms, by_method],
    }


def _usual(param: Param) -> str:
    return f"searched from {param.low:g} to {param.high:g}" + " on a log axis" * param.log


def _value(name: str, param: Param) -> Schema:
    found = param.adapter.json_schema(schema_generator=_Plain)
    kept = {key: rule for key, rule in found.items() if key not in ("default", "description")}
    if name == "method":
        return {"enum": list(METHODS)}
    if name == "alpha":
        return {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?( *\* *rank)?$"}]
        }
    if kept.get("type") == "string" and "enum" not in kept:  # any text, but these are offered
        return {"anyOf": [{"enum": list(param.choices)}, {"type": "string"}]}
    return kept


def _ranges(name: str, value: Schema) -> list[Schema]:
    if isinstance(PARAMS[name].default, str):
        return [{"type": "object", "maxProperties": 0}]
    param = PARAMS[name]
    properties = {
        "low": {**value, "description": "included"} | ({} if param.low is None else {"default": param.low}),
        "high": {**value, "description": "included"} | ({} if param.high is None else {"default": param.high}),
        "log": {"type": "boolean", "default": param.log},
        "points": {"type": "integer", "minimum": 2, "description": "values of a grid, evenly spaced"},
    }
    return [{"type": "object", "properties": properties, "additionalProperties": False}]
