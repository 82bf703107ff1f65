"""YAML text -> plain values, with the line of every key. Reads the core schema of YAML 1.2, as editors do.

So `1e-3` is a number, `no` and `2024-01-01` are text. Nothing in a file can make code run or grow
without bound: no tags, no aliases, no file above a megabyte.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from sweeper.spec.faults import Fault, Faults, KeyPath, dotted

LIMIT_BYTES = 1_000_000
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf", ".Inf", ".INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


@dataclass
class YamlMapping:
    """A mapping read from YAML: the values, the line of each key and item, and the slips met on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: KeyPath) -> int | None:
        """The line of `path`, else that of the nearest key above it."""
        heads = (path[:end] for end in range(len(path), 0, -1))
        return next((self.lines[head] for head in heads if head in self.lines), None)


class _Loader(yaml.SafeLoader):
    """Composes nodes only; plain words are told apart by `_plain`, not by YAML 1.1's rules."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own interface

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)


def read(text: str, source: str, *, kind: str = "a sweep", begin: str = "name: my-sweep") -> YamlMapping:
    """The mapping that `text` holds. What should be `kind`, and is no mapping, is told how to `begin`.

    Raises:
        Faults: the text is not YAML, or not one mapping. Slips that leave it readable (a key given
            twice, a tag) are in `YamlMapping.faults` instead.
    """
    if len(text) > LIMIT_BYTES:
        raise Faults([Fault((), f"the file is above {LIMIT_BYTES:,} bytes. This is not {kind}.")], source)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise Faults([_broken(error)], source) from None
    except (yaml.YAMLError, RecursionError) as error:
        said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise Faults([Fault((), f"this is not readable as YAML: {said}.")], source) from None
    if not isinstance(root, yaml.MappingNode):
        raise Faults([Fault((), f"{kind} is a mapping of `key: value` lines. Start with `{begin}`.", 1)], source)
    document = YamlMapping()
    document.values = _value(root, (), document)
    return document


def _broken(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "unknown"
    hint = " Indent with spaces, not tabs." if "'\\t'" in problem else ""
    return Fault((), f"this is not readable as YAML: {problem}.{hint}", mark.line + 1 if mark else None)


def _value(node: yaml.Node, path: KeyPath, document: YamlMapping) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, key, document) for key, item in _items(node, path, document)]
    if node.tag not in (f"{_TAG}str", "!"):
        text = f"{dotted(path)} has the tag {node.tag.removeprefix(_TAG)}. Tags are not allowed: remove it."
        document.faults.append(Fault(path, text, node.start_mark.line + 1))
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return plain_value(node.value) if plain else node.value


def _mapping(node: yaml.MappingNode, path: KeyPath, document: YamlMapping) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, item in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.faults.append(Fault(path, "a key must be one word, not a list or a mapping.", line))
            continue
        here = (*path, key_node.value)
        if key_node.value in values:
            text = f"{dotted(here)} is given twice (first on line {document.lines[here]}). Keep one."
            document.faults.append(Fault(here, text, line))
            continue
        document.lines[here] = line
        values[key_node.value] = _value(item, here, document)
    return values


def _items(node: yaml.SequenceNode, path: KeyPath, document: YamlMapping) -> Iterator[tuple[KeyPath, yaml.Node]]:
    for index, item in enumerate(node.value):
        document.lines[(*path, index)] = item.start_mark.line + 1
        yield (*path, index), item


def plain_value(word: str) -> Any:
    """A word without quotes as YAML 1.2 reads it.

    >>> [plain_value(word) for word in ("8", "1e-3", "true", "no", "2*rank")]
    [8, 0.001, True, 'no', '2*rank']
    """
    if word in _WORDS:
        return _WORDS[word]
    if _INT.fullmatch(word):
        return int(word) if len(word.lstrip("+-")) < 40 else float(word)
    return float(word) if _FLOAT.fullmatch(word) else word


class _Dumper(yaml.SafeDumper):
    """Quotes each text that `plain_value` would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = isinstance(plain_value(text), str) and text.isprintable()
    style = None if plain else "'" if text.isprintable() else '"'  # double quotes can escape
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _text)


def write(values: dict[str, Any]) -> str:
    """YAML text that `read` gives back as `values`. It ends with '...', so that one that was cut off is noticed."""
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return f"{text}...\n"
