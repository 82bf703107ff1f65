"""From a slip in a file to a sentence: where, what was given, what is allowed, the mend.

A `Fault` is one slip at one place of a file; `Faults` carries all of them in one message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from sweeper.errors import UserError, nearest, unknown
from trainables.options import ELSEWHERE, Chosen

KeyPath = tuple[str | int, ...]
_SECRET = re.compile(r"://[^@\s]*@|(?<=[?&]password=)[^&\s'\"]+")

_WHOLE, _NUMBER, _MAPPING = "Use a whole number.", "Use a number.", "Use a mapping of `key: value` lines."
_MENDS = {
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": "Use a finite number.",
    "bool_parsing": "Use true or false.",
    "bool_type": "Use true or false.",
    "string_type": "Use text, if need be in quotes.",
    "path_type": "Use a path.",
    "greater_than": "Use more than {gt:g}.",
    "greater_than_equal": "Use {ge:g} or more.",
    "less_than": "Use less than {lt:g}.",
    "less_than_equal": "Use {le:g} or less.",
    "literal_error": "Use {expected}.",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "list_type": "Use a list.",
    "tuple_type": "Use a list.",
    "too_short": "Give {min_length} or more.",
    "too_long": "Give {max_length} or fewer.",
}


@dataclass(frozen=True)
class Fault:
    """One slip: the keys that lead to it, the sentence for its reader, and the line where known."""

    path: KeyPath
    text: str
    line: int | None = None

    def at(self, line: int | None) -> Fault:
        """The same slip, with its line."""
        return replace(self, line=line)


class Faults(UserError, ValueError):
    """Every slip of one file in one message, one per line.

    It is a ValueError too, so that pydantic gathers what one field raises with the slips of the others.
    """

    def __init__(self, faults: Iterable[Fault], source: str = "") -> None:
        self.faults = tuple(sorted(set(faults), key=lambda fault: (fault.line or 0, str(fault.path), fault.text)))
        self.source = source
        super().__init__("\n".join(self._place(fault) + fault.text for fault in self.faults))

    def __reduce__(self) -> tuple[type[Faults], tuple[tuple[Fault, ...], str]]:
        return type(self), (self.faults, self.source)

    def _place(self, fault: Fault) -> str:
        parts = [part for part in (self.source, str(fault.line or "")) if part]
        return ":".join(parts) + ": " if parts else ""


def dotted(path: KeyPath) -> str:
    """`("search", "seeds", 1)` as a person writes it: `search.seeds[1]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def given(value: object) -> str:
    """What was written, short enough for one line, and without the password of a URL."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = _SECRET.sub(lambda found: "://...@" if found[0].startswith("://") else "...", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def mend(error: Mapping[str, Any]) -> str:
    """The sentence that says what is allowed, for one entry of `ValidationError.errors()`."""
    context = error.get("ctx", {})
    template = _MENDS.get(error["type"])
    if template is None:
        text = str(context.get("error", error["msg"])).rstrip(".") + "."
        return text[:1].upper() + text[1:]
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        close = nearest(error["input"], context["expected"].replace("'", "").replace(" or ", ", ").split(", "))
        return f"Did you mean '{close}'? " * bool(close) + template.format(**context)
    return template.format(**context)


def slips(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Every entry of a ValidationError of `model` as a fault; what a field raised as `Faults` is unpacked."""
    found: list[Fault] = []
    for entry in error.errors(include_url=False):
        raised = entry.get("ctx", {}).get("error")
        if isinstance(raised, Faults):
            found += raised.faults
        else:
            path = _path(entry)
            found.append(Fault(path, _sentence(path, entry, model)))
    return found


def _path(entry: Mapping[str, Any]) -> KeyPath:
    """Where it is in the file. Of a field with two forms pydantic also says which was written."""
    path: KeyPath = entry["loc"][:-1] if _of_a_key(entry) else entry["loc"]
    return path[:2] + path[3:] if path[:2] == ("search", "baselines") else path


def _of_a_key(entry: Mapping[str, Any]) -> bool:
    """Whether it is the key of a mapping that is wrong. Pydantic marks it so; a key may really be called that, too."""
    return len(entry["loc"]) > 1 and entry["loc"][-1] == "[key]" and "error" in entry.get("ctx", {})


def _sentence(path: KeyPath, entry: Mapping[str, Any], model: type[BaseModel]) -> str:
    if entry["type"] == "extra_forbidden":
        return unknown(dotted(path), str(path[-1]), _fields(model, path[:-1]))
    if entry["type"] == ELSEWHERE:
        return f"{dotted(path)} {entry['msg']}"
    if entry["type"] == "missing":
        return f"{dotted(path)} is missing. Add a line `{path[-1]}: ...`."
    if _of_a_key(entry):
        return f"{dotted(path)} is unknown. {entry['ctx']['error']}"
    return f"{dotted(path)} is {given(entry['input'])}. {mend(entry)}"


def _fields(model: type[BaseModel], path: KeyPath) -> list[str]:
    for key in path:
        own = {option.name: option.kind for _, option in model.owners()} if issubclass(model, Chosen) else {}
        inner = model.model_fields[str(key)].annotation if str(key) in model.model_fields else own.get(str(key))
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return model.known() if issubclass(model, Chosen) else list(model.model_fields)
